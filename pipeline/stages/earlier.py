"""Earlier: which documents an earlier corpus has already, by the indexes that recipes name.

A task a part: the part's band keys are looked up in each index, and those that share one are compared by their hashes.
A document that resembles an indexed one by `similarity` is dropped, and told by which corpus and document; of several
the one that it resembles most, of equals the first by the order of the names, and then by id.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from headrace.filters.lsh import estimate_jaccard
from headrace.pipeline.dedup.candidates import Int64s
from headrace.pipeline.dedup.clusters import SIMILARITY_DIGITS
from headrace.pipeline.dedup.entries import Entries, Hashes, Uint64s, take_hashes
from headrace.pipeline.dedup.indexed import CorpusIndex
from headrace.pipeline.doc_ids import hex_ids
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import Task
from headrace.pipeline.stages.contract import Planning, input_paths, register
from headrace.pipeline.stages.judge import Judged, Verdicts, overlay
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_aligned
from headrace.pipeline.views import role_of_column

_AT_ONCE = 1 << 16


@register
class Earlier(Verdicts):
    """Drops what the corpora of the indexes `against` hold, by the hashes of `column`."""

    name: ClassVar[str] = "earlier"
    version: ClassVar[int] = 2

    column: str
    num_hashes: int = Field(ge=1)
    bits: Literal[32, 64] = 64
    against: tuple[str, ...]
    reason: str
    similarity: float = Field(gt=0, le=1)
    most: int = Field(default=128, ge=1)

    def inputs(self) -> tuple[str, ...]:
        """Return entries, hashes and verdicts, and of each index its keys and its documents."""
        indexes = (f"{what}:{name}" for name in self.against for what in ("index", "indexed"))
        return ("bands", role_of_column(self.column), "verdicts", *indexes)

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part, over all of each index."""
        shared = [item for role in self.inputs()[3:] for item in planning.part_inputs(role)]
        columns = [planning.part_inputs(role) for role in self.inputs()[:3]]
        return [self.task([*inputs, *shared]) for inputs in zip(*columns, strict=True)]

    def judge(self, verdicts: pa.Table, task: Task, store: Store) -> Judged:
        """Drop the documents of a part that an index has; `crowded` keys have more than are compared."""
        kept = verdicts.column("kept").fill_null(False).to_numpy()
        (bands,), (signals,) = (input_paths(task, store, role) for role in self.inputs()[:2])
        column = read_aligned(signals, [self.column], verdicts.column("doc_id"))[self.column]
        best, num_crowded = _Best(len(kept)), 0
        for number, name in enumerate(self.against):
            keys, documents = (input_paths(task, store, f"{what}:{name}") for what in ("index", "indexed"))
            index = CorpusIndex(keys, documents, self.num_hashes, self.bits)
            shared = index.shared(Entries.open(bands), kept, self.most)
            num_crowded += shared.num_crowded
            for rows, numbers in shared.pairs():
                for some in _whole_rows(rows, _AT_ONCE):
                    distinct, places = np.unique(rows[some], return_inverse=True)
                    own = take_hashes(column, distinct, self.bits, signals)[places]
                    order = np.argsort(numbers[some], kind="stable")
                    ids, hashes = index.documents(numbers[some][order])
                    best.add(number, rows[some][order], own[order], ids, hashes, self.similarity)
        return self._dropped(verdicts, best), {"crowded": num_crowded}

    def _dropped(self, verdicts: pa.Table, best: "_Best") -> pa.Table:
        rows = np.flatnonzero(best.index >= 0)
        evidence = [
            canonical_json({"corpus": self.against[index], "estimated_jaccard": round(similarity, SIMILARITY_DIGITS)})
            for index, similarity in zip(best.index[rows].tolist(), best.similarity[rows].tolist(), strict=True)
        ]
        return overlay(
            verdicts,
            rows,
            kept=pa.array(np.zeros(len(rows), dtype=bool)),
            reason=pa.array([f"{self.reason}_of_earlier"] * len(rows), pa.string()),
            evidence=pa.array(evidence, pa.string()),
            survivor=hex_ids(best.ids[rows]),
        )


def _whole_rows(rows: Int64s, most: int) -> Iterator[slice]:
    """Yield ranges of ascending rows, of at most so many or of one row: what a row is compared with stays together."""
    start = 0
    while start < len(rows):
        end = min(start + most, len(rows))
        if end < len(rows):
            end = int(np.searchsorted(rows, rows[end], side="left"))
        if end <= start:
            end = int(np.searchsorted(rows, rows[start], side="right"))
        yield slice(start, end)
        start = end


class _Best:
    """For each document of a part the indexed one that it resembles most; `index` is -1 where there is none."""

    def __init__(self, num_rows: int) -> None:
        self.index = np.full(num_rows, -1)
        self.similarity = np.zeros(num_rows)
        self.ids: Uint64s = np.zeros((num_rows, 2), np.uint64)

    def add(self, index: int, rows: Int64s, own: Hashes, ids: Uint64s, hashes: Hashes, least: float) -> None:
        """Take pairs of documents into account."""
        found: Any = estimate_jaccard(own, hashes)
        order = np.lexsort((ids[:, 1], ids[:, 0], -found, rows))
        first = order[np.append(True, rows[order[1:]] != rows[order[:-1]])] if len(order) else order
        better = first[(found[first] >= least) & (found[first] > self.similarity[rows[first]])]
        self.index[rows[better]] = index
        self.similarity[rows[better]] = found[better]
        self.ids[rows[better]] = ids[better]
