"""Cut: the corpus. One aligned join of documents, their last verdict and the spans that edit them.

The second and last time that text is written. Removal beats redaction; a document that nothing is left of is dropped
here, with that reason.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.filters.spans import Span, apply_spans, merge_spans
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import CORPUS, Ledger, Tally, Task
from headrace.pipeline.split import split_key
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import TableWriter, read_batches, rows_beside, same_rows, table_writers
from headrace.pipeline.views import id_of_column, to_spans

BATCH_ROWS = 512
_PARENT = '"parent"'


@dataclass
class _Account:
    """Counts for the ledger while a part is cut."""

    kept: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    output: Tally = field(default_factory=Tally)
    edits: dict[str, int] = field(default_factory=dict)

    def ledger(self) -> Ledger:
        total = sum(self.dropped.values(), self.kept)
        return Ledger(
            input=total,
            kept=self.kept,
            dropped=dict(sorted(self.dropped.items())),
            output=self.output,
            edits=dict(sorted(self.edits.items())),
        )

    def drop(self, reason: str, records: int, num_bytes: int) -> None:
        if records:
            self.dropped[reason] = self.dropped.get(reason, Tally()) + Tally(records=records, bytes=num_bytes)

    def keep(self, records: int, num_bytes: int) -> None:
        self.kept += Tally(records=records, bytes=num_bytes)

    def edit(self, spans: Sequence[Span]) -> None:
        for span in spans:
            change = len((span.replacement or "").encode()) - (span.end - span.start)
            self.edits[span.label] = self.edits.get(span.label, 0) + change


@register
class Cut(Stage):
    """Writes what is kept, with the spans of the columns `edits` applied: removed, or replaced by what they say.

    The values of the columns `metadata` go into that of the documents, each by its name, in place of what had it.
    """

    name: ClassVar[str] = "cut"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "corpus"
    added: ClassVar[tuple[str, ...]] = ("metadata",)

    edits: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    row_group_bytes: int = 32 << 20

    def signal_ids(self) -> list[str]:
        """Return the ids of the signals whose columns are read, sorted."""
        return sorted({id_of_column(column) for column in (*self.edits, *self.metadata.values())})

    def inputs(self) -> tuple[str, ...]:
        """Return documents, last verdicts and the side tables with spans."""
        return ("documents", "verdicts", *(f"signals:{name}" for name in self.signal_ids()))

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part of the documents."""
        columns = [planning.part_inputs(role) for role in self.inputs()]
        return [self.task(inputs) for inputs in zip(*columns, strict=True)]

    def run(self, task: Task, store: Store) -> Made:
        """Cut one part."""
        account = _Account()
        path = store.new_file(task, self.table)
        writer = TableWriter(path, CORPUS, {"task": task.key, "stage": self.name}, self.row_group_bytes)
        with table_writers(writer):
            for batch in self._batches(task, store, account):
                writer.write(batch)
            file = writer.close()
        return Made({self.table: file}, account.ledger())

    def _batches(self, task: Task, store: Store, account: _Account) -> Iterator[pa.RecordBatch]:
        (documents,) = input_paths(task, store, "documents")
        (verdicts,) = input_paths(task, store, "verdicts")
        beside: Iterator[tuple[pa.RecordBatch, list[pa.RecordBatch]]] = (
            (batch, []) for batch in read_batches(documents, batch_rows=BATCH_ROWS)
        )
        beside = _beside(beside, verdicts, ["doc_id", "kept", "cluster", "cluster_size"])
        for name in self.signal_ids():
            (path,) = input_paths(task, store, f"signals:{name}")
            wanted = dict.fromkeys((*self.edits, *self.metadata.values()))
            beside = _beside(beside, path, ["doc_id", *(c for c in wanted if id_of_column(c) == name)])
        for batch, (verdict, *signals) in beside:
            kept = pc.fill_null(verdict.column("kept"), False)
            account.drop("verdict", *_tally(batch.column("text_bytes").filter(pc.invert(kept))))
            tables = [table.filter(kept) for table in signals]
            documents_left = self._labelled(batch.filter(kept), tables)
            texts, edited = self._edited(documents_left, tables)
            yield self._corpus_rows(documents_left, verdict.filter(kept), texts, edited, account)

    def _labelled(self, batch: pa.RecordBatch, tables: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
        """Return documents with the values of columns in their metadata."""
        if not self.metadata:
            return batch
        columns = {column: table.column(column) for table in tables for column in table.schema.names}
        values = [columns[column].to_pylist() for column in self.metadata.values()]
        metadata = [
            canonical_json(json.loads(text) | dict(zip(self.metadata, row, strict=True)))
            for text, *row in zip(batch.column("metadata").to_pylist(), *values, strict=True)
        ]
        place = batch.schema.get_field_index("metadata")
        return batch.set_column(place, batch.schema.field(place), pa.array(metadata, pa.string()))

    def _edited(
        self, batch: pa.RecordBatch, tables: Sequence[pa.RecordBatch]
    ) -> tuple[pa.Array, Mapping[int, Sequence[Span]]]:
        """Return the texts after their edits, and the edits of those that have any, by row."""
        texts = batch.column("text")
        columns = {column: table.column(column) for table in tables for column in table.schema.names}
        spans = [columns[column] for column in self.edits]
        rows: set[int] = set()
        for column in spans:
            rows.update(np.flatnonzero(pc.fill_null(pc.list_value_length(column), 0)).tolist())
        edits = {
            row: merge_spans([span for column in spans for span in to_spans(column[row].as_py())])
            for row in sorted(rows)
        }
        if not edits:
            return texts, edits
        changed = [apply_spans(texts[row].as_py(), spans_of_row) for row, spans_of_row in edits.items()]
        where = np.arange(len(texts))
        where[list(edits)] = len(texts) + np.arange(len(edits))
        return pa.chunked_array([texts, pa.array(changed, pa.string())]).take(pa.array(where)).combine_chunks(), edits

    def _corpus_rows(
        self,
        batch: pa.RecordBatch,
        verdict: pa.RecordBatch,
        texts: pa.Array,
        edits: Mapping[int, Sequence[Span]],
        account: _Account,
    ) -> pa.RecordBatch:
        """Return the rows of documents of which something is left, and account for all."""
        left = _with_something(texts)
        account.drop("nothing_left", *_tally(batch.column("text_bytes").filter(pc.invert(left))))
        account.keep(*_tally(batch.column("text_bytes").filter(left)))
        for row, spans in edits.items():
            if left[row].as_py():
                account.edit(spans)
        if left.false_count:
            batch, verdict, texts = batch.filter(left), verdict.filter(left), texts.filter(left)
        sizes = pc.binary_length(texts).cast(pa.int64())
        account.output += Tally(records=len(sizes), bytes=pc.sum(sizes).as_py() or 0)
        made = {"text": texts, "text_bytes": sizes, "split_key": _split_keys(batch)}
        made |= {name: verdict.column(name) for name in ("cluster", "cluster_size")}
        columns = [made[name] if name in made else batch.column(name) for name in CORPUS.names]
        return pa.RecordBatch.from_arrays(columns, schema=CORPUS)


def _split_keys(batch: pa.RecordBatch) -> pa.Array:
    columns = (batch.column(name).to_pylist() for name in ("url", "metadata", "doc_id"))
    keys = [
        split_key(url, json.loads(metadata).get("parent") if _PARENT in metadata else None, doc_id)
        for url, metadata, doc_id in zip(*columns, strict=True)
    ]
    return pa.array(keys, pa.string())


def _with_something(texts: pa.Array) -> pa.Array:
    """Return whether each text has more than white space, which for nearly all their first bytes tell."""
    left = pc.match_substring_regex(texts, "[!-~]").to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(~left).tolist():
        left[row] = bool(texts[row].as_py().strip())
    return pa.array(left)


def _tally(sizes: pa.Array) -> tuple[int, int]:
    """Return how many there are, and their sum."""
    return len(sizes), pc.sum(sizes).as_py() or 0


def _beside(
    batches: Iterator[tuple[pa.RecordBatch, list[pa.RecordBatch]]], path: Path, columns: list[str]
) -> Iterator[tuple[pa.RecordBatch, list[pa.RecordBatch]]]:
    """Yield each batch of documents with the tables beside it and the same rows of one more."""
    first, second = tee(batches)
    found = rows_beside(path, columns, (batch for batch, _ in first))
    for (batch, tables), (_, table) in zip((pair for pair in second if pair[0].num_rows), found, strict=True):
        same_rows(batch.column("doc_id"), table.column("doc_id"), path)
        yield batch, [*tables, table]
