"""Stream index: how many rows, documents and positions each storage window makes, and nothing more.

A window is some thousand consecutive documents of a token part, fewer where they are long. The documents of a split in
it are packed into rows of `sequence_length` positions (`pipeline.packing`), a document being a line of its tokens + 1
positions. Windows depend on no seed: the stream permutes windows and rows by arithmetic over this table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from headrace.pipeline.packing import Packing, pack
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.schema import STREAM_INDEX, Ledger, Tally, Task
from headrace.pipeline.serving import WINDOW_DOCUMENTS, WINDOW_POSITIONS, Repetition, served, window_edges
from headrace.pipeline.split import heldout_column
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import as_numbers, read_batches, read_columns, write_table
from headrace.pipeline.vocabulary import Vocabulary

SPLITS = ("train", "heldout")
Row = dict[str, Any]
LEFT_OUT = pa.schema([("part", pa.int64()), ("row", pa.int64()), ("doc_id", pa.string())])


@register
class StreamIndex(Stage):
    """Counts what each window and split serves; `heldout` is in 10,000 documents.

    A window ends after `window_documents`, or with the document that brings it to `window_positions`. `repetition` says
    how often training documents are served in an epoch, `prefix` what stands before them.
    """

    name: ClassVar[str] = "stream_index"
    version: ClassVar[int] = 3
    table: ClassVar[str] = "stream_index"

    sequence_length: int = Field(ge=1)
    packing: Packing = "concat"
    window_documents: int = WINDOW_DOCUMENTS
    window_positions: int = WINDOW_POSITIONS
    heldout: int = 100
    repetition: Repetition | None = None
    prefix: Prefix | None = None

    def inputs(self) -> tuple[str, ...]:
        """Return the token tables, and the tokenizer where prefixes have lengths."""
        return ("tokens", "tokenizer") if self.prefix else ("tokens",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task: it reads lengths and keys, no tokens."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Count every window of every part."""
        paths = input_paths(task, store, "tokens")
        clusters = pa.array(
            sorted(set().union(*(_heldout_clusters(path, self.heldout) for path in paths))), pa.string()
        )
        vocabularies = [Vocabulary.load(path) for path in input_paths(task, store, "tokenizer")]
        windows: list[Row] = []
        left_out: list[Row] = []
        taken, total = Tally(), Tally()
        for number, path in enumerate(paths):
            part = _Part.read(path, self.heldout, self.repetition, self._prefix_lengths(path, vocabularies))
            near = part.near(clusters)
            windows += self._windows(number, part, near)
            left_out += _named(number, path, near)
            taken += part.tally(~near)
            total += part.tally()
        gone = Tally(records=total.records - taken.records, bytes=total.bytes - taken.bytes)
        files = {
            name: write_table(
                store.new_file(task, name),
                schema,
                [pa.RecordBatch.from_pylist(rows, schema=schema)],
                {"task": task.key},
            )
            for name, schema, rows in ((self.table, STREAM_INDEX, windows), ("left_out", LEFT_OUT, left_out))
        }
        dropped = {"near_heldout": gone} if gone.records else {}
        return Made(files, Ledger(input=total, kept=taken, dropped=dropped, output=taken))

    def _prefix_lengths(self, path: Path, vocabularies: Sequence[Vocabulary]) -> NDArray[np.int64] | None:
        """Return the tokens of each document's prefix, or None without any."""
        if self.prefix is None:
            return None
        batches = read_batches(path, self.prefix.columns)
        lengths = [self.prefix.make(pa.Table.from_batches([batch]), vocabularies[0]).lengths for batch in batches]
        return np.concatenate([np.zeros(0, np.int64), *lengths])

    def _windows(self, number: int, part: "_Part", near: NDArray[np.bool_]) -> Iterator[Row]:
        for first, end in window_edges(part.positions, self.window_documents, self.window_positions):
            window = slice(first, end)
            for split in SPLITS:
                chosen = (part.heldout[window] == (split == "heldout")) & ~near[window]
                times = part.times[window] if part.times is not None and split == "train" else None
                documents = served(chosen, times)
                place = {"split": split, "part": number, "first_document": first, "num_documents": end - first}
                num_bytes = int(part.num_bytes[window][documents].sum())
                lengths = part.served_positions(split)[window][documents]
                yield place | self._counts(lengths) | {"num_bytes": num_bytes}

    def _counts(self, lengths: NDArray[np.int64]) -> Row:
        """Return what packing lines of these lengths comes to."""
        packed = pack(self.packing, lengths, self.sequence_length)
        pieces = np.diff(packed.first)
        return {
            "num_served": len(lengths),
            "num_positions": int(lengths.sum()),
            "num_rows": packed.num_rows,
            "num_split": int((np.bincount(packed.document, minlength=1) > 1).sum()),
            "most_pieces": int(pieces.max(initial=0)),
        }


@dataclass(frozen=True)
class _Part:
    """What the index must know of the documents of one part, as columns."""

    positions: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    heldout: NDArray[np.bool_]
    cluster: pa.ChunkedArray
    times: NDArray[np.int64] | None
    prefixes: NDArray[np.int64] | None

    @classmethod
    def read(
        cls, path: Path, heldout: int, repetition: Repetition | None, prefixes: NDArray[np.int64] | None
    ) -> "_Part":
        more = [repetition.column] if repetition else []
        table = read_columns(path, list(dict.fromkeys(["num_tokens", "num_bytes", "split_key", "cluster", *more])))
        return cls(
            as_numbers(table.column("num_tokens")) + 1,
            as_numbers(table.column("num_bytes")),
            heldout_column(table.column("split_key"), heldout),
            table.column("cluster"),
            repetition.times(table.column(repetition.column)) if repetition else None,
            prefixes,
        )

    def served_positions(self, split: str) -> NDArray[np.int64]:
        """Return the positions of each document's line; only training documents have prefixes."""
        return self.positions if self.prefixes is None or split != "train" else self.positions + self.prefixes

    def tally(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> Tally:
        num_bytes = self.num_bytes[chosen]
        return Tally(records=len(num_bytes), bytes=int(num_bytes.sum()))

    def near(self, clusters: pa.Array) -> NDArray[np.bool_]:
        """Tell which training documents are in one of these clusters."""
        found: NDArray[np.bool_] = pc.is_in(self.cluster, value_set=clusters).to_numpy()
        return found & ~self.heldout


def _heldout_clusters(path: Path, heldout: int) -> set[str]:
    """Return the clusters that held-out documents of one part are in."""
    if not heldout:
        return set()
    table = read_columns(path, ["split_key", "cluster"])
    chosen = pa.array(heldout_column(table.column("split_key"), heldout))
    return set(table.column("cluster").filter(chosen).drop_null().to_pylist())


def _named(number: int, path: Path, near: NDArray[np.bool_]) -> list[Row]:
    """Return the rows of `left_out` for the documents of one part."""
    rows = np.flatnonzero(near)
    ids = read_columns(path, ["doc_id"]).column("doc_id").take(pa.array(rows)).to_pylist() if len(rows) else []
    return [{"part": number, "row": int(row), "doc_id": doc_id} for row, doc_id in zip(rows, ids, strict=True)]
