"""Distinct: the same record read twice is one document; and where a build is limited, nothing beyond the limit.

A recrawl that was copied, or a file named by two globs, gives equal `doc_id`s. The first in row order stays, the others
are dropped as `same_record`.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa

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
        """Walk the ids in row order."""
        rows, total = [], Tally()
        seen: set[bytes] = set()
        for path in input_paths(task, store, "documents"):
            ids = read_columns(path, ["doc_id", "text_bytes"])
            rows += list(self._found(total.records, ids.column("doc_id").to_pylist(), seen))
            total += Tally(records=ids.num_rows, bytes=sum(ids.column("text_bytes").to_pylist()))
        batch = pa.RecordBatch.from_pylist(rows, schema=FINDINGS)
        file = write_table(store.new_file(task, self.table), FINDINGS, [batch], {"task": task.key})
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def _found(self, first_row: int, doc_ids: list[str], seen: set[bytes]) -> Iterator[dict[str, Any]]:
        for row, doc_id in enumerate(doc_ids, first_row):
            name = bytes.fromhex(doc_id)
            finding = dict.fromkeys(FINDINGS.names) | {"row": row, "doc_id": doc_id}
            if name in seen:
                yield finding | {"reason": "same_record", "survivor": doc_id}
            elif self.limit is not None and len(seen) >= self.limit:
                yield finding | {"reason": "beyond_limit", "evidence": canonical_json({"limit": self.limit})}
            else:
                seen.add(name)
