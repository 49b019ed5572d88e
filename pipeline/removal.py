"""Removals: what is to go from a store is written down before the first file goes, and what went afterwards.

So a removal that was cut short is finished by whoever builds in the store next, and a command that is given again can
say what it did.
"""

import shutil
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator

from headrace.pipeline.erasures import FOLDER
from headrace.pipeline.schema import Count, Digest, Signed
from headrace.pipeline.store import COMMIT, MANIFEST, Store, put_if_absent, replace, writing

RECORD = "removal.json"
DONE = "removed-"


def _below(path: str) -> str:
    """Return a path that stays below the store's root: whoever builds there next removes what the record names."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("it must be a path below the store")
    return path


class Removed(Signed):
    """What a removal did (`erasures/removed-<16 hex>.json`).

    `named` is the digest of what was taken down, `corpora` are the paths of the manifests of corpora that went, `names`
    those of named artifacts, as `index old`; `build_again` are the recipes whose builds named some of what went.
    """

    kind: Literal["headrace.removed"] = "headrace.removed"
    named: Digest
    erased: tuple[str, ...]
    files: Count
    bytes: Count
    corpora: tuple[str, ...]
    names: tuple[str, ...]
    build_again: tuple[str, ...]


class Removal(Signed):
    """What is being removed (`erasures/removal.json`): paths below the store's root, in order, and what to tell then.

    `done` tells no files and bytes yet.
    """

    kind: Literal["headrace.removal"] = "headrace.removal"
    paths: tuple[Annotated[str, AfterValidator(_below)], ...]
    done: Removed


def begin_removal(store: Store, removal: Removal) -> Removed:
    """Write down what is to go, and remove it."""
    record = store.root / FOLDER / RECORD
    with writing(record):
        record.parent.mkdir(exist_ok=True)
        replace(record, removal.render())
    done = finish_removal(store)
    assert done is not None
    return done


def is_pending(store: Store) -> bool:
    """Tell whether a removal was begun and not finished."""
    return (store.root / FOLDER / RECORD).exists()


def finish_removal(store: Store) -> Removed | None:
    """Finish a removal that was begun; return what it did, None without one. Nobody may build in the store."""
    record = store.root / FOLDER / RECORD
    if not record.exists():
        return None
    removal = Removal.load(record)
    paths = [store.root / one for one in removal.paths]
    inodes: dict[int, int] = {}
    for path in paths:
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        inodes |= {(status := one.stat()).st_ino: status.st_size for one in files}
    told = {"files": len(inodes), "bytes": sum(inodes.values()), "digest": ""}
    done = Removed(**{**dict(removal.done), **told})
    with writing(store.root):
        for path in (one for one in paths if one.is_dir()):  # first what says that there is something
            (path / (COMMIT if path.is_relative_to(store.root / "tasks") else MANIFEST)).unlink(missing_ok=True)
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        put_if_absent(record.with_name(f"{DONE}{done.digest[:16]}.json"), done.render())
        record.unlink()
    return done


def removals(store: Store) -> Iterator[Removed]:
    """Yield what earlier removals did."""
    yield from map(Removed.load, sorted((store.root / FOLDER).glob(f"{DONE}*.json")))
