"""Judging: rules applied to whole columns; no document becomes a Python object.

Columns are Arrow arrays. An undefined value is null, and decided by the rule's `on_null` alone; NaN is refused, since
no rule says what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.filters.rules import Bounds, Rule, RuleError, near_miss

if TYPE_CHECKING:
    import pyarrow as pa

Bools = npt.NDArray[np.bool_]
Values: TypeAlias = "Sequence[Any] | npt.NDArray[Any] | pa.Array | pa.ChunkedArray"
"""A column: Arrow, numpy, or a list with None where a value is undefined."""


def failures(rules: Sequence[Rule], columns: Mapping[str, Values]) -> Bools:
    """Return for each row (first axis) and each rule (second axis) whether the row fails it.

    `rules` must not be empty: with no rule there is no column that could say how many rows there are.
    """
    used = {name for rule in rules for name in rule.columns}
    arrays = {name: as_array(values) for name, values in columns.items() if name in used}
    return np.stack([~apply_rule(rule, arrays) for rule in rules], axis=1)


def first_failures(failed: Bools) -> npt.NDArray[Any]:
    """Return per row the number of the first rule that it fails, in the order of the second axis, or -1."""
    return np.where(failed.any(axis=1), failed.argmax(axis=1), -1)


def apply_rule(rule: Rule, columns: Mapping[str, Values]) -> Bools:
    """Return one flag per row: True where the row passes.

    `columns` maps each id of `rule.columns` to its values, None where undefined.

    Raises:
        RuleError: a column is absent, holds NaN, or holds another type than the rule compares with.
    """
    missing = [column for column in rule.columns if column not in columns]
    if missing:
        raise RuleError(f"rule over {rule.column!r}: no column {missing[0]!r}{near_miss(missing[0], columns)}")
    values = as_array(columns[rule.column])
    passes = _allowed(rule, rule, values)
    for bounds, rows in _special_rows(rule, columns):
        passes[rows] = _allowed(rule, bounds, values.take(rows))
    for column, accepted in (rule.when or {}).items():
        passes |= ~_is_in(as_array(columns[column]), [accepted] if isinstance(accepted, str) else accepted)
    return passes


def as_array(values: Values) -> pa.Array:
    """Return a column as one Arrow array."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)


def _special_rows(rule: Rule, columns: Mapping[str, Values]) -> Iterator[tuple[Bounds, npt.NDArray[Any]]]:
    """Yield the bounds of `by` that occur, each with the numbers of its rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, labels in (rule.by or {}).items():
        names, values = list(labels), as_array(columns[column])
        if pa.types.is_null(values.type) or not len(values):
            continue
        found = pc.index_in(values, pa.array(names).cast(values.type)).fill_null(-1).to_numpy()
        order = np.argsort(found, kind="stable")
        numbers, starts = np.unique(found[order], return_index=True)
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            if number >= 0:
                yield labels[names[number]], rows


def _allowed(rule: Rule, bounds: Bounds, values: pa.Array) -> Bools:
    if bounds.unbounded:
        return np.ones(len(values), dtype=bool)
    inside = _inside(rule.column, bounds, values) if bounds.in_ is None else _among(rule.column, bounds.in_, values)
    if values.null_count == 0:
        return inside
    defined: Bools = values.is_valid().to_numpy(zero_copy_only=False)
    return np.where(defined, inside, rule.on_null == "keep")


def _inside(column: str, bounds: Bounds, values: pa.Array) -> Bools:
    numbers = _numbers(column, values)
    passes = np.ones(len(numbers), dtype=bool)
    if bounds.min is not None:
        passes &= numbers > bounds.min if bounds.min_open else numbers >= bounds.min
    if bounds.max is not None:
        passes &= numbers < bounds.max if bounds.max_open else numbers <= bounds.max
    return passes


def _numbers(column: str, values: pa.Array) -> npt.NDArray[Any]:
    """Return values as numbers, any number where undefined."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_null(kind):
        return np.zeros(len(values))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise RuleError(f"column {column!r} holds no numbers, so min and max cannot judge it; use `in`")
    numbers: npt.NDArray[Any] = values.fill_null(0).to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f" and np.isnan(numbers).any():
        raise RuleError(f"column {column!r} holds NaN; an undefined value is null")
    return numbers


def _among(column: str, accepted: Sequence[Any], values: pa.Array) -> Bools:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_null(kind):
        return np.zeros(len(values), dtype=bool)
    wanted: type = (
        bool if pa.types.is_boolean(kind) else str if pa.types.is_string(kind) else int
    )  # to Python, True is an int too
    meant = [value for value in accepted if type(value) is wanted]
    if not meant:
        raise RuleError(f"column {column!r} holds {kind}, so it is none of {list(accepted)}; list values of that type")
    return _is_in(values, meant)


def _is_in(values: pa.Array, accepted: Sequence[Any]) -> Bools:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(values.type):
        return np.zeros(len(values), dtype=bool)
    found: Bools = pc.is_in(values, pa.array(accepted).cast(values.type)).to_numpy(zero_copy_only=False)
    return found
