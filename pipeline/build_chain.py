"""The steps of one build, up to an artifact, as its lock names them.

An artifact is named by the content of what it was made from, so builds of different recipes share those that came out
alike, and the inputs that a manifest names are those of the build that made it first. What an artifact *is* does not
depend on that; what a changed recipe would make of it does. So a question of that kind asks the lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.ancestry import ancestry, manifest_of
from headrace.pipeline.errors import StoreError
from headrace.pipeline.lock import Lock, LockedStep, locks_of
from headrace.pipeline.schema import Manifest, Upstream
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.views import RAW, signal_id

DECIDING_BY = ("rules", "threshold", "duplicates", "earlier")
"""Stages whose config says how documents are decided on."""


@dataclass(frozen=True)
class Way:
    """The way to an artifact that a person named: its manifest and where that lies, and the builds that made it."""

    path: Path
    store: Store
    manifest: Manifest
    builds: "list[NamedBuild]"

    @classmethod
    def to(cls, path: Path, lock: Path | None = None) -> "Way":
        """Find the way to an artifact, given by its manifest, its folder or one of its parts.

        Raises:
            InputError: the path is none of these.
            StoreError, IntegrityError: it lies in no store; see `builds_of`.
        """
        path = manifest_of(path)
        store, manifest = Store.containing(path), Manifest.load(path)
        return cls(path, store, manifest, builds_of(manifest, store, lock))

    @property
    def chain(self) -> list[Manifest]:
        """The steps of the newest of the builds, or where no lock names one all that the artifact was made from."""
        return self.builds[0].chain if self.builds else ancestry(self.manifest, self.store)


@dataclass(frozen=True)
class NamedBuild:
    """A build by its lock, and the steps of it up to some artifact, with labels and inputs of that build."""

    lock: Path
    recipe: str
    chain: list[Manifest]

    def decisions(self) -> list[Any]:
        """Return what its steps decide by: two builds can differ in it and yet make the same artifact."""
        return [(step.name, step.config) for step in self.chain if step.stage in DECIDING_BY]


def builds_of(manifest: Manifest, store: Store, lock: Path | None = None) -> list[NamedBuild]:
    """Return the builds that made an artifact and whose steps are all there, that of the newest lock first.

    With a `lock` only that one. None are there where no lock names the artifact.

    Raises:
        StoreError: locks name the artifact, or the one that was asked for does not, but of each build a step is gone.
        IntegrityError: the record of a step, or a lock, is damaged.
    """
    named = [(path, steps) for path in ([lock] if lock else locks_of(store)) if (steps := _steps_to(manifest, path))]
    if lock and not named:
        raise StoreError(f"{lock}: this lock does not name {manifest.name!r}, {manifest.key}; name one that does")
    builds = [
        NamedBuild(path, recipe, _chain(steps, store))
        for path, (recipe, steps) in named
        if all(store.find_manifest(step.stage, step.key) for step in steps)
    ]
    if named and not builds:
        gone = next(step for _, (_, steps) in named for step in steps if not store.find_manifest(step.stage, step.key))
        raise StoreError(
            f"the step {gone.label!r} of the build that {named[0][0]} names is gone from the store; build it again"
        )
    return builds


def _chain(steps: Sequence[LockedStep], store: Store) -> list[Manifest]:
    chain: list[Manifest] = []
    made: dict[str, Upstream] = {}
    for step in steps:
        loaded = Manifest.load(store.artifact_folder(step.stage, step.key) / MANIFEST)
        inputs = tuple(made.get(item.role, item) for item in loaded.inputs)
        chain.append(loaded.model_copy(update={"name": step.label, "inputs": inputs}))
        role = _role(loaded)
        made[role] = Upstream(role=role, stage=loaded.stage, key=loaded.key, content=loaded.content)
    return chain


def _steps_to(manifest: Manifest, path: Path) -> tuple[str, Sequence[LockedStep]] | None:
    """Return a lock's recipe and its steps up to the one that made an artifact, None where it does not name it."""
    if manifest.key.encode() not in path.read_bytes():  # much faster than to decode what names other things
        return None
    lock = Lock.load(path)
    ends = [n for n, step in enumerate(lock.steps, 1) if (step.stage, step.key) == (manifest.stage, manifest.key)]
    return (lock.recipe, lock.steps[: max(ends)]) if ends else None


def _role(manifest: Manifest) -> str:
    """Return the role in which later steps read what a step made."""
    match manifest.table:
        case "signals":
            name = manifest.config.get("alias") or manifest.config["signal"]
            return f"signals:{signal_id(name, manifest.config.get('view', RAW))}"
        case "findings":
            return f"findings:{manifest.stage}"
        case table:
            return table
