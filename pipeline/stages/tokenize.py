"""Tokenize: token tables, spread by a hash of `doc_id` so that every stretch of them is a fair mixture of the corpus.

`encode` turns each part of the corpus into tokens, sorted by `order`; `shuffle` cuts the range of `order` evenly into
parts and merges what each encoded part has in its range, reading only the row groups that reach into it. The result is
the whole corpus sorted by `order`: it does not depend on how the corpus was cut into parts.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.pipeline.schema import TOKENS, Ledger, Tally, Task
from headrace.pipeline.serving import WINDOW_DOCUMENTS, WINDOW_POSITIONS, window_edges
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import TableWriter, read_batches, table_writers, write_table
from headrace.pipeline.vocabulary import Vocabulary

ROW_GROUP_BYTES = 4 << 20
"""Of encoded parts: small, so that a range of them is read without much beside it."""
_WHOLE_WINDOW = 1 << 40
_KEPT = ("source", "split_key", "cluster", "cluster_size", "url", "metadata")


def document_order(doc_id: str) -> int:
    """Return where a document stands among the shuffled: the second half of its id, as a number below 2^64."""
    return int(doc_id[16:], 16)


@register
class Encode(Stage):
    """Encodes one part of the corpus; with `text` the texts are kept beside their tokens."""

    name: ClassVar[str] = "encode"
    version: ClassVar[int] = 4
    table: ClassVar[str] = "tokens"

    text: bool = False

    def resources(self) -> dict[str, str]:
        """Return the library that encodes."""
        return {"tokenizers": version("tokenizers")}

    def inputs(self) -> tuple[str, ...]:
        """Return the tokenizer and the corpus."""
        return ("tokenizer", "corpus")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part of the corpus."""
        (tokenizer,) = planning.part_inputs("tokenizer")
        return [self.task([tokenizer, part]) for part in planning.part_inputs("corpus")]

    def run(self, task: Task, store: Store) -> Made:
        """Encode, sort and write."""
        (tokenizer_path,) = input_paths(task, store, "tokenizer")
        (corpus_path,) = input_paths(task, store, "corpus")
        vocabulary = Vocabulary.load(tokenizer_path)
        table = pa.Table.from_batches(_encoded(corpus_path, vocabulary, self.text), TOKENS).sort_by(
            [("order", "ascending"), ("doc_id", "ascending")]
        )
        path = store.new_file(task, self.table)
        file = write_table(path, TOKENS, table.to_batches(), {"task": task.key}, ROW_GROUP_BYTES)
        tally = Tally(records=table.num_rows, bytes=_sum(table, "num_bytes"))
        facts: dict[str, int | str] = {"tokens": _sum(table, "num_tokens"), "token_bytes": vocabulary.token_bytes}
        return Made({self.table: file}, Ledger(input=tally, kept=tally, output=tally), facts)


def _encoded(path: Path, vocabulary: Vocabulary, keep_text: bool) -> Iterator[pa.RecordBatch]:
    columns = ["doc_id", "text", "text_bytes", *_KEPT]
    for batch in read_batches(path, columns, batch_rows=1024):
        ids = batch.column("doc_id").to_pylist()
        tokens = vocabulary.encode_batch(batch.column("text").to_pylist())
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([document_order(doc_id) for doc_id in ids], pa.uint64()),
                batch.column("doc_id"),
                pa.array([array.tobytes() for array in tokens], pa.binary()),
                pa.array([len(array) for array in tokens], pa.int64()),
                batch.column("text_bytes"),
                *(batch.column(name) for name in _KEPT),
                batch.column("text") if keep_text else pa.nulls(len(ids), pa.string()),
            ],
            schema=TOKENS,
        )


@register
class Shuffle(Stage):
    """Gathers one range of `order` from all encoded parts; `text_bytes` of corpus go into a part.

    A row group is a storage window of the stream, its tokens not compressed: to be read whole, at the speed of memory.
    """

    name: ClassVar[str] = "tokenize"
    version: ClassVar[int] = 4
    table: ClassVar[str] = "tokens"

    text_bytes: int = 1 << 30
    token_bytes: int = 2
    part: int = 0
    parts: int = 1

    def inputs(self) -> tuple[str, ...]:
        """Return the encoded parts."""
        return ("encoded",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a range; how many follows from the size of the corpus."""
        encoded = planning.upstream["encoded"]
        parts = max(1, -(-encoded.ledger.output.bytes // self.text_bytes))
        width = encoded.facts["token_bytes"]
        inputs = planning.part_inputs("encoded")
        return [self.task(inputs, token_bytes=width, part=part, parts=parts) for part in range(parts)]

    def run(self, task: Task, store: Store) -> Made:
        """Read the range from every encoded part, merge and write."""
        low, high = ((self.part + step << 64) // self.parts for step in (0, 1))
        pieces = [_in_range(path, low, high) for path in input_paths(task, store, "encoded")]
        table = pa.concat_tables(pieces).sort_by([("order", "ascending"), ("doc_id", "ascending")])
        path = store.new_file(task, self.table)
        writer = TableWriter(path, TOKENS, {"task": task.key}, _WHOLE_WINDOW, plain=["tokens"])
        with table_writers(writer):
            positions = table.column("num_tokens").to_numpy() + 1
            for first, end in window_edges(positions, WINDOW_DOCUMENTS, WINDOW_POSITIONS):
                for batch in table.slice(first, end - first).to_batches():
                    writer.write(batch)
                writer.end_row_group()
            file = writer.close()
        tally = Tally(records=table.num_rows, bytes=_sum(table, "num_bytes"))
        facts: dict[str, int | str] = {"tokens": _sum(table, "num_tokens"), "token_bytes": self.token_bytes}
        return Made({self.table: file}, Ledger(input=tally, kept=tally, output=tally), facts)


def _in_range(path: Path, low: int, high: int) -> pa.Table:
    """Return the rows with `low <= order < high` of a table sorted by `order`."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups = [
            index
            for index in range(file.num_row_groups)
            if (stats := file.metadata.row_group(index).column(0).statistics) is None
            or (stats.min < high and stats.max >= low)
        ]
        table = file.read_row_groups(groups).cast(TOKENS) if groups else TOKENS.empty_table()
    order = table.column("order")
    mask = pc.greater_equal(order, pa.scalar(low, pa.uint64()))
    if high < 1 << 64:
        mask = pc.and_(mask, pc.less(order, pa.scalar(high, pa.uint64())))
    return table.filter(mask)


def _sum(table: pa.Table, column: str) -> int:
    total: Any = pc.sum(table.column(column)).as_py()
    return int(total or 0)
