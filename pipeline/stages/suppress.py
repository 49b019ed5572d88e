"""Suppress: the documents that were taken down, by what the store's suppressions name (`pipeline.suppressions`)."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.dedup.membership import SUPPRESSED
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import FINDINGS, Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import names_of
from headrace.pipeline.tables import read_batches, write_table

BATCH_ROWS = 4096
COLUMN_OF = {"text": "text", "payload": "payload_digest"}
"""Columns that only some entries ask."""
_EVERY_ROW = ["doc_id", "url", "text_bytes"]


@register
class Suppress(Stage):
    """Finds the documents that `entries` name: of each what it is about, its value and the reason."""

    name: ClassVar[str] = "suppress"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "findings"

    entries: tuple[dict[str, str], ...]

    def inputs(self) -> tuple[str, ...]:
        """Return the documents."""
        return ("documents",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts in order."""
        return [self.task(planning.part_inputs("documents"))]

    def run(self, task: Task, store: Store) -> Made:
        """Look at every document's id and URL, and at its text where a text is named."""
        tallies = [Tally()]
        paths = input_paths(task, store, "documents")
        file = write_table(
            store.new_file(task, self.table), FINDINGS, self._batches(paths, tallies), {"task": task.key}
        )
        return Made({self.table: file}, Ledger(input=tallies[0], kept=tallies[0]))

    def _batches(self, paths: list[Path], tallies: list[Tally]) -> Iterator[pa.RecordBatch]:
        asked = {one["what"] for one in self.entries}
        columns = [*_EVERY_ROW, *(column for what, column in COLUMN_OF.items() if what in asked)]
        for path in paths:
            for batch in read_batches(path, columns, batch_rows=BATCH_ROWS):
                found = [
                    dict.fromkeys(FINDINGS.names)
                    | {"row": tallies[0].records + row, "doc_id": document["doc_id"], "reason": SUPPRESSED}
                    | {"evidence": canonical_json(entry)}
                    for row, document in enumerate(batch.to_pylist())
                    if (entry := self.entry_for(document)) is not None
                ]
                tallies[0] += Tally(records=batch.num_rows, bytes=pc.sum(batch.column("text_bytes")).as_py() or 0)
                yield pa.RecordBatch.from_pylist(found, schema=FINDINGS)

    def entry_for(self, document: dict[str, Any]) -> dict[str, str] | None:
        """Return the entry that names a document: its id, text, payload, URL or the narrowest domain; None without."""
        return next((self._known[name] for name in names_of(document) if name in self._known), None)

    @cached_property
    def _known(self) -> dict[tuple[str, str], dict[str, str]]:
        return {(one["what"], one["value"]): one for one in self.entries}
