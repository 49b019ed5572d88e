"""Judge: verdicts of one part, from rules over side tables or from what a global stage found.

Verdict follows verdict: each table carries on what earlier stages decided (`kept` becomes null for what they dropped),
so that the last one alone tells `cut` what to keep. No text is read, and no document becomes a Python object: a changed
threshold is as cheap as reading the columns again.
"""

from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.filters.judging import failures, first_failures
from headrace.filters.rules import Rule
from headrace.pipeline.schema import FINDINGS, VERDICTS, Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_aligned, read_columns, same_rows, write_table
from headrace.pipeline.views import roles_of_columns

Judged = tuple[pa.Table, dict[str, int | str]]


class Verdicts(Stage):
    """What all kinds of judging share: start from the earlier verdicts, end with a table and its ledger."""

    version: ClassVar[int] = 2
    table: ClassVar[str] = "verdicts"

    def run(self, task: Task, store: Store) -> Made:
        """Judge one part."""
        verdicts, facts = self.judge(earlier_verdicts(task, store), task, store)
        batches = verdicts.combine_chunks().to_batches()
        file = write_table(store.new_file(task, self.table), VERDICTS, batches, {"task": task.key})
        return Made({self.table: file}, verdict_ledger(verdicts), facts)

    def judge(self, verdicts: pa.Table, task: Task, store: Store) -> Judged:
        """Return the verdicts of all rows, and facts about them."""
        raise NotImplementedError


@register
class Rules(Verdicts):
    """Drops each document that fails a rule; the first in the recipe's order is its reason, all of them are noted."""

    name: ClassVar[str] = "rules"

    rules: tuple[dict[str, Any], ...]

    def parsed(self) -> list[Rule]:
        """Return the rules as models."""
        return [Rule.model_validate(rule) for rule in self.rules]

    def columns_by_role(self) -> dict[str, list[str]]:
        """Return the columns that the rules read, sorted, by the role of the table that holds them."""
        return roles_of_columns(column for rule in self.parsed() for column in rule.columns)

    def inputs(self) -> tuple[str, ...]:
        """Return the earlier verdicts and the tables that the rules read."""
        return ("verdicts", *self.columns_by_role())

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        columns = [planning.part_inputs(role) for role in self.inputs()]
        return [self.task(inputs) for inputs in zip(*columns, strict=True)]

    def judge(self, verdicts: pa.Table, task: Task, store: Store) -> Judged:
        """Apply all rules to whole columns, then note what each document fails that was not dropped before."""
        columns: dict[str, pa.ChunkedArray] = {}
        for role, names in self.columns_by_role().items():
            (path,) = input_paths(task, store, role)
            columns |= read_aligned(path, names, verdicts.column("doc_id"))
        rules, judged = self.parsed(), verdicts.column("kept").is_valid().to_numpy()
        failed = failures(rules, columns) & judged[:, np.newaxis]
        first = first_failures(failed)
        reasons = pa.array([rule.reason for rule in rules], pa.string())
        columns = {
            "kept": pa.array(first < 0, mask=~judged),
            "reason": reasons.take(pa.array(first, mask=first < 0)),
            "failed": _numbers_of(failed, judged),
        }
        return _replace(verdicts, **columns), {}


def _numbers_of(failed: np.ndarray[Any, Any], judged: np.ndarray[Any, Any]) -> pa.Array:
    """Return for each row the numbers of the columns that are true, null where nothing was judged."""
    offsets = np.concatenate([[0], np.cumsum(failed.sum(axis=1))])
    numbers = pa.array(np.nonzero(failed)[1].astype(np.int16))
    offsets = pa.array(offsets.astype(np.int32), mask=np.append(~judged, False))
    return pa.ListArray.from_arrays(offsets, numbers)


@register
class Adopt(Verdicts):
    """Turns what a global stage found into the verdicts of one part."""

    name: ClassVar[str] = "adopt"

    findings: str
    first_row: int = 0

    def inputs(self) -> tuple[str, ...]:
        """Return the findings and the earlier verdicts; the first verdicts start from the documents."""
        return (f"findings:{self.findings}", "documents" if self.findings == "distinct" else "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part; where its rows begin among all tells which findings are its own."""
        (findings,) = planning.part_inputs(self.inputs()[0])
        parts = planning.part_inputs(self.inputs()[1])
        manifest = planning.upstream[self.inputs()[1]]
        rows = [part.files[manifest.table].rows or 0 for part in manifest.parts]
        return [
            self.task([findings, part], first_row=end - count)
            for part, count, end in zip(parts, rows, accumulate(rows), strict=True)
        ]

    def judge(self, verdicts: pa.Table, task: Task, store: Store) -> Judged:
        """Copy reason, evidence, survivor and cluster to the rows that the findings name."""
        (path,) = input_paths(task, store, f"findings:{self.findings}")
        found = findings_within(path, self.first_row, verdicts.num_rows)
        rows = found.column("row").to_numpy() - self.first_row
        same_rows(verdicts.column("doc_id").take(rows), found.column("doc_id"), path)
        dropped = found.column("reason").is_valid()
        kept = pc.if_else(dropped, False, verdicts.column("kept").take(rows))
        columns = {name: found.column(name) for name in ("reason", "evidence", "survivor", "cluster", "cluster_size")}
        return overlay(verdicts, rows, kept=kept, **columns), {}


def overlay(verdicts: pa.Table, rows: np.ndarray[Any, Any], **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return verdicts with other values of some columns at some rows."""
    return _replace(
        verdicts, **{name: _overlay(verdicts.column(name), rows, values) for name, values in columns.items()}
    )


def _overlay(
    column: pa.ChunkedArray, rows: np.ndarray[Any, Any], values: pa.Array | pa.ChunkedArray
) -> pa.ChunkedArray:
    """Return a column with other values at some rows."""
    where = np.arange(len(column))
    where[rows] = len(column) + np.arange(len(rows))
    added = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    return pa.chunked_array([*column.chunks, *added], column.type).take(pa.array(where))


def _replace(table: pa.Table, **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return a table of verdicts with other columns in place of its own."""
    return pa.Table.from_arrays([columns.get(name, table.column(name)) for name in VERDICTS.names], schema=VERDICTS)


def earlier_verdicts(task: Task, store: Store) -> pa.Table:
    """Return one row a document: kept, or null where an earlier stage dropped it (its reason stays with that stage)."""
    paths = input_paths(task, store, "verdicts")
    if paths:
        columns = ["doc_id", "kept", "cluster", "cluster_size", "text_bytes"]
        table = read_columns(paths[0], columns)
    else:  # the first verdicts: everything is kept so far
        (path,) = input_paths(task, store, "documents")
        table = read_columns(path, ["doc_id", "text_bytes"])
        table = table.append_column("kept", pa.chunked_array([np.ones(table.num_rows, dtype=bool)]))
    kept = pc.if_else(pc.equal(table.column("kept"), True), True, pa.scalar(None, pa.bool_()))
    known = {name: table.column(name) for name in table.column_names} | {"kept": kept}
    nothing = {field.name: pa.nulls(table.num_rows, field.type) for field in VERDICTS}
    return pa.Table.from_arrays([{**nothing, **known}[name] for name in VERDICTS.names], schema=VERDICTS)


def findings_within(path: Path, first_row: int, num_rows: int) -> pa.Table:
    """Return the findings about a stretch of documents."""
    end, found = first_row + num_rows, [FINDINGS.empty_table()]
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for index in range(file.num_row_groups):
            known = file.metadata.row_group(index).column(0).statistics  # of `row`, which ascends
            if known is None or (known.min < end and known.max >= first_row):
                rows = file.read_row_group(index)
                number = rows.column("row")
                found.append(rows.filter(pc.and_(pc.greater_equal(number, first_row), pc.less(number, end))))
    return pa.concat_tables([table.cast(FINDINGS) for table in found])


def verdict_ledger(verdicts: pa.Table) -> Ledger:
    """Return the ledger of one part's verdicts, in documents and text bytes."""
    grouped = verdicts.group_by(["kept", "reason"], use_threads=False)
    groups = grouped.aggregate([("text_bytes", "sum"), ("text_bytes", "count")]).to_pylist()
    tallies = {
        (group["kept"], group["reason"]): Tally(records=group["text_bytes_count"], bytes=group["text_bytes_sum"])
        for group in groups
    }
    kept = tallies.get((True, None), Tally())
    return Ledger(
        input=sum(tallies.values(), Tally()),
        kept=kept,
        dropped={reason: tally for (one, reason), tally in sorted(tallies.items(), key=str) if one is False},
        passed=tallies.get((None, None), Tally()),
        output=kept,
    )
