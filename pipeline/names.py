"""Names of artifacts: what a person calls one, and which one that is now; the last one that was given the name.

A name is for people and is in no key: whoever reads it takes the artifact that it stands for, by content.
"""

import re

from headrace.filters.rules import near_miss
from headrace.pipeline.errors import IntegrityError, RecipeError
from headrace.pipeline.schema import Manifest, NamedArtifact
from headrace.pipeline.store import Store, replace, writing

NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
SUFFIX = ".json"


def check_name(stage: str, name: str) -> None:
    """Raise `RecipeError` for what can be no name of an artifact of a stage."""
    if not NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} is no name of a {stage} (lower-case letters, digits, - and _, a letter first, 100 at most); a "
            "name counts in the store that is built in, and one that lies elsewhere is given by the path of its "
            "manifest, as `model`"
        )


def give_name(name: str, manifest: Manifest, store: Store) -> None:
    """Let a name stand for an artifact, whatever it stood for before."""
    path = store.name_folder(manifest.stage) / f"{name}{SUFFIX}"
    record = NamedArtifact(stage=manifest.stage, name=name, key=manifest.key, content=manifest.content)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, record.render())


def names_of(stage: str, store: Store) -> list[str]:
    """Return all names of artifacts of a stage, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in store.name_folder(stage).glob(f"[!.]*{SUFFIX}"))


def find_named(stage: str, name: str, store: Store) -> Manifest:
    """Return the artifact that a name stands for.

    Raises:
        RecipeError: nothing of that stage has the name in this store, or what had it is gone.
        IntegrityError: a record is damaged, or is not that of the name or of what lies there.
    """
    check_name(stage, name)
    known = names_of(stage, store)
    if name not in known:
        raise RecipeError(
            f"no {stage} is called {name!r} in the store {store.root}{near_miss(name, known)}; it has "
            f"{', '.join(known) or 'none'}. A name counts in the store that it was trained in: train it in this one "
            f"(headrace {stage} train --name {name} --store ...), or give the manifest of one elsewhere as `model`"
        )
    place = store.name_folder(stage) / f"{name}{SUFFIX}"
    record = NamedArtifact.load(place)
    path = store.find_manifest(stage, record.key)
    if path is None:
        raise RecipeError(f"the {stage} {name!r} is gone from the store {store.root}; train it again")
    manifest = Manifest.load(path)
    if (record.stage, record.name, record.content) != (stage, name, manifest.content):
        raise IntegrityError(
            f"{place}: says that {record.name!r} is the {record.stage} with content {record.content}, but it is asked "
            f"for {name!r}, and the {stage} of that key has content {manifest.content}; train it again"
        )
    return manifest
