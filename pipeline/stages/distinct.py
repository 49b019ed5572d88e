"""Distinct: the same record read twice is one document; and where a build is limited, nothing beyond the limit.

A recrawl that was copied, or a file named by two globs, gives equal `doc_id`s. The first in row order stays, the others
are dropped as `same_record`. Memory: about 40 bytes a document.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.doc_ids import hex_ids, id_words, row_slices
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import FINDINGS, Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, write_table


@register
class Distinct(Stage):
    """Finds documents that are the same record, and those beyond `limit` (in documents, None for all)."""

    name: ClassVar[str] = "distinct"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "findings"

    limit: int | None = None

    def inputs(self) -> tuple[str, ...]:
        """Return the documents."""
        return ("documents",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over the ids of all parts in order."""
        return [self.task(planning.part_inputs("documents"))]

    def run(self, task: Task, store: Store) -> Made:
        """Find which ids came before, all at once."""
        ids, total = [np.zeros((0, 2), np.uint64)], Tally()
        for path in input_paths(task, store, "documents"):
            read = read_columns(path, ["doc_id", "text_bytes"])
            ids.append(id_words(read.column("doc_id")))
            total += Tally(records=read.num_rows, bytes=pc.sum(read.column("text_bytes")).as_py() or 0)
        batches = self._findings(np.concatenate(ids))
        file = write_table(store.new_file(task, self.table), FINDINGS, batches, {"task": task.key})
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def _findings(self, ids: npt.NDArray[np.uint64]) -> Iterator[pa.RecordBatch]:
        """Yield what is found about documents of these ids, in row order."""
        first = first_of_each(ids)
        beyond = np.zeros(len(ids), dtype=bool) if self.limit is None else first & (np.cumsum(first) > self.limit)
        rows = np.flatnonzero(~first | beyond)
        for some in row_slices(len(rows)):
            yield self._found(rows[some], ids[rows[some]], ~first[rows[some]])

    def _found(
        self, rows: npt.NDArray[np.int64], ids: npt.NDArray[np.uint64], same: npt.NDArray[np.bool_]
    ) -> pa.RecordBatch:
        doc_ids, again = hex_ids(ids), pa.array(same)
        nothing, evidence = pa.scalar(None, pa.string()), canonical_json({"limit": self.limit})
        columns = {
            "row": pa.array(rows),
            "doc_id": doc_ids,
            "reason": pc.if_else(again, "same_record", "beyond_limit"),
            "evidence": pc.if_else(again, nothing, evidence),
            "survivor": pc.if_else(again, doc_ids, nothing),
        }
        absent = {field.name: pa.nulls(len(rows), field.type) for field in FINDINGS if field.name not in columns}
        return pa.RecordBatch.from_arrays([(columns | absent)[name] for name in FINDINGS.names], schema=FINDINGS)


def first_of_each(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return for each row of numbers whether no row before it is the same."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))  # the same ones stay in order
    first = np.ones(len(ids), dtype=bool)
    first[order[1:]] = (ids[order[1:]] != ids[order[:-1]]).any(axis=1)
    return first
