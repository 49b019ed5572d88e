"""Erasure: what was taken down leaves the store altogether, and no later reading brings it back.

A deletion vector hides documents; their text stays in the tables that were made of them. To erase them, records say
which documents are to be read no more, and where in which raw inputs they lie; the recipe is built again, which makes
anew what held them and nothing else (only the tasks that read them have other keys); then everything that was made from
them is removed: artifacts, tasks, the names and locks that named them, and what killed builds left, of which nobody
knows what it holds. What stays was looked through for them, table by table (`pipeline.lineage`).
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.build import Built
from headrace.pipeline.errors import StoreError
from headrace.pipeline.extract import PAGE_KINDS, TEXT_KINDS
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.lineage import READ, Lineage, Work, columns_of
from headrace.pipeline.lock import Lock, locks_of
from headrace.pipeline.removal import Removal, Removed, begin_removal
from headrace.pipeline.schema import Manifest, NamedArtifact, Upstream
from headrace.pipeline.stages.suppress import Suppress
from headrace.pipeline.store import MANIFEST, Store, replace
from headrace.pipeline.suppressions import What, normal_value
from headrace.pipeline.tables import read_batches, read_columns

log = logging.getLogger(__name__)

Named = tuple[What, str]
Place = tuple[str, int]


@dataclass
class Found:
    """The documents of a store that are named, and where each lies: sha256 of raw inputs, and offsets there."""

    places: dict[str, set[Place]] = field(default_factory=dict)
    urls: set[str] = field(default_factory=set)

    @property
    def doc_ids(self) -> list[str]:
        """Their ids, sorted."""
        return sorted(self.places)


def digest_of_names(names: Iterable[Named]) -> str:
    """Return a digest of what is named, in whatever order."""
    return digest_json(sorted([what, normal_value(what, value)] for what, value in names))


def find_named(lineage: Lineage, names: Sequence[Named]) -> Found:
    """Return the documents of a store that are named, whether a corpus has them or not.

    Records that can be no documents and have the URL of one that is named (a request, say) are found with it. Another
    capture of its page is a document of its own, even where it became none (by a sample or an extractor).
    """
    found = Found()
    entries = tuple({"what": what, "value": normal_value(what, value), "reason": ""} for what, value in names)
    for work, row in _rows(lineage, entries):
        found.places.setdefault(row["doc_id"], set()).update(_places(work, row))
        found.urls |= {row["url"]} - {None}
    for doc_id, places in _beside(lineage, found.urls).items():
        found.places.setdefault(doc_id, set()).update(places)
    missed = {normal_value(what, value) for what, value in names if what == "doc_id"} - found.places.keys()
    if missed and lineage.holders(missed, but=()):  # in a table that is made from none that has it
        found.places |= {doc_id: set() for doc_id in missed if lineage.holders({doc_id}, but=())}
    return found


def _rows(lineage: Lineage, entries: tuple[dict[str, str], ...]) -> Iterator[tuple[Work, dict[str, Any]]]:
    """Yield the rows that are named, of all tables that tell id and URL and were not made from such."""
    stage = Suppress(entries=entries)
    ids = pa.array(sorted(one["value"] for one in entries), pa.string())
    only_ids = all(one["what"] == "doc_id" for one in entries)
    for work in lineage.roots():
        for _, path in work.files:
            names = columns_of(path) if path.suffix == ".parquet" else []
            if not {"doc_id", "url"} <= {*names}:
                continue
            columns = ["doc_id", "url", *(["origin"] if "origin" in names else [])]
            for batch in read_batches(path, columns):
                if only_ids:
                    batch = batch.filter(pc.is_in(batch.column("doc_id"), ids))
                yield from ((work, row) for row in batch.to_pylist() if row["doc_id"] and stage.entry_for(row))


def _beside(lineage: Lineage, urls: Collection[str]) -> dict[str, set[Place]]:
    """Return the records of pages that can be no documents, by id, with their places."""
    places: dict[str, set[Place]] = {}
    roots = [work for work in lineage.roots() if work.stage == READ] if urls else []
    for work in roots:
        for row in _records_of(work, urls):
            places.setdefault(row["doc_id"], set()).update(_places(work, row))
    wanted = pa.array(sorted(places), pa.string())
    for path in (path for work in roots for table, path in work.files if table == "documents" and places):
        ids = read_columns(path, ["doc_id"]).column("doc_id")
        for doc_id in ids.filter(pc.is_in(ids, wanted)).to_pylist():  # an extractor of a plugin takes their kind
            places.pop(doc_id, None)
    return places


def _records_of(work: Work, urls: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of records of pages whose kind none of our extractors takes."""
    wanted, taken = pa.array(sorted(urls), pa.string()), pa.array([*PAGE_KINDS, *TEXT_KINDS])
    for path in (path for table, path in work.files if table == "records"):
        for batch in read_batches(path, ["doc_id", "url", "kind", "origin"]):
            chosen = pc.and_not(pc.is_in(batch.column("url"), wanted), pc.is_in(batch.column("kind"), taken))
            yield from (row for row in batch.filter(chosen).to_pylist() if row["doc_id"])


def _places(work: Work, row: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the raw inputs that a row may be from: the one at its URI, or all of its task."""
    if work.stage == READ:
        mine = [item for item in work.inputs if Path(item.path).as_uri() == row["origin"]["uri"]] or work.inputs
        yield from ((item.content, int(row["origin"]["offset"])) for item in mine)


def names_of_tainted(lineage: Lineage, tainted: Collection[str]) -> dict[Path, NamedArtifact]:
    """Return the names of artifacts that are made from tainted work, by the paths of their records."""
    return _names_of(lineage, _gone(lineage, tainted))


def _names_of(lineage: Lineage, folders: Iterable[Path]) -> dict[Path, NamedArtifact]:
    keys = {lineage.manifests[folder].key for folder in folders}
    named = {path: NamedArtifact.load(path) for path in sorted(lineage.store.root.glob("names/*/[!.]*.json"))}
    return {path: one for path, one in named.items() if one.key in keys}


# ---------------------------------------------------------------------------------------------------------- removal


def remove_what_held(store: Store, doc_ids: Collection[str], built: Built, named: str) -> Removed:
    """Remove all that was made from documents, and what nothing names; see the module.

    Args:
        store: where; nobody else builds in it.
        doc_ids: the documents, which are read no more.
        built: the build that was made without them.
        named: the digest of what was taken down, to be told later.

    Raises:
        StoreError: the build holds some of them.
    """
    lineage = Lineage(store)
    tainted = lineage.tainted(doc_ids)
    while more := lineage.holders(doc_ids, but=tainted):
        log.warning("%s: holds what was taken down, though nothing that it was made from does", min(more.values()))
        tainted = lineage.tainted(doc_ids, seen=tainted | more.keys())
    gone = _gone(lineage, tainted)
    _refuse_own(lineage, built, gone)
    keys = {lineage.manifests[folder].key for folder in gone}
    others = {path: Lock.load(path) for path in locks_of(store) if path != built.lock_path}
    locks = {path: lock for path, lock in others.items() if keys & {step.key for step in lock.steps}}
    names = _names_of(lineage, gone)
    _name_new_inputs(lineage, gone)
    folders = [path for path in sorted(store.root.glob("tasks/*/*/*")) if path.name in tainted]
    paths = [*names, *locks, *gone, *folders]
    paths += _strays(lineage, {*gone, *folders})
    corpora = [folder / MANIFEST for folder in gone if lineage.manifests[folder].table == "corpus"]
    done = Removed(
        named=named,
        erased=tuple(sorted(doc_ids)),
        files=0,
        bytes=0,
        corpora=tuple(store.relative(path) for path in corpora),
        names=tuple(f"{one.stage} {one.name}" for one in names.values()),
        build_again=tuple(sorted({lock.recipe for lock in locks.values()})),
    )
    if not paths:
        return done
    return begin_removal(store, Removal(paths=tuple(map(store.relative, paths)), done=done))


def _refuse_own(lineage: Lineage, built: Built, gone: Collection[Path]) -> None:
    """Raise `StoreError` if a build is made of what is to go."""
    for step in built.lock.steps:
        folder = lineage.store.artifact_folder(step.stage, step.key)
        if folder in gone:
            raise StoreError(
                f"{folder}: the step {step.label!r} of the new build is made from what was taken down, so nothing was "
                "removed; leave out what its recipe compares with or takes from the store, and give the same command "
                "again"
            )


def _gone(lineage: Lineage, tainted: Collection[str]) -> list[Path]:
    """Return the folders of artifacts that have tainted parts, or were made from such and from nothing alike."""
    gone = {folder for folder, one in lineage.manifests.items() if any(part.task in tainted for part in one.parts)}
    left = lineage.manifests.keys() - gone
    while more := {folder for folder in left if None in _moves(lineage, folder, gone).values()}:
        gone |= more
        left -= more
    return sorted(gone)


def _moves(lineage: Lineage, folder: Path, gone: Collection[Path]) -> dict[str, Manifest | None]:
    """Return by key, for what an artifact was made from and goes, an artifact alike that stays, or None."""
    manifest = lineage.manifests[folder]
    moves: dict[str, Manifest | None] = {}
    for item in manifest.inputs:
        if lineage.store.artifact_folder(item.stage, item.key) in gone:
            wanted = {one.content for part in manifest.parts for one in part.inputs if one.role == item.role}
            alike = [one for path, one in lineage.alike(item.content) if path not in gone and wanted <= _contents(one)]
            moves[item.key] = min(alike, key=lambda one: (one.stage != item.stage, one.key), default=None)
    return moves


def _contents(manifest: Manifest) -> set[str]:
    return {file.content for part in manifest.parts for file in part.files.values()}


def _name_new_inputs(lineage: Lineage, gone: Collection[Path]) -> None:
    """Let artifacts that stay, as they came out alike, name what they could as well have been made from."""
    for folder in sorted(lineage.manifests.keys() - {*gone}):
        moves, manifest = _moves(lineage, folder, gone), lineage.manifests[folder]
        if not moves:
            continue
        inputs = tuple(_moved(item, moves.get(item.key)) for item in manifest.inputs)
        log.info("%s names other inputs now", folder / MANIFEST)
        replace(folder / MANIFEST, Manifest(**{**dict(manifest), "inputs": inputs, "digest": ""}).render())


def _moved(item: Upstream, alike: Manifest | None) -> Upstream:
    return item if alike is None else item.model_copy(update={"stage": alike.stage, "key": alike.key})


def _strays(lineage: Lineage, going: set[Path]) -> list[Path]:
    """Return the files among tasks and artifacts that nothing names: nobody knows what they hold."""
    root = lineage.store.root
    files = (path for kind in ("tasks", "artifacts") for path in (root / kind).rglob("*") if not path.is_dir())
    named = lineage.named_files()
    return sorted(path for path in files if path not in named and going.isdisjoint(path.parents))
