"""Stream index: how many packed rows each storage window makes, and nothing more.

A window is `window_documents` consecutive documents of a token part. Within one, the documents of a split are laid end
to end, each as `<|endoftext|>` and its tokens, every position predicting the next token and the last one the end of the
text; the line is cut into rows of `sequence_length` positions, the last row padded. So a document takes its tokens + 1
positions, no token is dropped, and the number of rows is one division. Windows depend on no seed: the stream permutes
windows and rows by arithmetic over this table.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa

from headrace.pipeline.schema import STREAM_INDEX, Ledger, Tally, Task
from headrace.pipeline.split import is_heldout
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, write_table

SPLITS = ("train", "heldout")
LEFT_OUT = pa.schema([("part", pa.int64()), ("row", pa.int64()), ("doc_id", pa.string())])


@register
class StreamIndex(Stage):
    """Counts rows per window and split; `heldout` is in 10,000 documents."""

    name: ClassVar[str] = "stream_index"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "stream_index"

    sequence_length: int
    window_documents: int = 8192
    heldout: int = 100

    def inputs(self) -> tuple[str, ...]:
        """Return the token tables."""
        return ("tokens",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task: it reads lengths and keys, no tokens."""
        return [self.task(planning.part_inputs("tokens"))]

    def run(self, task: Task, store: Store) -> Made:
        """Count every window of every part."""
        columns = ["doc_id", "num_tokens", "num_bytes", "split_key", "cluster"]
        parts = [read_columns(path, columns).to_pylist() for path in input_paths(task, store, "tokens")]
        clusters = {row["cluster"] for rows in parts for row in rows if row["cluster"] and self._is_heldout(row)}
        left_out = [
            {"part": part, "row": number, "doc_id": row["doc_id"]}
            for part, rows in enumerate(parts)
            for number, row in enumerate(rows)
            if row["cluster"] in clusters and not self._is_heldout(row)
        ]
        skipped = {(item["part"], item["row"]) for item in left_out}
        windows = [window for part, rows in enumerate(parts) for window in self._windows(part, rows, skipped)]
        total = Tally(records=sum(map(len, parts)), bytes=sum(row["num_bytes"] for rows in parts for row in rows))
        kept = Tally(records=sum(w["num_served"] for w in windows), bytes=sum(w["num_bytes"] for w in windows))
        gone = Tally(records=len(left_out), bytes=total.bytes - kept.bytes)
        files = {
            name: write_table(
                store.new_file(task, name),
                schema,
                [pa.RecordBatch.from_pylist(rows, schema=schema)],
                {"task": task.key},
            )
            for name, schema, rows in ((self.table, STREAM_INDEX, windows), ("left_out", LEFT_OUT, left_out))
        }
        dropped = {"near_heldout": gone} if left_out else {}
        return Made(files, Ledger(input=total, kept=kept, dropped=dropped, output=kept))

    def _is_heldout(self, row: dict[str, Any]) -> bool:
        return is_heldout(row["split_key"], self.heldout)

    def _windows(
        self, part: int, rows: list[dict[str, Any]], skipped: set[tuple[int, int]]
    ) -> Iterator[dict[str, Any]]:
        for first in range(0, len(rows), self.window_documents):
            window = rows[first : first + self.window_documents]
            for split in SPLITS:
                served = [
                    row
                    for number, row in enumerate(window, first)
                    if self._is_heldout(row) == (split == "heldout") and (part, number) not in skipped
                ]
                positions = sum(row["num_tokens"] + 1 for row in served)
                yield {
                    "split": split,
                    "part": part,
                    "first_document": first,
                    "num_documents": len(window),
                    "num_served": len(served),
                    "num_positions": positions,
                    "num_bytes": sum(row["num_bytes"] for row in served),
                    "num_rows": -(-positions // self.sequence_length),
                }
