"""Named rules: published sets that come with Headrace, composed with each other, with own rules and with changes.

A set is one TOML file in `filters/rule_sets`: rules in the grammar of recipes, the sets that they continue, and bounds
for documents with certain labels, written as one table a label (`by`). Composing ends in a plain list of rules; nothing
after it knows where a rule came from.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from headrace.filters.overrides import make_override, override_rules
from headrace.filters.rules import Bounds, Rule, RuleError, given_keys, near_miss, parse_rule

Tables = dict[str, dict[str, dict[str, Bounds]]]
"""Bounds by column, by its value, by the reason or column of the rule that they are for."""

REMOVED = "none"
"""What a changed key is set to, to take it away."""


class RuleSet(BaseModel):
    """A set as its file has it: what it is, where it was published, sets that come before its rules, rules, bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str
    source: str
    sets: list[str] = []
    rules: list[Rule] = Field(min_length=1)
    by: Tables = {}

    def composed(self) -> list[Rule]:
        """Return all rules of the set, in order."""
        return compose_rules(self.sets, self.rules, self.by)


def rule_set_names() -> list[str]:
    """Return the names of all sets, sorted."""
    folder = files("headrace.filters.rule_sets")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


@cache
def load_rule_set(name: str) -> RuleSet:
    """Return a set by name; raises RuleError, with the near miss, where there is none."""
    known = rule_set_names()
    if name not in known:
        raise RuleError(f"no rule set {name!r}{near_miss(name, known)}; there are {', '.join(known)}")
    text = (files("headrace.filters.rule_sets") / f"{name}.toml").read_text(encoding="utf-8")
    return RuleSet.model_validate(tomllib.loads(text))


def compose_rules(
    sets: Iterable[str], rules: Iterable[Rule] = (), by: Tables | None = None, changes: Mapping[str, Any] | None = None
) -> list[Rule]:
    """Return the rules of sets, then other rules, each once, with bounds by label and changed keys.

    Args:
        sets: Names of sets, in order.
        rules: Rules that are asked after them.
        by: Bounds for documents with certain labels, in place of what the sets say of them.
        changes: New values by `COLUMN.KEY`, as `--set` takes them; `"none"` takes a key away.

    Raises:
        RuleError: there is no such set, or bounds or changes name no rule, or more than one, or cannot be.
    """
    composed: list[Rule] = []
    for rule in (*(rule for name in sets for rule in load_rule_set(name).composed()), *rules):
        if rule not in composed:
            composed.append(rule)
    composed = _with_tables(composed, by or {})
    overrides = [make_override(name, None if value == REMOVED else value) for name, value in (changes or {}).items()]
    return override_rules(composed, overrides)


def _with_tables(rules: Sequence[Rule], by: Tables) -> list[Rule]:
    """Return the rules with bounds by label."""
    changed = list(rules)
    for column, label, name, bounds in _entries(by):
        number = _meant(changed, name)
        data = given_keys(changed[number])
        known = data.get("by", {column: {}})
        if column not in known:
            raise RuleError(f"the rule {name!r} already goes by {next(iter(known))!r}, so it cannot go by {column!r}")
        labels = {**known[column], label: bounds.model_dump(by_alias=True, exclude_defaults=True)}
        changed[number] = parse_rule({**data, "by": {column: labels}})
    return changed


def _entries(by: Tables) -> Iterator[tuple[str, str, str, Bounds]]:
    for column, labels in by.items():
        for label, table in labels.items():
            for name, bounds in table.items():
                yield column, label, name, bounds


def _meant(rules: Sequence[Rule], name: str) -> int:
    """Return the number of the one rule with this reason or over this column."""
    found = [n for n, rule in enumerate(rules) if rule.reason == name]
    found = found or [n for n, rule in enumerate(rules) if rule.column == name]
    if len(found) == 1:
        return found[0]
    known = dict.fromkeys([*(rule.reason for rule in rules), *(rule.column for rule in rules)])
    what = f"{len(found)} rules are called" if found else "no rule is called"
    raise RuleError(f"by: {what} {name!r}{'' if found else near_miss(name, known)}; name a rule's reason")
