"""The largest clusters of duplicates that a build found, with their texts beside each other and what differs in them.

What was found is read from the findings of a step; of the texts only those that are shown are read. Differences are
those of words (Myers-like, by Python's `difflib`), over the first words of each text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.build_chain import Way
from headrace.pipeline.dedup.clusters import HELD
from headrace.pipeline.errors import InputError
from headrace.pipeline.rows import find_rows, read_row
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.duplicates import Duplicates
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns

MOST_WORDS = 1500
"""Of a text, that are compared."""

AROUND = 6
"""Words that are shown on either side of what differs."""

Kind = Literal["same", "survivor", "member", "left out"]


@dataclass(frozen=True)
class Piece:
    """A stretch of words: in both texts, in the survivor's or the member's alone, or not shown because both have it."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Member:
    """A document of a cluster that went for another one: why, how similar, and how its text differs from that one's."""

    doc_id: str
    url: str | None
    source: str
    reason: str
    evidence: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Cluster:
    """A cluster by its name: `survivor` is kept, or was taken down where its members are held for review."""

    cluster: str
    size: int
    survivor: str
    url: str | None
    text: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Clusters:
    """What one step found: how many clusters, of which sizes (as pairs of size and number), and the largest ones."""

    path: str
    step: str
    num_clusters: int
    num_removed: int
    num_held: int
    sizes: tuple[tuple[int, int], ...]
    largest: tuple[Cluster, ...]


def show_clusters(
    path: Path, num_clusters: int, num_members: int, step: str | None = None, *, held: bool = False
) -> Clusters:
    """Return the largest clusters on the way to an artifact.

    Args:
        path: A manifest, an artifact's folder or one of its parts.
        num_clusters: How many of the largest to return; of equal ones those with the smallest names.
        num_members: How many of each one's members, those that resemble their survivor least first.
        step: Which step, by its label, where there are several.
        held: Only clusters whose members are held for review.

    Raises:
        InputError: no step on the way to it looked for duplicates, or several did and none is named.
        StoreError, IntegrityError: see `Way.to`.
    """
    way = Way.to(path)
    path, store, chain = way.path, way.store, way.chain
    found = _chosen(path, [one for one in chain if one.stage == Duplicates.name], step)
    documents = next(one for one in chain if one.table == "documents")
    return _Report(found, documents, store).make(str(path), num_clusters, num_members, held)


def _chosen(path: Path, steps: Sequence[Manifest], name: str | None) -> Manifest:
    if not steps:
        raise InputError(f"{path}: no step on the way to it looked for duplicates; name a corpus of a recipe with one")
    labels = ", ".join(repr(step.name) for step in steps)
    if name is None and len(steps) > 1:
        raise InputError(f"{path}: several steps looked for duplicates, {labels}; say which with --step")
    chosen = [step for step in steps if name in (None, step.name)]
    if not chosen:
        raise InputError(f"{path}: no step that looked for duplicates is called {name!r}; there are {labels}")
    return chosen[0]


class _Report:
    """One step's findings, and the documents that they are about."""

    def __init__(self, found: Manifest, documents: Manifest, store: Store) -> None:
        self.step, self._documents, self._store = found.name, documents, store
        self._found = read_columns(store.part_path(found, 0))
        rows = [part.files["documents"].rows or 0 for part in documents.parts]
        self._starts = np.array([0, *accumulate(rows)])

    def make(self, path: str, num_clusters: int, num_members: int, held: bool) -> Clusters:
        reasons = self._found.column("reason")
        first = self._found.group_by("cluster", use_threads=False).aggregate(
            [("cluster_size", "max"), ("reason", "max")]
        )
        is_held = pc.fill_null(pc.equal(first.column("reason_max"), HELD), False)  # then nobody of it is kept
        values, counts = np.unique(first.column("cluster_size_max").to_numpy(), return_counts=True)
        shown = first.filter(is_held) if held else first
        order = pc.sort_indices(shown, [("cluster_size_max", "descending"), ("cluster", "ascending")])
        names = shown.column("cluster").take(order[:num_clusters]).to_pylist()
        return Clusters(
            path=path,
            step=self.step,
            num_clusters=first.num_rows,
            num_removed=len(reasons) - reasons.null_count,
            num_held=pc.sum(pc.equal(reasons, HELD)).as_py() or 0,
            sizes=tuple(zip(values.tolist(), counts.tolist(), strict=True)),
            largest=tuple(self._cluster(name, num_members) for name in names),
        )

    def _cluster(self, name: str, num_members: int) -> Cluster:
        rows = self._found.filter(pc.equal(self._found.column("cluster"), name))
        removed = rows.filter(pc.is_valid(rows.column("reason")))
        order = pc.sort_indices(removed, [("evidence", "ascending"), ("doc_id", "ascending")])
        members = removed.take(order[:num_members]).to_pylist()
        survivor = self._survivor(rows, removed)
        words = survivor["text"].split()
        return Cluster(
            cluster=name,
            size=rows.column("cluster_size")[0].as_py(),
            survivor=survivor["doc_id"],
            url=survivor["url"],
            text=" ".join(words[:MOST_WORDS]),
            members=tuple(self._member(member, words) for member in members),
        )

    def _survivor(self, rows: pa.Table, removed: pa.Table) -> dict[str, Any]:
        """Return the survivor's document: one of the rows, or one that was taken down and has none."""
        kept = rows.filter(pc.is_null(rows.column("reason")))
        if kept.num_rows:
            return self._document(kept.column("row")[0].as_py())
        doc_id = removed.column("survivor")[0].as_py()
        for part in range(len(self._documents.parts)):
            path = self._store.part_path(self._documents, part)
            for row in find_rows(path, "doc_id", doc_id):
                return read_row(path, row, ["doc_id", "url", "source", "text"])
        raise InputError(f"the document {doc_id}, which others went for, is not among those that were read")

    def _member(self, found: dict[str, Any], survivor: Sequence[str]) -> Member:
        document = self._document(found["row"])
        pieces = tuple(compare_words(survivor[:MOST_WORDS], document["text"].split()[:MOST_WORDS]))
        told = (document["url"], document["source"], found["reason"], found["evidence"])
        return Member(found["doc_id"], *told, pieces)

    def _document(self, row: int) -> dict[str, Any]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self._store.part_path(self._documents, part)
        return read_row(path, row - int(self._starts[part]), ["doc_id", "url", "source", "text"])


def compare_words(survivor: Sequence[str], member: Sequence[str]) -> Iterator[Piece]:
    """Yield what two texts share and what they do not, in order; long stretches that both have are left out."""
    codes = SequenceMatcher(None, survivor, member, autojunk=False).get_opcodes()
    for number, (code, start, end, other_start, other_end) in enumerate(codes):
        if code == "equal":
            yield from _shared(survivor[start:end], first=number == 0, last=number == len(codes) - 1)
            continue
        if end > start:
            yield Piece("survivor", " ".join(survivor[start:end]))
        if other_end > other_start:
            yield Piece("member", " ".join(member[other_start:other_end]))


def _shared(words: Sequence[str], *, first: bool, last: bool) -> Iterator[Piece]:
    """Yield shared words, without those that are far from any difference."""
    before, behind = 0 if first else AROUND, 0 if last else AROUND
    left_out = len(words) - before - behind
    if left_out <= 2:
        yield Piece("same", " ".join(words))
        return
    if before:
        yield Piece("same", " ".join(words[:before]))
    yield Piece("left out", f"{left_out} words")
    if behind:
        yield Piece("same", " ".join(words[-behind:]))
