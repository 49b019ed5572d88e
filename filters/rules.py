"""Rules: data that turns columns of measurements into decisions, so that a changed threshold never measures again.

A rule looks at one column. It passes where the value lies between `min` and `max` (both inclusive unless opened by
`min_open` or `max_open`) or, for labels and flags, is one of `in`. An undefined value is decided by `on_null` alone.
`when` limits a rule to documents whose other columns hold given values; the rest pass. Column ids are
`signal.column` on the extracted text and `signal@view.column` on a view of it; `when` may also name a document's own
column (`source`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

RAW_VIEW = "raw"
_NAME = r"[a-z][a-z0-9_]*"
_SIGNAL = rf"{_NAME}(?::[A-Za-z][A-Za-z0-9_]*)?"  # a member of a family has its maker's name: datatrove:C4QualityFilter
_COLUMN_ID = re.compile(rf"(?P<signal>{_SIGNAL})(?:@(?P<view>{_NAME}))?\.(?P<column>{_NAME})")
_DOCUMENT_COLUMN = re.compile(_NAME)
_OVERRIDE = re.compile(r"(?P<column>.+)\.(?P<key>[A-Za-z_]+)=(?P<value>.*)", re.DOTALL)

Bools = npt.NDArray[np.bool_]


class RuleError(ValueError):
    """A rule or an override cannot be: it names the rule, what is wrong with it, and what would be right."""


class ColumnId(NamedTuple):
    """Where a rule's values come from: a signal's column, measured on a view (`raw` is the extracted text)."""

    signal: str
    view: str
    column: str

    @classmethod
    def parse(cls, text: str) -> ColumnId:
        """Read `signal.column` or `signal@view.column`; raises RuleError."""
        match = _COLUMN_ID.fullmatch(text)
        if match is None:
            raise RuleError(f"{text!r} is no column id; write signal.column or signal@view.column")
        return cls(match["signal"], match["view"] or RAW_VIEW, match["column"])

    def __str__(self) -> str:
        return f"{self.signal}{'' if self.view == RAW_VIEW else '@' + self.view}.{self.column}"


class Rule(BaseModel):
    """One decision over one column; `min` and `max`, or `in` (in code: `in_`), say what is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    column: str
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    min_open: bool = False
    max_open: bool = False
    in_: list[str | int | bool] | None = Field(default=None, alias="in", min_length=1)
    on_null: Literal["keep", "drop"] = "drop"
    when: dict[str, str | list[str]] | None = None
    reason: str = Field(default="", min_length=1)

    @field_validator("column")
    @classmethod
    def _check_column(cls, value: str) -> str:
        ColumnId.parse(value)
        return value

    @field_validator("when")
    @classmethod
    def _check_when(cls, value: dict[str, str | list[str]] | None) -> dict[str, str | list[str]] | None:
        for column, accepted in (value or {}).items():
            if not _DOCUMENT_COLUMN.fullmatch(column):
                ColumnId.parse(column)
            if not accepted:
                raise ValueError(f"{column} accepts no value, so the rule would never apply")
        return value

    @model_validator(mode="before")
    @classmethod
    def _name_reason(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("reason") is None and isinstance(data.get("column"), str):
            return {**data, "reason": data["column"].rpartition(".")[2] or "rule"}
        return data

    @model_validator(mode="after")
    def _check_bounds(self) -> Rule:
        bounded = self.min is not None or self.max is not None
        if bounded == (self.in_ is not None):
            raise ValueError("give either bounds (min, max) or a list (in), and not both")
        if self.min_open > (self.min is not None) or self.max_open > (self.max is not None):
            raise ValueError("min_open and max_open open a bound that is given; here it is not")
        if self.min is not None and self.max is not None:
            if self.min > self.max:
                raise ValueError(f"min ({self.min}) is above max ({self.max}), so nothing could pass")
            if self.min == self.max and (self.min_open or self.max_open):
                raise ValueError(f"the open range at {self.min} is empty, so nothing could pass")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column id that judging reads, the judged one first."""
        return (self.column, *(self.when or {}))


def parse_rule(data: Mapping[str, Any]) -> Rule:
    """Build a rule from decoded TOML; raises RuleError naming the column, the key and, for a typo, the near miss."""
    try:
        return Rule.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise RuleError(f"rule over {data.get('column', '?')!r}: {problems}") from None


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name most like `name`, or the empty string."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{near_miss(key, rule_keys())}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, not {problem['input']!r}" if key else message


def rule_keys() -> tuple[str, ...]:
    """Return the keys of a rule as recipes write them."""
    return tuple(field.alias or name for name, field in Rule.model_fields.items())


def apply_rule(rule: Rule, columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> Bools:
    """Return one flag per row: True where the row passes.

    `columns` maps each id of `rule.columns` to its values, None where undefined.

    Raises:
        RuleError: a column is absent, holds NaN, or holds another type than the rule compares with.
    """
    missing = [column for column in rule.columns if column not in columns]
    if missing:
        raise RuleError(f"rule over {rule.column!r}: no column {missing[0]!r}{near_miss(missing[0], columns)}")
    values = columns[rule.column]
    passes = _inside(rule, values) if rule.in_ is None else _among(rule.in_, rule.on_null, values)
    for column, accepted in (rule.when or {}).items():
        wanted = {accepted} if isinstance(accepted, str) else set(accepted)
        passes |= np.fromiter((value not in wanted for value in columns[column]), bool, len(values))
    return passes


def first_failures(rules: Sequence[Rule], columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return per row the index of the first rule (in the given order) that drops it, or -1 where all pass.

    `rules` must not be empty: with no rule there is no column that could say how many rows there are.
    """
    failures = np.full(len(columns[rules[0].column]), -1, dtype=np.int64)
    for index, rule in enumerate(rules):
        failures[(failures == -1) & ~apply_rule(rule, columns)] = index
    return failures


def _inside(rule: Rule, values: Sequence[Any] | npt.NDArray[Any]) -> Bools:
    numbers, defined = _as_numbers(rule.column, values)
    passes = np.ones(len(numbers), dtype=bool)
    if rule.min is not None:
        passes &= numbers > rule.min if rule.min_open else numbers >= rule.min
    if rule.max is not None:
        passes &= numbers < rule.max if rule.max_open else numbers <= rule.max
    return np.where(defined, passes, rule.on_null == "keep")


def _as_numbers(column: str, values: Sequence[Any] | npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Bools]:
    """Return values as numbers (any where undefined) and where they are defined; integers stay exact."""
    array = np.asarray(values) if len(values) else np.zeros(0)
    defined = np.ones(len(array), dtype=bool)
    if array.dtype == object:
        defined = np.fromiter((value is not None for value in values), bool, len(values))
        stand_in = next((value for value in values if value is not None), 0)  # of the same type, so flags stay flags
        array = np.asarray([stand_in if value is None else value for value in values])
    if array.dtype.kind not in "iuf":
        raise RuleError(f"column {column!r} holds no numbers, so min and max cannot judge it; use `in`")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise RuleError(f"column {column!r} holds NaN; an undefined value is null")
    return array, defined


def _among(accepted: Sequence[Any], on_null: str, values: Sequence[Any] | npt.NDArray[Any]) -> Bools:
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    wanted = {(isinstance(value, bool), value) for value in accepted}  # 1 and True are equal, but not the same label
    keep_null = on_null == "keep"
    passes = (keep_null if v is None else (isinstance(v, bool), v) in wanted for v in listed)
    return np.fromiter(passes, bool, len(listed))


class RuleOverride(NamedTuple):
    """One `--set COLUMN.KEY=VALUE`: a new value for one key of a rule."""

    column: str
    key: str
    value: Any


def parse_rule_override(text: str) -> RuleOverride:
    """Read `COLUMN.KEY=VALUE`, e.g. `gopher_quality.num_words.min=60` or `fineweb@c4.line_punct_ratio.min=0.1`.

    VALUE is a TOML value (`0.3`, `true`, `["en", "de"]`), a bare word for a string, or `none` to take the key away.
    Raises RuleError, for an unknown key with the key that was probably meant.
    """
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise RuleError(f"{text!r} is no override; write COLUMN.KEY=VALUE, as in gopher_quality.num_words.min=60")
    column = str(ColumnId.parse(match["column"]))
    if match["key"] not in rule_keys() or match["key"] == "column":
        keys = [key for key in rule_keys() if key != "column"]
        raise RuleError(
            f"{text!r}: a rule has no key {match['key']!r}{near_miss(match['key'], keys)}; it has {', '.join(keys)}"
        )
    return RuleOverride(column, match["key"], _parse_value(match["value"].strip()))


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


def override_rules(rules: Sequence[Rule], override: RuleOverride) -> list[Rule]:
    """Return the rules with one key of one rule replaced.

    Of several rules over the column, the one that already has the key is meant.

    Raises:
        RuleError: no rule judges the column, more than one could be meant, or the new value cannot be.
    """
    over = [i for i, rule in enumerate(rules) if rule.column == override.column]
    if not over:
        known = dict.fromkeys(rule.column for rule in rules)
        raise RuleError(f"no rule judges {override.column!r}{near_miss(override.column, known)}")
    meant = [i for i in over if len(over) == 1 or override.key in _given(rules[i])]
    if len(meant) != 1:
        raise RuleError(f"{len(over)} rules judge {override.column!r}; {override.key} does not say which one is meant")
    data = {**_given(rules[meant[0]]), override.key: override.value}
    changed = parse_rule({key: value for key, value in data.items() if value is not None})
    return [changed if i == meant[0] else rule for i, rule in enumerate(rules)]


def _given(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(by_alias=True, exclude_defaults=True)
