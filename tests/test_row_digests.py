"""Rows laid out by columns have the digests of rows encoded one by one."""

import hashlib
import math
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipeline import hashing
from headrace.pipeline.errors import UnstableValueError
from headrace.pipeline.hashing import Fold, fold_batch
from headrace.pipeline.row_digests import MIN_ROWS, digest_rows

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("blob", pa.binary()),
        ("flag", pa.bool_()),
        ("count", pa.int64()),
        ("small", pa.int16()),
        ("order", pa.uint64()),
        ("share", pa.float64()),
        ("numbers", pa.list_(pa.int16())),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "text": st.sampled_from([None, "", "x", "é", "word"]),
        "blob": st.sampled_from([None, b"", b"\x00\xff"]),
        "flag": st.sampled_from([None, True, False]),
        "count": st.sampled_from([None, 0, -1, 2**63 - 1]),
        "small": st.sampled_from([None, -3]),
        "order": st.sampled_from([None, 0, 2**64 - 1]),
        "share": st.sampled_from([None, 0.0, -0.0, 0.1, -1e300]),
        "numbers": st.sampled_from([None, [], [7], [1, 2, 3]]),
    }
)


def one_by_one(columns: Sequence[pa.Array]) -> bytes:
    encoded = [hashing._encode_column(column, column.type) for column in columns]
    return b"".join(hashlib.sha256(b"".join(row)).digest() for row in zip(*encoded, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(0, 5))
def test_digests_are_those_of_single_rows(kinds: list[dict[str, object]], random: object, skipped: int) -> None:
    choose = random.choice  # type: ignore[attr-defined] # a random.Random
    rows = [choose(kinds) for _ in range(4 * MIN_ROWS + skipped)]
    batch = pa.RecordBatch.from_pylist(rows, SCHEMA).slice(skipped)
    assert digest_rows(batch.columns) == one_by_one(batch.columns)


def test_long_values_and_many_lengths() -> None:
    columns = [pa.array(range(MIN_ROWS)), pa.array(["x" * (n * 997) for n in range(MIN_ROWS)], pa.string())]
    assert digest_rows(columns) == one_by_one(columns)


def test_what_has_no_layouts_is_left_to_others() -> None:
    number = pa.array(range(MIN_ROWS))
    assert digest_rows([number]) is not None
    assert digest_rows([]) is None
    assert digest_rows([number.slice(1)]) is None
    assert digest_rows([number, pa.array([{"a": 1}] * MIN_ROWS)]) is None
    assert digest_rows([number, pa.array([["a"]] * MIN_ROWS)]) is None
    assert digest_rows([number, pa.array([[None]] * MIN_ROWS, pa.list_(pa.int16()))]) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_has_no_stable_form_is_refused(value: float) -> None:
    with pytest.raises(UnstableValueError, match="never NaN"):
        digest_rows([pa.array([0.5] * MIN_ROWS + [value])])


def test_items_of_no_list_are_not_looked_at() -> None:
    """Items of rows that are sliced away, and those that a null list spans."""
    items = pa.array([math.nan, *range(MIN_ROWS), math.inf, math.inf, math.nan], pa.float64())
    offsets = pa.array([0, *range(1, MIN_ROWS + 2), MIN_ROWS + 3, MIN_ROWS + 4], pa.int32())
    sliced = pa.ListArray.from_arrays(offsets, items).slice(1, MIN_ROWS)
    below = pa.ListArray.from_arrays(
        offsets,
        items,
        mask=pa.array([True, *[False] * (MIN_ROWS // 2), *[True] * 2, *[False] * (MIN_ROWS // 2 - 2), *[True] * 2]),
    )
    for lists in (sliced, below, below.slice(3, MIN_ROWS)):
        assert digest_rows([lists]) == one_by_one([lists])


@pytest.mark.parametrize("num_rows", [1, 2, 4095, 4096, 4097, 9000])
def test_folding_many_rows_at_once_is_folding_them_in_turn(num_rows: int) -> None:
    batch = pa.RecordBatch.from_pydict({"a": list(range(num_rows))})
    value, digests = 0, one_by_one(batch.columns)
    for start in range(0, len(digests), 32):
        value = (value * hashing._BASE + int.from_bytes(digests[start : start + 32], "big")) % hashing._PRIME
    assert fold_batch(batch) == Fold(num_rows, value)
