"""What rules saw: the values that an artifact of verdicts was judged by, read again from the side tables.

A verdict stores the numbers of the rules that a document failed and nothing else about them: the rules stand in the
manifest's config, and the values where they were measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from headrace.filters.rules import Rule
from headrace.pipeline.rows import read_row
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_columns, same_rows
from headrace.pipeline.views import roles_of_columns


@dataclass(frozen=True)
class Failed:
    """A rule that a document fails: the step, the rule's reason and column, the value, and what it allows."""

    step: str
    reason: str
    column: str
    value: int | float | bool | str | None
    limits: Mapping[str, Any]

    @property
    def evidence(self) -> dict[str, Any]:
        """What a person must see to agree: the column, its value and the limits."""
        return {"column": self.column, "value": self.value, **self.limits}


def failed_rule(step: str, rule: Rule, values: Mapping[str, Any]) -> Failed:
    """Describe how a document with these values of the rule's columns fails it."""
    bounds = rule.bounds_for(values)
    special = {name: values[name] for name in rule.by or () if bounds is not rule}
    return Failed(step, rule.reason, rule.column, values[rule.column], {**bounds.limits(), **special})


@dataclass(frozen=True)
class RuleValues:
    """The rules of one artifact of verdicts, and the tables that they look at."""

    manifest: Manifest
    store: Store

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in order; verdicts name them by their number."""
        return tuple(Rule.model_validate(data) for data in self.manifest.config["rules"])

    @cached_property
    def _tables(self) -> dict[str, tuple[Manifest, list[str]]]:
        """Each table that a rule looks at, by role, with the columns that are looked at."""
        upstream = {item.role: item for item in self.manifest.inputs}
        roles = roles_of_columns(column for rule in self.rules for column in rule.columns)
        folders = {role: self.store.artifact_folder(upstream[role].stage, upstream[role].key) for role in roles}
        return {role: (Manifest.load(folders[role] / MANIFEST), columns) for role, columns in roles.items()}

    def row(self, part: int, row: int) -> dict[str, Any]:
        """Return the values of one document by column."""
        values: dict[str, Any] = {}
        for table, columns in self._tables.values():
            values |= read_row(self.store.part_path(table, part), row, columns)
        return values

    def columns(self, part: int, doc_ids: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
        """Return all columns of one part; raises IntegrityError where they are not those of these documents."""
        values: dict[str, pa.ChunkedArray] = {}
        for table, columns in self._tables.values():
            path = self.store.part_path(table, part)
            found = read_columns(path, ["doc_id", *columns])
            same_rows(doc_ids, found.column("doc_id"), path)
            values |= {name: found.column(name) for name in columns}
        return values

    def failed(self, part: int, row: int, numbers: Sequence[int]) -> Iterator[Failed]:
        """Describe the rules of these numbers as a document fails them."""
        values = self.row(part, row) if numbers else {}
        for number in numbers:
            yield failed_rule(self.manifest.name, self.rules[number], values)
