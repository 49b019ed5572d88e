"""What rules saw: the values that an artifact of verdicts was judged by, read again from the side tables.

A verdict stores the numbers of the rules that a document failed and nothing else about them: the rules stand in the
manifest's config, and the values where they were measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.filters.rules import Rule
from headrace.pipeline.schema import Manifest
from headrace.pipeline.side_tables import SideTables, Value
from headrace.pipeline.store import Store


@dataclass(frozen=True)
class Failed:
    """A rule that a document fails: the step, the rule's reason and column, the value, and what it allows."""

    step: str
    reason: str
    column: str
    value: Value
    limits: Mapping[str, Any]

    @property
    def evidence(self) -> dict[str, Any]:
        """What a person must see to agree: the column, its value and the limits."""
        return {"column": self.column, "value": self.value, **self.limits}


def failed_rule(step: str, rule: Rule, values: Mapping[str, Value]) -> Failed:
    """Describe how a document with these values of the rule's columns fails it."""
    bounds = rule.bounds_for(values)
    special = {name: values[name] for name in rule.by or () if bounds is not rule}
    return Failed(step, rule.reason, rule.column, values[rule.column], {**bounds.limits(), **special})


@dataclass(frozen=True)
class RuleValues:
    """The rules of one artifact of verdicts, and what they saw."""

    manifest: Manifest
    store: Store

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in order; verdicts name them by their number."""
        return tuple(Rule.model_validate(data) for data in self.manifest.config["rules"])

    @cached_property
    def _tables(self) -> SideTables:
        return SideTables.of([self.manifest], self.store)

    def row(self, part: int, row: int) -> dict[str, Value]:
        """Return the values of one document by column."""
        return self._tables.row([column for rule in self.rules for column in rule.columns], part, row)

    def failed(self, part: int, row: int, numbers: Sequence[int]) -> Iterator[Failed]:
        """Describe the rules of these numbers as a document fails them."""
        values = self.row(part, row) if numbers else {}
        for number in numbers:
            yield failed_rule(self.manifest.name, self.rules[number], values)
