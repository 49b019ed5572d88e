"""Overrides: one change to one rule, as a command line (`--set`) or a recipe (`set`) writes it.

Two forms: `COLUMN.KEY=VALUE` replaces a key of a rule, `COLUMN <= VALUE` (or `<`, `>=`, `>`, `in [...]`) one of its
bounds. The view of a column may be left out where only one rule's column could be meant.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.filters.rules import ColumnId, Rule, RuleError, given_keys, near_miss, parse_rule, rule_keys

_ASSIGNMENT = re.compile(r"(?P<column>[^<>=\s]+)\.(?P<key>[A-Za-z_]+)\s*=(?P<value>(?!=).*)", re.DOTALL)
_COMPARISON = re.compile(r"(?P<column>[^<>=\s]+)(?:\s*(?P<sign><=|>=|<|>)|\s+in\b)\s*(?P<value>[^=\s].*)", re.DOTALL)
_BOUNDS = {"<=": ("max", None), "<": ("max", True), ">=": ("min", None), ">": ("min", True)}
"""The bound that a sign sets, and whether it is open (None: the key is taken away)."""


class RuleOverride(NamedTuple):
    """New values for some keys of the rule over a column; None takes a key away. `key` is the one that says which."""

    column: str
    key: str
    changes: Mapping[str, Any]


def parse_rule_override(text: str) -> RuleOverride:
    """Read `gopher_quality.num_words.min=60` or `fineweb@c4.short_line_ratio <= 0.5`.

    A value is TOML (`0.3`, `true`, `["en", "de"]`); after `=` also a bare word for a string, or `none` to take the key
    away. Raises RuleError, for an unknown key with the key that was probably meant.
    """
    comparison = _COMPARISON.fullmatch(text.strip())
    if comparison is not None:
        return _compared(
            comparison["column"], comparison["sign"] or "in", _parse_value(comparison["value"].strip()), text
        )
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        raise RuleError(
            f"{text!r} is no override; write COLUMN.KEY=VALUE, as in gopher_quality.num_words.min=60, "
            "or a comparison, as in 'gopher_quality.num_words >= 60'"
        )
    return make_override(f"{match['column']}.{match['key']}", _parse_value(match["value"].strip()))


def make_override(name: str, value: Any) -> RuleOverride:
    """Return the override of `COLUMN.KEY` by a value; raises RuleError for an unknown key."""
    column, _, key = name.rpartition(".")
    column = str(ColumnId.parse(column))
    if key not in rule_keys() or key == "column":
        keys = [key for key in rule_keys() if key != "column"]
        raise RuleError(f"{name!r}: a rule has no key {key!r}{near_miss(key, keys)}; it has {', '.join(keys)}")
    return RuleOverride(column, key, {key: value})


def _compared(column: str, sign: str, value: Any, text: str) -> RuleOverride:
    column = str(ColumnId.parse(column))
    if sign == "in":
        if not isinstance(value, list):
            raise RuleError(f'{text!r}: after `in` stands a list, as in \'language.label in ["en", "de"]\'')
        return RuleOverride(column, "in", {"in": value})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RuleError(f"{text!r}: {value!r} is no number; for labels and flags write COLUMN in [...]")
    key, is_open = _BOUNDS[sign]
    return RuleOverride(column, key, {key: value, f"{key}_open": is_open})


def _parse_value(text: str) -> Any:
    if text == "none":
        return None
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
        return value
    except ValueError:
        if re.fullmatch(r"[A-Za-z_][\w-]*", text):
            return text
        raise RuleError(f"{text!r} is neither a TOML value nor a bare word") from None


def override_rules(rules: Sequence[Rule], overrides: Iterable[RuleOverride]) -> list[Rule]:
    """Return the rules with some keys replaced, one override after the other; a rule is checked when all are done.

    Of several rules over the column, the one that already has the key is meant.

    Raises:
        RuleError: no rule judges the column, more than one could be meant, or what a rule ends as cannot be.
    """
    data = [given_keys(rule) for rule in rules]
    changed: set[int] = set()
    for override in overrides:
        number = _meant_rule(rules, data, override)
        merged = {**data[number], **override.changes}
        data[number] = {key: value for key, value in merged.items() if value is not None}
        changed.add(number)
    return [parse_rule(data[i]) if i in changed else rule for i, rule in enumerate(rules)]


def _meant_rule(rules: Sequence[Rule], data: Sequence[Mapping[str, Any]], override: RuleOverride) -> int:
    """Return the number of the rule that an override means, given the keys that each has by now."""
    column = meant_column([rule.column for rule in rules], override.column, "rule judges")
    over = [i for i, rule in enumerate(rules) if rule.column == column]
    meant = [i for i in over if len(over) == 1 or override.key in data[i]]
    if len(meant) != 1:
        raise RuleError(f"{len(over)} rules judge {column!r}; {override.key} does not say which one is meant")
    return meant[0]


def meant_column(columns: Sequence[str], column: str, what: str) -> str:
    """Return the column that a name means among those of rules: itself, or the same on the one view that is there.

    `what` says in errors who would have to name it (`rule judges`). Raises RuleError.
    """
    known = list(dict.fromkeys(columns))
    if column in known:
        return column
    signal, view, name = ColumnId.parse(column)
    if view == "raw":
        views = [other for other in known if ColumnId.parse(other)[::2] == (signal, name)]
        if len(views) == 1:
            return views[0]
        if views:
            raise RuleError(f"{column!r} is judged on several views; write one of {', '.join(views)}")
    raise RuleError(f"no {what} {column!r}{near_miss(column, known)}")
