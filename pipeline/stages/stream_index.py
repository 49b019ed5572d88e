"""Stream index: how many packed rows each storage window makes, and nothing more.

A window is some thousand consecutive documents of a token part, fewer where they are long. Within one, the documents of
a split are laid end to end, each as `<|endoftext|>` and its tokens, every position predicting the next token and the
last one the end of the text; the line is cut into rows of `sequence_length` positions, the last row padded. So a
document takes its tokens + 1 positions, no token is dropped, and the number of rows is one division. Windows depend on
no seed: the stream permutes windows and rows by arithmetic over this table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.pipeline.schema import STREAM_INDEX, Ledger, Tally, Task
from headrace.pipeline.split import heldout_rows
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches, read_columns, write_table

SPLITS = ("train", "heldout")
Row = dict[str, Any]
LEFT_OUT = pa.schema([("part", pa.int64()), ("row", pa.int64()), ("doc_id", pa.string())])


@register
class StreamIndex(Stage):
    """Counts rows per window and split; `heldout` is in 10,000 documents.

    A window ends after `window_documents`, or with the document that brings it to `window_positions`.
    """

    name: ClassVar[str] = "stream_index"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "stream_index"

    sequence_length: int
    window_documents: int = 8192
    window_positions: int = 1 << 24
    heldout: int = 100

    def inputs(self) -> tuple[str, ...]:
        """Return the token tables."""
        return ("tokens",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task: it reads lengths and keys, no tokens."""
        return [self.task(planning.part_inputs("tokens"))]

    def run(self, task: Task, store: Store) -> Made:
        """Count every window of every part."""
        paths = input_paths(task, store, "tokens")
        parts = [_Part.read(path, self.heldout) for path in paths]
        clusters = pa.array(sorted(set().union(*(part.heldout_clusters() for part in parts))), pa.string())
        windows: list[Row] = []
        left_out: list[Row] = []
        for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
            near = part.near(clusters)
            windows += self._windows(number, part, near)
            left_out += _named(number, path, near)
        total = Tally(records=sum(len(part.positions) for part in parts), bytes=sum(part.total_bytes for part in parts))
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

    def _windows(self, number: int, part: "_Part", near: NDArray[np.bool_]) -> Iterator[Row]:
        for first, end in self._edges(part.positions):
            window = slice(first, end)
            for split in SPLITS:
                served = (part.heldout[window] == (split == "heldout")) & ~near[window]
                positions = int(part.positions[window][served].sum())
                yield {
                    "split": split,
                    "part": number,
                    "first_document": first,
                    "num_documents": end - first,
                    "num_served": int(served.sum()),
                    "num_positions": positions,
                    "num_bytes": int(part.num_bytes[window][served].sum()),
                    "num_rows": -(-positions // self.sequence_length),
                }

    def _edges(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        ends = np.cumsum(positions)
        first = 0
        while first < len(ends):
            before = int(ends[first - 1]) if first else 0
            full = int(np.searchsorted(ends, before + self.window_positions)) + 1
            end = min(first + self.window_documents, full, len(ends))
            yield first, end
            first = end


@dataclass(frozen=True)
class _Part:
    """What the index must know of the documents of one part, as columns."""

    positions: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    heldout: NDArray[np.bool_]
    cluster: pa.ChunkedArray

    @classmethod
    def read(cls, path: Path, heldout: int) -> "_Part":
        table = read_columns(path, ["num_tokens", "num_bytes", "cluster"])
        keys = read_batches(path, ["split_key"])
        masks = [heldout_rows(batch.column("split_key").to_pylist(), heldout) for batch in keys]
        return cls(
            table.column("num_tokens").to_numpy() + 1,
            table.column("num_bytes").to_numpy(),
            np.concatenate([np.zeros(0, dtype=bool), *masks]),
            table.column("cluster"),
        )

    @property
    def total_bytes(self) -> int:
        return int(self.num_bytes.sum())

    def heldout_clusters(self) -> set[str]:
        return set(self.cluster.filter(pa.array(self.heldout)).drop_null().to_pylist())

    def near(self, clusters: pa.Array) -> NDArray[np.bool_]:
        """Tell which training documents are in one of these clusters."""
        found: NDArray[np.bool_] = pc.is_in(self.cluster, value_set=clusters).to_numpy()
        return found & ~self.heldout


def _named(number: int, path: Path, near: NDArray[np.bool_]) -> list[Row]:
    """Return the rows of `left_out` for the documents of one part."""
    rows = np.flatnonzero(near)
    ids = read_columns(path, ["doc_id"]).column("doc_id").take(pa.array(rows)).to_pylist() if len(rows) else []
    return [{"part": number, "row": int(row), "doc_id": doc_id} for row, doc_id in zip(rows, ids, strict=True)]
