"""Lineage: what every task of a store was made from and made, by content, and in which tables documents stand.

A task's inputs are named by content, so whoever made the same content made the same input: what a task holds of a
document is asked of all that ever made what it read, wherever that lay. A task is *clean* of documents if each of its
inputs was made by a clean task, or is a raw file; one that reads raw files if its tables have no row of them. A raw
file that is, byte for byte, a file of the store (a classifier's texts can be a corpus) was made by whoever made that.
Of an input that nothing in the store made any more nothing is known: then the task's own tables are asked.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.dedup.indexed import mapped
from headrace.pipeline.doc_ids import id_words
from headrace.pipeline.erasures import ERASED
from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.schema import Commit, Manifest, StoredFile, TaskInput
from headrace.pipeline.store import COMMIT, MANIFEST, Store
from headrace.pipeline.tables import read_columns, read_schema

READ = "read"


@dataclass(frozen=True)
class Work:
    """A task as its commit tells, or a part of an artifact: what it was made from, and its files that are there.

    `files` are tables with paths; one that lies in two places as one file (links) is named once.
    """

    key: str
    stage: str
    inputs: tuple[TaskInput, ...]
    contents: frozenset[str]
    files: tuple[tuple[str, Path], ...] = ()


class Lineage:
    """All work that a store has: commits, and parts of artifacts whose commits are gone."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifests = {path.parent: Manifest.load(path) for path in store.manifests()}
        self.works: dict[str, Work] = {}
        self._named: set[Path] = set()
        self._stored: dict[str, set[tuple[str, str]]] = {}  # by sha256 of files: keys of work, and what they hold
        for folder, manifest in self.manifests.items():
            self._named.add(folder / MANIFEST)
            for part in manifest.parts:
                self._add(part.task, manifest.stage, part.inputs, part.files, folder)
        for path in sorted(store.root.glob(f"tasks/*/*/*/{COMMIT}")):
            commit = Commit.load(path)
            self._named.add(path)
            self._add(commit.key, commit.task.stage, commit.task.inputs, commit.files, path.parent)
        self._known = {
            content for one in self.works.values() for content in one.contents - set(self._upstream(one))
        }  # what a task only passed on is not known from it

    def _add(
        self, key: str, stage: str, inputs: tuple[TaskInput, ...], files: Mapping[str, StoredFile], folder: Path
    ) -> None:
        places = {name: folder / file.name for name, file in files.items()}
        self._named.update(places.values())
        for file in files.values():
            self._stored.setdefault(file.sha256, set()).add((key, file.content))
        there = [(name, path) for name, path in places.items() if path.exists()]
        known = self.works.get(key, Work(key, stage, inputs, frozenset()))
        contents = known.contents | {file.content for file in files.values()}
        new = [(name, path) for name, path in there if not any(path.samefile(one) for _, one in known.files)]
        self.works[key] = Work(key, stage, inputs, contents, (*known.files, *new))

    def _upstream(self, work: Work) -> Iterator[str]:
        """Yield the contents that other tasks made; raw files, with paths outside of the store, are named by sha256."""
        for item in work.inputs:
            if Path(item.path).is_absolute():
                yield from (content for key, content in self._stored.get(item.content, ()) if key != work.key)
            else:
                yield item.content

    def named_files(self) -> set[Path]:
        """Return the paths of all files that commits and manifests name, and their own."""
        return self._named

    def alike(self, content: str) -> list[tuple[Path, Manifest]]:
        """Return the artifacts of a content, with their folders, but those that only passed it on."""
        return self._alike.get(content, [])

    @cached_property
    def _alike(self) -> dict[str, list[tuple[Path, Manifest]]]:
        found: dict[str, list[tuple[Path, Manifest]]] = {}
        for folder, one in self.manifests.items():
            if one.content not in {item.content for item in one.inputs}:
                found.setdefault(one.content, []).append((folder, one))
        return found

    def roots(self) -> Iterator[Work]:
        """Yield the work of which its own tables alone can tell what it holds."""
        yield from (one for one in self.works.values() if self._is_root(one))

    def _is_root(self, work: Work) -> bool:
        return work.stage == READ or any(content not in self._known for content in self._upstream(work))

    def tainted(self, doc_ids: Collection[str], seen: Collection[str] = ()) -> set[str]:
        """Return the keys of all work that is not clean of documents; `seen` are known to hold some."""
        known = {one.key for one in self.roots() if one.key in seen or holds(one, doc_ids)} | set(seen)
        left = {key: one for key, one in self.works.items() if key not in known}
        made: set[str] = set()
        needed = {key: self._known.intersection(self._upstream(one)) for key, one in left.items()}
        while ready := [one for key, one in left.items() if needed[key] <= made]:
            for one in ready:
                made |= one.contents
                del left[one.key]
        return known | set(left)

    def holders(self, doc_ids: Collection[str], but: Collection[str]) -> dict[str, Path]:
        """Return the keys of work, `but` of some, that has rows of documents, each with such a table."""
        found = ((key, holds(one, doc_ids)) for key, one in self.works.items() if key not in but)
        return {key: path for key, path in found if path is not None}


def holds(work: Work, doc_ids: Collection[str]) -> Path | None:
    """Return a table of some work that has a row of one of these documents: more than that it is read no more."""
    wanted = pa.array(sorted(doc_ids), pa.string())
    return next((path for _, path in work.files if _holds_any(path, wanted)), None)


def _holds_any(path: Path, wanted: pa.Array) -> bool:
    if path.suffix == ".indexed":
        data = mapped(path)
        words = data[: len(data) // 16 * 16].view("<u8").reshape(-1, 2)  # the ids come first
        ids = id_words(wanted)
        alike = words[np.isin(words[:, 0], ids[:, 0])]
        return not {*map(tuple, ids.tolist())}.isdisjoint(map(tuple, alike.tolist()))
    if path.suffix != ".parquet":
        return False
    names = columns_of(path)
    if "doc_id" not in names:
        return False
    columns = [name for name in ("doc_id", "fate", "reason") if name in names]
    rows = read_columns(path, columns)
    rows = rows.filter(pc.is_in(rows.column("doc_id"), wanted))
    if "fate" in names:
        rows = rows.filter(pc.fill_null(pc.not_equal(rows.column("reason"), ERASED), True))
    return bool(rows.num_rows)


def columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns; raises IntegrityError where it cannot be read."""
    try:
        return list(read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path}: what it holds cannot be read ({error}); `headrace verify` tells more") from None
