"""The index of a corpus, by which later documents are compared with it: its hashes by part, its band keys by range.

It is made of what finding duplicates left in the store, with a name that recipes call it by (`against`). To add a crawl
then costs a look-up of the crawl's own keys, and the corpus is not read.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from headrace.pipeline.dedup.entries import Bools, Entries, fixed_hashes
from headrace.pipeline.dedup.indexed import documents_to_bytes, keys_to_bytes
from headrace.pipeline.doc_ids import id_words
from headrace.pipeline.schema import Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows
from headrace.pipeline.views import role_of_column


@register
class IndexDocuments(Stage):
    """Gathers ids and hashes (`column`, of `bits` each) of the documents of one part that a corpus holds."""

    name: ClassVar[str] = "index_documents"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "indexed"

    column: str
    bits: Literal[32, 64] = 64

    def inputs(self) -> tuple[str, ...]:
        """Return the hashes and the last verdicts."""
        return (role_of_column(self.column), "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        columns = [planning.part_inputs(role) for role in self.inputs()]
        return [self.task(inputs) for inputs in zip(*columns, strict=True)]

    def run(self, task: Task, store: Store) -> Made:
        """Gather one part."""
        (signals,), (verdicts,) = (input_paths(task, store, role) for role in self.inputs())
        table, kept = read_columns(signals, ["doc_id", self.column]), read_columns(verdicts, ["doc_id", "kept"])
        same_rows(kept.column("doc_id"), table.column("doc_id"), signals)
        chosen = table.filter(kept.column("kept").fill_null(False))
        signed = chosen.filter(chosen.column(self.column).is_valid())
        hashes = fixed_hashes(signed.column(self.column), self.bits, signals)
        data = documents_to_bytes(id_words(signed.column("doc_id")), hashes)
        total = Tally(records=table.num_rows)
        return Made({self.table: store.put_file(task, self.table, data, ".indexed")}, Ledger(input=total, kept=total))


@register
class IndexKeys(Stage):
    """Gathers the band keys of one of `partitions` ranges; `measured` says what the hashes are, `scope` as in bands."""

    name: ClassVar[str] = "index"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "keys"
    added: ClassVar[tuple[str, ...]] = ("scope",)

    column: str
    bands: int
    rows: int
    bits: Literal[32, 64] = 64
    measured: dict[str, Any]
    scope: tuple[str, ...] = ()
    partition: int = Field(default=0, ge=0)
    partitions: int = Field(default=1, ge=1)

    def inputs(self) -> tuple[str, ...]:
        """Return the entries, the last verdicts, and the documents as they are numbered."""
        return ("bands", "verdicts", "indexed")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a range of keys."""
        items = [item for role in self.inputs()[:2] for item in planning.part_inputs(role)]
        return [self.task(items, partition=number) for number in range(self.partitions)]

    def run(self, task: Task, store: Store) -> Made:
        """Gather one range."""
        keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        first = 0
        for entries, kept in self._parts(task, store):
            indexed = np.zeros(len(kept), dtype=bool)
            indexed[entries.rows] = True  # not sorted, because every range of keys looks at all rows
            indexed &= kept
            ends = np.cumsum(indexed) + first
            mine = entries.between(self.partition, self.partitions)
            chosen = indexed[mine.rows]
            keys.append(np.asarray(mine.keys)[chosen])
            numbers.append(ends[np.asarray(mine.rows)[chosen]].astype(np.uint64) - np.uint64(1))
            first = int(ends[-1]) if len(ends) else first
        data = keys_to_bytes(np.concatenate(keys), np.concatenate(numbers))
        return Made({self.table: store.put_file(task, self.table, data, ".keys")}, Ledger())

    def _parts(self, task: Task, store: Store) -> Iterator[tuple[Entries, Bools]]:
        for bands, verdicts in zip(*(input_paths(task, store, role) for role in self.inputs()[:2]), strict=True):
            kept = read_columns(verdicts, ["kept"]).column("kept").fill_null(False).to_numpy()
            yield Entries.open(bands), kept
