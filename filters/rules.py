"""Rules: data that turns columns of measurements into decisions, so that a changed threshold never measures again.

A rule looks at one column. It passes where the value lies between `min` and `max` (both inclusive unless opened by
`min_open` or `max_open`) or, for labels and flags, is one of `in`. An undefined value is decided by `on_null` alone.
`when` limits a rule to documents whose other columns hold given values; the rest pass. `by` gives documents with a
certain value in one other column bounds of their own, in place of the rule's. Column ids are `signal.column` on the
extracted text and `signal@view.column` on a view of it; `when` and `by` may also name a document's own column
(`source`). `filters.judging` applies rules to columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

RAW_VIEW = "raw"
_NAME = r"[a-z][a-z0-9_]*"
_SIGNAL = rf"{_NAME}(?::[A-Za-z][A-Za-z0-9_]*)?"  # a member of a family has its maker's name: datatrove:C4QualityFilter
_COLUMN_ID = re.compile(rf"(?P<signal>{_SIGNAL})(?:@(?P<view>{_NAME}))?\.(?P<column>{_NAME})")
_DOCUMENT_COLUMN = re.compile(_NAME)


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


class Bounds(BaseModel):
    """What is allowed: `min` and `max`, or `in` (in code: `in_`); without any of them everything is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    min_open: bool = False
    max_open: bool = False
    in_: list[str | int | bool] | None = Field(default=None, alias="in", min_length=1)

    @model_validator(mode="after")
    def _check_bounds(self) -> Bounds:
        if (self.min is not None or self.max is not None) and self.in_ is not None:
            raise ValueError("give either bounds (min, max) or a list (in), and not both")
        large = [value for value in self.in_ or () if isinstance(value, int) and not -(2**63) <= value < 2**63]
        if large:
            raise ValueError(f"in: {large[0]} is no number that a column can hold (64 bits)")
        if self.min_open > (self.min is not None) or self.max_open > (self.max is not None):
            raise ValueError("min_open and max_open open a bound that is given; here it is not")
        if self.min is not None and self.max is not None:
            if self.min > self.max:
                raise ValueError(f"min ({self.min}) is above max ({self.max}), so nothing could pass")
            if self.min == self.max and (self.min_open or self.max_open):
                raise ValueError(f"the open range at {self.min} is empty, so nothing could pass")
        return self

    @property
    def unbounded(self) -> bool:
        """Whether everything is allowed."""
        return self.min is None and self.max is None and self.in_ is None

    def limits(self) -> dict[str, Any]:
        """Return the bounds that are given, by the keys of a recipe."""
        names = ("min", "max", "min_open", "max_open", "in")
        given = self.model_dump(by_alias=True, exclude_defaults=True)
        return {name: given[name] for name in names if name in given}

    def __str__(self) -> str:
        if self.in_ is not None:
            return f"in {', '.join(map(str, self.in_))}"
        low = f"{'>' if self.min_open else '>='} {self.min:g}" if self.min is not None else ""
        high = f"{'<' if self.max_open else '<='} {self.max:g}" if self.max is not None else ""
        return " and ".join(filter(None, (low, high))) or "anything"


class Rule(Bounds):
    """One decision over one column; `min` and `max`, or `in` (in code: `in_`), say what is kept."""

    column: str
    on_null: Literal["keep", "drop"] = "drop"
    when: dict[str, str | list[str]] | None = None
    by: dict[str, dict[str, Bounds]] | None = None
    reason: str = Field(default="", min_length=1)

    def as_config(self) -> dict[str, Any]:
        """Return the rule as it goes into the config of stages: what is given, by the keys of a recipe."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

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

    @field_validator("by")
    @classmethod
    def _check_by(cls, value: dict[str, dict[str, Bounds]] | None) -> dict[str, dict[str, Bounds]] | None:
        if value is not None and len(value) != 1:
            raise ValueError(f"by looks at one column, here it names {len(value)}")
        for column, bounds in (value or {}).items():
            if not _DOCUMENT_COLUMN.fullmatch(column):
                ColumnId.parse(column)
            if not bounds:
                raise ValueError(f"{column} has no value with bounds of its own")
        return value

    @model_validator(mode="before")
    @classmethod
    def _name_reason(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("reason") is None and isinstance(data.get("column"), str):
            return {**data, "reason": data["column"].rpartition(".")[2] or "rule"}
        return data

    @model_validator(mode="after")
    def _check_decides(self) -> Rule:
        if self.unbounded and self.by is None:
            raise ValueError("it allows everything; give bounds (min, max) or a list (in)")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column id that judging reads, the judged one first."""
        return (self.column, *(self.when or {}), *(self.by or {}))

    @property
    def all_bounds(self) -> list[Bounds]:
        """The rule's own bounds, if it has any, and those of `by`."""
        special = [bounds for labels in (self.by or {}).values() for bounds in labels.values()]
        return [bounds for bounds in (self, *special) if not bounds.unbounded]

    def bounds_for(self, values: Mapping[str, Any]) -> Bounds:
        """Return the bounds that judge a document, given the values of its columns by id."""
        return next((labels[values[name]] for name, labels in (self.by or {}).items() if values[name] in labels), self)

    def applies_to(self, values: Mapping[str, Any]) -> bool:
        """Tell whether the rule judges a document at all, given the values of its columns by id."""
        return all(
            values[name] in ([accepted] if isinstance(accepted, str) else accepted)
            for name, accepted in (self.when or {}).items()
        )


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
        inner = problem["loc"][-1]
        keys = rule_keys() if len(problem["loc"]) == 1 else bound_keys()
        return f"unknown key {inner!r}{near_miss(inner, keys)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, not {problem['input']!r}" if key else message


def rule_keys() -> tuple[str, ...]:
    """Return the keys of a rule as recipes write them."""
    return tuple(field.alias or name for name, field in Rule.model_fields.items())


def bound_keys() -> tuple[str, ...]:
    """Return the keys of bounds as recipes write them."""
    return tuple(field.alias or name for name, field in Bounds.model_fields.items())


def given_keys(rule: Rule) -> dict[str, Any]:
    """Return a rule as a recipe would write it, defaults left out."""
    return rule.model_dump(by_alias=True, exclude_defaults=True)
