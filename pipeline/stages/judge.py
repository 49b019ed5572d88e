"""Judge: verdicts of one part, from rules over side tables or from what a global stage found.

Verdict follows verdict: each table carries on what earlier stages decided (`kept` becomes null for what they dropped),
so that the last one alone tells `cut` what to keep. No text is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.filters.rules import Rule, apply_rule
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import VERDICTS, Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches, read_columns, same_rows, write_table
from headrace.pipeline.views import id_of_column

Row = dict[str, Any]


class _Verdicts(Stage):
    """What both kinds of judging share: start from the earlier verdicts, end with a table and its ledger."""

    version: ClassVar[int] = 1
    table: ClassVar[str] = "verdicts"

    def run(self, task: Task, store: Store) -> Made:
        """Judge one part."""
        rows = self.judge(earlier_verdicts(task, store), task, store)
        path = store.new_file(task, self.table)
        batch = pa.RecordBatch.from_pylist(rows, schema=VERDICTS)
        return Made({self.table: write_table(path, VERDICTS, [batch], {"task": task.key})}, verdict_ledger(rows))

    def judge(self, rows: list[Row], task: Task, store: Store) -> list[Row]:
        """Return the verdicts of all rows."""
        raise NotImplementedError


@register
class Rules(_Verdicts):
    """Drops each document at the first rule, in the recipe's order, that it does not pass."""

    name: ClassVar[str] = "rules"

    rules: tuple[dict[str, Any], ...]

    def parsed(self) -> list[Rule]:
        """Return the rules as models."""
        return [Rule.model_validate(rule) for rule in self.rules]

    def columns_by_role(self) -> dict[str, list[str]]:
        """Return the columns that the rules read, sorted, by the role of the table that holds them."""
        roles: dict[str, list[str]] = {}
        for column in sorted({column for rule in self.parsed() for column in rule.columns}):
            signal = id_of_column(column)
            roles.setdefault(f"signals:{signal}" if signal else "documents", []).append(column)
        return roles

    def inputs(self) -> tuple[str, ...]:
        """Return the earlier verdicts and the tables that the rules read."""
        return ("verdicts", *self.columns_by_role())

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        columns = [planning.part_inputs(role) for role in self.inputs()]
        return [self.task(inputs) for inputs in zip(*columns, strict=True)]

    def judge(self, rows: list[Row], task: Task, store: Store) -> list[Row]:
        """Apply the rules to whole columns, then name each document's first failure."""
        columns = self._columns([row["doc_id"] for row in rows], task, store)
        undecided = np.array([row["kept"] is True for row in rows], dtype=bool)
        for rule in self.parsed():
            failed = undecided & ~apply_rule(rule, columns)
            for index in np.flatnonzero(failed):
                evidence = rule_evidence(rule, columns[rule.column][int(index)])
                rows[index] |= {"kept": False, "reason": rule.reason, "evidence": evidence}
            undecided &= ~failed
        return rows

    def _columns(self, doc_ids: Sequence[str], task: Task, store: Store) -> Mapping[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {}
        for role, names in self.columns_by_role().items():
            (path,) = input_paths(task, store, role)
            table = read_columns(path, ["doc_id", *names])
            same_rows(doc_ids, table.column("doc_id").to_pylist(), path)
            columns |= {name: table.column(name).to_pylist() for name in names}
        return columns


@register
class Adopt(_Verdicts):
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

    def judge(self, rows: list[Row], task: Task, store: Store) -> list[Row]:
        """Copy reason, evidence, survivor and cluster to the rows that the findings name."""
        (path,) = input_paths(task, store, f"findings:{self.findings}")
        for found in findings_within(path, self.first_row, len(rows)):
            row = rows[found["row"] - self.first_row]
            same_rows([row["doc_id"]], [found["doc_id"]], path)
            row |= {"cluster": found["cluster"], "cluster_size": found["cluster_size"]}
            if found["reason"] is not None:
                row |= {"kept": False} | {key: found[key] for key in ("reason", "evidence", "survivor")}
        return rows


def earlier_verdicts(task: Task, store: Store) -> list[Row]:
    """Return one row a document: kept, or null where an earlier stage dropped it (its reason stays with that stage)."""
    paths = input_paths(task, store, "verdicts")
    if not paths:  # the first verdicts: everything is kept so far
        (path,) = input_paths(task, store, "documents")
        table = read_columns(path, ["doc_id", "text_bytes"])
        return [dict.fromkeys(VERDICTS.names) | {"kept": True} | row for row in table.to_pylist()]
    rows: list[Row] = read_columns(paths[0]).to_pylist()
    nothing = dict.fromkeys(("reason", "evidence", "survivor"))
    return [row | nothing | {"kept": True if row["kept"] else None} for row in rows]


def findings_within(path: Any, first_row: int, num_rows: int) -> Iterator[Row]:
    """Yield the findings about a stretch of documents; the others, which are of all parts, never become objects."""
    for batch in read_batches(path):
        number = batch.column("row")
        inside = pc.and_(pc.greater_equal(number, first_row), pc.less(number, first_row + num_rows))
        yield from batch.filter(inside).to_pylist()


def rule_evidence(rule: Rule, value: Any) -> str:
    """Return what a person must see to agree with a drop: the value and what the rule allows, as JSON."""
    bounds = {key: limit for key in ("min", "max") if (limit := getattr(rule, key)) is not None}
    allowed = {"in": list(rule.in_)} if rule.in_ is not None else {}
    return canonical_json({"column": rule.column, "value": value, **bounds, **allowed})


def verdict_ledger(rows: Sequence[Row]) -> Ledger:
    """Return the ledger of one part's verdicts, in documents and text bytes."""
    kept, passed, everything = Tally(), Tally(), Tally()
    dropped: dict[str, Tally] = {}
    for row in rows:
        one = Tally(records=1, bytes=row["text_bytes"])
        everything += one
        if row["kept"]:
            kept += one
        elif row["kept"] is None:
            passed += one
        else:
            dropped[row["reason"]] = dropped.get(row["reason"], Tally()) + one
    return Ledger(input=everything, kept=kept, dropped=dropped, passed=passed, output=kept)
