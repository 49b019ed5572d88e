"""Bands: the band keys of one part's hashes, sorted, for all documents whatever became of them.

The first of three stages that find duplicates: bands (a task a part), buckets (a task a range of keys), duplicates (one
task over what is left). Keys do not depend on verdicts, so other rules find them made.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from headrace.pipeline.dedup.entries import Entries, Uint64s, fixed_hashes, make_entries
from headrace.pipeline.dedup.scopes import number_scopes
from headrace.pipeline.errors import StoreError
from headrace.pipeline.schema import Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_aligned, read_batches, read_columns
from headrace.pipeline.views import role_of_column, roles_of_columns

BATCH_ROWS = 16_384
_MOST_ROWS = 1 << 32
_NO_ROWS = np.zeros(0, np.uint32)


@register
class Bands(Stage):
    """Cuts the hashes of `column`, of `bits` each, into `bands` of `rows`; documents of other `scope` share no key."""

    name: ClassVar[str] = "bands"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "bands"

    column: str
    bands: int = Field(ge=1)
    rows: int = Field(ge=1)
    bits: Literal[32, 64] = 64
    scope: tuple[str, ...] = ()

    def inputs(self) -> tuple[str, ...]:
        """Return the table of the hashes, and those of the columns that make the scope."""
        return tuple(dict.fromkeys([role_of_column(self.column), *roles_of_columns(self.scope)]))

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        columns = [planning.part_inputs(role) for role in self.inputs()]
        return [self.task(inputs) for inputs in zip(*columns, strict=True)]

    def run(self, task: Task, store: Store) -> Made:
        """Make and sort the entries of one part."""
        (path,) = input_paths(task, store, self.inputs()[0])
        documents = read_columns(path, ["doc_id", "text_bytes"])
        if documents.num_rows >= _MOST_ROWS:
            raise StoreError(
                f"{path}: more than {_MOST_ROWS - 1} rows; give smaller files, or a smaller task_mebibytes"
            )
        pieces = list(self._pieces(path, self._scopes(task, store, documents.column("doc_id"))))
        keys, rows = ([getattr(piece, name) for piece in pieces] for name in ("keys", "rows"))
        entries = Entries.of(np.concatenate([np.zeros(0, np.uint64), *keys]), np.concatenate([_NO_ROWS, *rows]))
        file = store.put_file(task, self.table, entries.to_bytes(), ".entries")
        total = Tally(records=documents.num_rows, bytes=pc.sum(documents.column("text_bytes")).as_py() or 0)
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def _pieces(self, path: Path, scopes: Uint64s | None) -> Iterator[Entries]:
        """Yield the entries of one batch of rows after the other."""
        first = 0
        for batch in read_batches(path, [self.column], batch_rows=BATCH_ROWS):
            column = batch.column(self.column)
            rows = first + np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            hashes = fixed_hashes(column.drop_null(), self.bits, path)
            chosen = None if scopes is None else scopes[rows]
            yield make_entries(hashes, rows.astype(np.uint32), chosen, (self.bands, self.rows))
            first += batch.num_rows

    def _scopes(self, task: Task, store: Store, doc_ids: pa.ChunkedArray) -> Uint64s | None:
        """Return the number of each row's scope, None where all have one."""
        found: dict[str, pa.ChunkedArray] = {}
        for role, names in roles_of_columns(self.scope).items():
            (path,) = input_paths(task, store, role)
            found |= read_aligned(path, names, doc_ids)
        return number_scopes([found[name] for name in self.scope]) if self.scope else None
