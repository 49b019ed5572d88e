"""What a decontamination step found, benchmark by benchmark: items, documents, and the strongest matches."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.filters.utf8 import Int64s
from headrace.pipeline.build_chain import Way
from headrace.pipeline.contamination.index import EvaluationIndex
from headrace.pipeline.errors import InputError
from headrace.pipeline.rows import read_row
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.contamination import WINDOW, Contamination, Weigher
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows

LEVELS = (0.5, 0.8, 1.0)
"""Shares of an item's n-grams, by weight, from which an item is counted as found."""


@dataclass(frozen=True)
class BenchmarkReport:
    """One evaluation set.

    `searchable` are the items that are long enough to be looked for, `found` those of which some document holds an
    n-gram that is not common, `held` those of which one holds at least each share of `LEVELS`. `documents` hold some
    n-gram that is not common, `kept` of them are left after the last step that decided.
    """

    name: str
    items: int
    searchable: int
    found: int
    held: tuple[int, ...]
    documents: int
    kept: int


@dataclass(frozen=True)
class Match:
    """A document and the item that it holds most of."""

    doc_id: str
    url: str | None
    kept: bool
    weighted_frac: float
    benchmark: str
    item: str
    text: str


@dataclass(frozen=True)
class ContaminationReport:
    """What one step found; `strongest` are documents by the share of an item that they hold."""

    path: str
    step: str
    benchmarks: tuple[BenchmarkReport, ...]
    strongest: tuple[Match, ...]


def report_contamination(path: Path, num_matches: int, step: str | None = None) -> ContaminationReport:
    """Report a decontamination step on the way to an artifact.

    Args:
        path: A manifest, an artifact's folder or one of its parts.
        num_matches: How many of the strongest matches to return.
        step: Which step, by its label, where there are several.

    Raises:
        InputError: there is no such step, or there are several and none is named.
        StoreError, IntegrityError: see `Way.to`.
    """
    way = Way.to(path)
    path, store, chain = way.path, way.store, way.chain
    steps = [one for one in chain if one.stage == Contamination.name and step in (None, one.name)]
    if len(steps) != 1:
        labels = ", ".join(one.name for one in chain if one.stage == Contamination.name) or "none"
        raise InputError(f"{path}: name one step that looked for evaluation sets with --step; there are: {labels}")
    return _Reporter(steps[0], chain, store).make(str(path), num_matches)


class _Reporter:
    def __init__(self, step: Manifest, chain: list[Manifest], store: Store) -> None:
        self._step, self._store = step, store
        made_of = {item.role: next(one for one in chain if one.key == item.key) for item in step.inputs}
        index, counts = (store.part_path(made_of[role], 0) for role in ("index", "counts"))
        self._weigher = Weigher.open(index, counts, step.config["max_documents"])
        self._matches = made_of["matches"]
        self._verdicts = [one for one in chain if one.table == "verdicts"][-1]
        self._documents = next(one for one in chain if one.table == "documents")

    @property
    def _index(self) -> EvaluationIndex:
        return self._weigher.index

    def make(self, path: str, num_matches: int) -> ContaminationReport:
        index = self._index
        best = np.zeros(len(index.names))
        documents, left = np.zeros((2, len(index.benchmarks)), np.int64)
        strongest: list[tuple[float, str, int, int, int, bool]] = []
        for part, row, doc_id, kept, ngrams in self._rows():
            items, weight, total = index.items_with(ngrams, self._weigher.weights)
            shares = weight / np.maximum(total, 1)
            np.maximum.at(best, items, shares)
            concerned = np.unique(index.benchmark[items[shares > 0]])
            documents[concerned] += 1
            left[concerned] += kept
            if shares.max() > 0:
                item = int(items[np.lexsort((items, -shares))[0]])
                strongest.append((-float(shares.max()), doc_id, part, row, item, kept))
        return ContaminationReport(
            path=path,
            step=self._step.name,
            benchmarks=tuple(self._benchmarks(best, documents, left)),
            strongest=tuple(self._match(*one) for one in sorted(strongest)[:num_matches]),
        )

    def _rows(self) -> Iterator[tuple[int, int, str, bool, Int64s]]:
        """Yield part, row, id, whether it is kept, and n-grams, of each document that has any."""
        for part in range(len(self._matches.parts)):
            path = self._store.part_path(self._matches, part)
            table = read_columns(path, ["doc_id", "windows"])
            verdicts = read_columns(self._store.part_path(self._verdicts, part), ["doc_id", "kept"])
            same_rows(table.column("doc_id"), verdicts.column("doc_id"), path)
            for row in np.flatnonzero(table.column("windows").is_valid().to_numpy()).tolist():
                windows = np.frombuffer(table.column("windows")[row].as_py(), WINDOW)
                kept = verdicts.column("kept")[row].as_py() is True
                yield part, row, table.column("doc_id")[row].as_py(), kept, np.unique(windows["ngram"]).astype(np.int64)

    def _benchmarks(self, best: Any, documents: Int64s, left: Int64s) -> Iterator[BenchmarkReport]:
        index = self._index
        for number, name in enumerate(index.benchmarks):
            own = index.benchmark == number
            yield BenchmarkReport(
                name=name,
                items=int(own.sum()),
                searchable=int((index.num_ngrams[own] > 0).sum()),
                found=int((best[own] > 0).sum()),
                held=tuple(int((best[own] >= level).sum()) for level in LEVELS),
                documents=int(documents[number]),
                kept=int(left[number]),
            )

    def _match(self, share: float, doc_id: str, part: int, row: int, item: int, kept: bool) -> Match:
        url = read_row(self._store.part_path(self._documents, part), row, ["url"])["url"]
        texts = json.loads(read_row(self._store.part_path(self._matches, part), row, ["texts"])["texts"])
        benchmark, name = self._index.benchmarks[self._index.benchmark[item]], self._index.names[item]
        shown = [one["text"] for one in texts if (one["benchmark"], one["item"]) == (benchmark, name)]
        return Match(doc_id, url, kept, -share, benchmark, name, shown[0] if shown else texts[0]["text"])
