"""Clusters: survivors and those removed for them, with a name that comes from contents and not from order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.dedup.candidates import Int64s, ranks_of
from headrace.pipeline.dedup.resolving import Float64s, Resolved
from headrace.pipeline.dedup.tables import Facts
from headrace.pipeline.doc_ids import hex_ids, row_slices
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import FINDINGS

HELD = "held_for_review"
SIMILARITY_DIGITS = 4


@dataclass(frozen=True)
class Clusters:
    """Candidates in row order: their numbers, what is known of them, and each one's survivor (itself, if it is one)."""

    rows: Int64s
    facts: Facts
    resolved: Resolved
    survivors: Int64s

    @classmethod
    def of(cls, rows: Int64s, facts: Facts, resolved: Resolved) -> "Clusters":
        """Turn what was resolved by ranks into candidates."""
        survivors = np.arange(len(rows))
        removed = np.flatnonzero(resolved.survivors >= 0)
        survivors[facts.order[removed]] = facts.order[resolved.survivors[removed]]
        return cls(rows, facts, resolved, survivors)

    def removed_rows(self) -> Int64s:
        """Return the numbers of the documents that do not survive, ascending."""
        gone = (self.survivors != np.arange(len(self.rows))) & ~self.facts.taken_down
        rows: Int64s = self.rows[gone]
        return rows

    def findings(self, reason: str, measure: str) -> Iterator[pa.RecordBatch]:
        """Yield a row for each document of a cluster of two or more, in row order.

        Those that were taken down have none. The others are dropped for `reason`, with their similarity as `measure`;
        those that resemble what was taken down are held for review.
        """
        sizes = np.bincount(self.survivors, minlength=len(self.rows))
        members = np.flatnonzero((sizes[self.survivors] > 1) & ~self.facts.taken_down)
        names, similarities = self._smallest(), np.empty(len(self.rows))
        similarities[self.facts.order] = self.resolved.similarities
        for some in row_slices(len(members)):
            yield self._found(members[some], sizes, names, similarities, reason, measure)

    def _found(
        self, members: Int64s, sizes: Int64s, names: Int64s, similarities: Float64s, reason: str, measure: str
    ) -> pa.RecordBatch:
        roots = self.survivors[members]
        survives, held = roots == members, self.facts.taken_down[roots]
        columns = {
            "row": pa.array(self.rows[members]),
            "doc_id": hex_ids(self.facts.ids[members]),
            "reason": pc.if_else(pa.array(held), HELD, reason),
            "evidence": _evidence(similarities[members], measure),
            "survivor": hex_ids(self.facts.ids[roots]),
            "cluster": hex_ids(self.facts.ids[names[roots]]),
            "cluster_size": pa.array(sizes[roots]),
        }
        nothing = pa.scalar(None, pa.string())
        columns |= {name: pc.if_else(survives, nothing, columns[name]) for name in ("reason", "evidence", "survivor")}
        return pa.RecordBatch.from_arrays([columns[name] for name in FINDINGS.names], schema=FINDINGS)

    def _smallest(self) -> Int64s:
        """Return for each survivor the member of its cluster with the smallest id."""
        by_id = np.lexsort((self.facts.ids[:, 1], self.facts.ids[:, 0]))
        smallest = np.full(len(self.rows), len(self.rows), np.int64)
        np.minimum.at(smallest, self.survivors, ranks_of(by_id))
        names: Int64s = by_id[np.minimum(smallest, len(self.rows) - 1)]
        return names


def _evidence(similarities: Float64s, measure: str) -> pa.Array:
    """Return similarities as JSON objects; there are few different ones."""
    values, numbers = np.unique(np.round(similarities, SIMILARITY_DIGITS), return_inverse=True)
    words = pa.array([canonical_json({measure: float(value)}) for value in values], pa.string())
    return words.take(pa.array(numbers))
