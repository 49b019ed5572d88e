"""Erasure: what was taken down leaves the store altogether, and no later reading brings it back.

A deletion vector hides documents; their text stays in the tables that were made of them. To erase them, records say
which documents are to be read no more, and where in which raw inputs they lie; the recipe is built again, which makes
anew what held them and nothing else (only the tasks that read them have other keys); then everything that was made from
them is removed: artifacts, tasks, and the locks that named them. What is to be removed is written down before the first
file goes, so that a removal that was cut short is finished by the next command.
"""

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.build import Built
from headrace.pipeline.build_chain import builds_of
from headrace.pipeline.erasures import ERASED, FOLDER, Erasure, RawPlace, erased_places
from headrace.pipeline.lock import Lock, locks_of
from headrace.pipeline.schema import Commit, Manifest, NamedArtifact, Signed
from headrace.pipeline.stages.suppress import Suppress
from headrace.pipeline.store import COMMIT, MANIFEST, Store, put_if_absent, replace, writing
from headrace.pipeline.suppressions import What, in_force, normal_value, suppress
from headrace.pipeline.tables import read_batches, read_columns

log = logging.getLogger(__name__)

TABLES = ("documents", "records")
"""Of `read`: those that hold something of each record."""
HELD = "resembles a document that was taken down; held for review"


class Removal(Signed):
    """What is being removed (`erasures/removal.json`): paths below the store's root, in order."""

    kind: Literal["headrace.removal"] = "headrace.removal"
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Removed:
    """What was removed: how many files, how many bytes of them, and the recipes whose builds named some of it."""

    files: int
    bytes: int
    build_again: tuple[str, ...]


def record_erasures(store: Store, names: Iterable[tuple[What, str]]) -> list[str]:
    """Write down which documents are to be read no more; return their ids, sorted.

    Args:
        store: where they are.
        names: what they are named by, as suppressions name them.
    """
    entries = tuple({"what": what, "value": normal_value(what, value), "reason": ""} for what, value in names)
    places = {(content, *place) for content, known in erased_places(store).items() for place in known}
    found: dict[str, set[tuple[str, int]]] = {}
    for commit in _commits(store, "read"):
        for row in _rows(store, commit, Suppress(entries=entries)):
            found.setdefault(row["doc_id"], set()).update(_places(commit, row["origin"]))
    new = {
        doc_id: tuple(RawPlace(content=content, offset=at) for content, at in sorted(mine))
        for doc_id, mine in sorted(found.items())
        if not {(content, at, doc_id) for content, at in mine} <= places
    }
    if new:
        record = Erasure(documents=new)
        path = store.root / FOLDER / f"{record.name}.json"
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            put_if_absent(path, record.render())
    return sorted(found)


def _commits(store: Store, stage: str = "*") -> Iterator[Commit]:
    """Yield the commits of a store's tasks; with a `stage`, of that stage's."""
    yield from map(Commit.load, sorted(store.root.glob(f"tasks/{stage}/*/*/{COMMIT}")))


def _rows(store: Store, commit: Commit, named: Suppress) -> Iterator[dict[str, Any]]:
    """Yield the rows of what a task of `read` wrote that are named."""
    for table in TABLES:
        path = store.task_folder(commit.task) / commit.files[table].name
        for batch in read_batches(path, ["doc_id", "url", "origin"]):
            yield from (row for row in batch.to_pylist() if row["doc_id"] and named.entry_for(row) is not None)


def _places(commit: Commit, origin: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the raw inputs that a row may be from: the one at its URI, or all of its task."""
    inputs = commit.task.inputs
    mine = [item for item in inputs if Path(item.path).as_uri() == origin["uri"]] or inputs
    yield from ((item.content, int(origin["offset"])) for item in mine)


def hold_for_review(store: Store, doc_ids: Iterable[str], date: str) -> None:
    """Keep documents out of later builds, which no longer know what they resemble; to be withdrawn after review."""
    known = {one.value for one in in_force(store) if one.what == "doc_id"}
    for doc_id in doc_ids:
        if doc_id not in known:
            suppress(store, "doc_id", doc_id, HELD, date)


# ---------------------------------------------------------------------------------------------------------- removal


def remove_what_held(store: Store, doc_ids: Collection[str], built: Built) -> Removed:
    """Remove all that was made from documents, but what the newest build is made of; see the module."""
    manifests = {path.parent: Manifest.load(path) for path in store.manifests()}
    tasks = _tainted_tasks(store, set(doc_ids), manifests) - _kept(store, built.lock, manifests)
    artifacts = [folder for folder, one in manifests.items() if any(part.task in tasks for part in one.parts)]
    gone = {folder.name for folder in artifacts}
    others = {path: Lock.load(path) for path in locks_of(store) if path != built.lock_path}
    locks = {path: lock for path, lock in others.items() if gone & {step.key for step in lock.steps}}
    names = [path for path in sorted(store.root.glob("names/*/*.json")) if NamedArtifact.load(path).key in gone]
    _name_new_inputs(store, built, gone)
    folders = [path for path in sorted(store.root.glob("tasks/*/*/*")) if path.name in tasks]
    paths = tuple(store.relative(path) for path in (*names, *locks, *artifacts, *folders))
    if not paths:
        return Removed(0, 0, ())
    record = store.root / FOLDER / "removal.json"
    with writing(record):
        record.parent.mkdir(exist_ok=True)
        replace(record, Removal(paths=paths).render())
    files, num_bytes = finish_removal(store)
    return Removed(files, num_bytes, tuple(sorted({lock.recipe for lock in locks.values()})))


def finish_removal(store: Store) -> tuple[int, int]:
    """Finish a removal that was begun, if there is one; return how many files went, and how many bytes."""
    record = store.root / FOLDER / "removal.json"
    if not record.exists():
        return 0, 0
    paths = [store.root / one for one in Removal.load(record).paths]
    inodes: dict[int, int] = {}
    for path in paths:
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        inodes |= {(status := one.stat()).st_ino: status.st_size for one in files}
    with writing(store.root):
        for path in (one for one in paths if one.is_dir()):  # first what says that there is something
            (path / (COMMIT if path.is_relative_to(store.root / "tasks") else MANIFEST)).unlink(missing_ok=True)
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        record.unlink()
    return len(inodes), sum(inodes.values())


def _kept(store: Store, lock: Lock, manifests: Mapping[Path, Manifest]) -> set[str]:
    """Return the keys of the tasks that a build is made of."""
    steps = (manifests[store.artifact_folder(step.stage, step.key)] for step in lock.steps)
    return {part.task for manifest in steps for part in manifest.parts}


def _tainted_tasks(store: Store, doc_ids: set[str], manifests: Mapping[Path, Manifest]) -> set[str]:
    """Return the keys of the tasks that read documents, and of all that were made from what these wrote."""
    wanted = pa.array(sorted(doc_ids), pa.string())
    commits = {commit.key: commit for commit in _commits(store)}
    tainted = {key for key, one in commits.items() if one.task.stage == "read" and _holds_any(store, one, wanted)}
    makers = _makers(store, manifests)
    while True:
        more = {
            key
            for key, one in commits.items()
            if key not in tainted and any(makers.get(item.path) in tainted for item in one.task.inputs)
        }
        if not more:
            return tainted
        tainted |= more


def _makers(store: Store, manifests: Mapping[Path, Manifest]) -> dict[str, str]:
    """Return by path which task made a part of an artifact."""
    return {
        store.relative(folder / file.name): part.task
        for folder, manifest in manifests.items()
        for part in manifest.parts
        for file in part.files.values()
    }


def _holds_any(store: Store, commit: Commit, wanted: pa.Array) -> bool:
    """Tell whether a task of `read` wrote something of documents: more than that they are read no more."""
    folder = store.task_folder(commit.task)
    for table in TABLES:
        columns = ["doc_id", "reason"] if table == "records" else ["doc_id"]
        rows = read_columns(folder / commit.files[table].name, columns)
        rows = rows.filter(pc.is_in(rows.column("doc_id"), wanted))
        if table == "records":
            rows = rows.filter(pc.not_equal(rows.column("reason"), ERASED))
        if rows.num_rows:
            return True
    return False


def _name_new_inputs(store: Store, built: Built, gone: set[str]) -> None:
    """Let artifacts that stay, as they came out alike, name what the new build made them from."""
    last = built.lock.steps[-1]
    manifest = Manifest.load(store.artifact_folder(last.stage, last.key) / MANIFEST)
    (build,) = builds_of(manifest, store, built.lock_path)
    for step in build.chain:
        path = store.artifact_folder(step.stage, step.key) / MANIFEST
        if any(item.key in gone for item in Manifest.load(path).inputs):
            log.info("%s names other inputs now", path)
            replace(path, Manifest(**{**dict(step), "digest": ""}).render())
