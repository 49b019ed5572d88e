"""Cut: the corpus. One aligned join of documents, their last verdict and the spans that edit them.

The second and last time that text is written. Removal beats redaction; a document that nothing is left of is dropped
here, with that reason.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from headrace.filters.spans import apply_spans, merge_spans
from headrace.pipeline.schema import CORPUS, Ledger, Tally, Task
from headrace.pipeline.split import split_key
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import TableWriter, read_batches, same_rows, table_writers
from headrace.pipeline.views import id_of_column, to_spans

BATCH_ROWS = 512


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

    def drop(self, reason: str, num_bytes: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, Tally()) + Tally(records=1, bytes=num_bytes)


@register
class Cut(Stage):
    """Writes what is kept, with the spans of the columns `edits` applied: removed, or replaced by what they say."""

    name: ClassVar[str] = "cut"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "corpus"

    edits: tuple[str, ...] = ()
    row_group_bytes: int = 32 << 20

    def signal_ids(self) -> list[str]:
        """Return the ids of the signals whose spans edit the text, sorted."""
        return sorted({id_of_column(column) for column in self.edits})

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
        verdict_rows = _aligned(verdicts, ["doc_id", "kept", "cluster", "cluster_size"])
        span_rows = [
            _aligned(path, ["doc_id", *columns])
            for name in self.signal_ids()
            for path in input_paths(task, store, f"signals:{name}")
            if (columns := [c for c in self.edits if id_of_column(c) == name])
        ]
        for batch in read_batches(documents, batch_rows=BATCH_ROWS):
            rows = []
            for document in batch.to_pylist():
                verdict = next(verdict_rows)
                spans = [next(source) for source in span_rows]
                for other in (verdict, *spans):
                    same_rows([document["doc_id"]], [other["doc_id"]], verdicts)
                rows += self._cut(document, verdict, spans, account)
            yield pa.RecordBatch.from_pylist(rows, schema=CORPUS)

    def _cut(
        self,
        document: dict[str, Any],
        verdict: Mapping[str, Any],
        spans: Sequence[Mapping[str, Any]],
        account: _Account,
    ) -> list[dict[str, Any]]:
        """Return the corpus row of a document, or nothing where it is dropped."""
        if not verdict["kept"]:
            account.drop("verdict", document["text_bytes"])
            return []
        edits = merge_spans([span for row in spans for column in self.edits for span in to_spans(row.get(column))])
        text = apply_spans(document["text"], edits)
        if not text.strip():
            account.drop("nothing_left", document["text_bytes"])
            return []
        account.kept += Tally(records=1, bytes=document["text_bytes"])
        for span in edits:
            change = len((span.replacement or "").encode()) - (span.end - span.start)
            account.edits[span.label] = account.edits.get(span.label, 0) + change
        num_bytes = len(text.encode())
        account.output += Tally(records=1, bytes=num_bytes)
        parent = json.loads(document["metadata"]).get("parent")
        key = split_key(document["url"], parent, document["doc_id"])
        cluster = {name: verdict[name] for name in ("cluster", "cluster_size")}
        return [document | cluster | {"text": text, "text_bytes": num_bytes, "split_key": key}]


def _aligned(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in read_batches(path, columns):
        yield from batch.to_pylist()
