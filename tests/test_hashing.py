"""Names by content: one form for a value, one fold for rows however they are cut, compressed or laid out."""

import itertools
import json
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headrace.pipeline.errors import UnstableValueError
from headrace.pipeline.hashing import (
    LOCATION_COLUMNS,
    Fold,
    canonical_json,
    content_fields,
    digest_bytes,
    digest_file,
    digest_json,
    fold_batch,
    fold_batches,
)
from headrace.pipeline.schema import DOCUMENTS, TABLES
from headrace.pipeline.tables import read_batches, read_schema, write_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)

# ------------------------------------------------------------------------------------------------------------ JSON


@given(VALUES)
def test_the_canonical_form_survives_a_round_trip(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert digest_json(json.loads(text)) == digest_json(value) == digest_bytes(text.encode())


@given(VALUES, VALUES)
def test_different_values_have_different_forms(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    zero = "0.0" in canonical_json([one, other])  # -0.0 is hashed as the 0.0 that it equals
    assert zero or (canonical_json(one) == canonical_json(other)) == same


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert digest_json({key: value[key] for key in keys}) == digest_json(value)


@given(VALUES)
def test_tuples_are_lists(value: Any) -> None:
    assert digest_json((value, [value])) == digest_json([value, (value,)])


class Model(BaseModel):
    x: int = 1


UNSTABLE: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "a set": {1, 2},
    "a frozen set": frozenset({1}),
    "bytes": b"x",
    "a byte array": bytearray(b"x"),
    "an object": object(),
    "a class": Model,
    "a function": len,
    "a path": Path("x"),
    "a complex number": 1j,
    "a lone surrogate": "\ud800",
    "a range": range(3),
    "a number of numpy": pa.scalar(1),
}


@pytest.mark.parametrize("what", UNSTABLE)
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [0, v], lambda v: {"deep": {"key": (v,)}}], ids=["plain", "in a list", "deep"]
)
def test_what_has_no_canonical_form_is_refused(what: str, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(UnstableValueError):
        canonical_json(wrap(UNSTABLE[what]))


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), b"a", "\udfff"])
def test_only_text_can_be_a_key(key: Any) -> None:
    with pytest.raises(UnstableValueError):
        canonical_json({key: 1})


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(UnstableValueError, match=r"value\.config\.rules\[1\] is nan"):
        canonical_json({"config": {"rules": [1.0, math.nan]}})


def test_a_model_is_its_fields() -> None:
    assert digest_json({"m": Model()}) == digest_json({"m": {"x": 1}})


def test_known_digests() -> None:
    """Golden: these change only together with the schema version."""
    assert canonical_json({"b": [1, 2.50, None, True], "a": "é\n", "c": -0.0}) == (
        '{"a":"é\\n","b":[1,2.5,null,true],"c":0.0}'
    )
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1, None]), "b": pa.array(["x", "é"])})
    assert fold_batch(batch).hex() == GOLDEN_FOLD
    assert fold_batch(batch).content_id(batch.schema) == GOLDEN_CONTENT


GOLDEN_FOLD = "5c7652e399ca1875a3c4e509e880799c7b5f0c44389239a20bb6860dece6a1d8"
GOLDEN_CONTENT = "472d524cd67654a8a0e3b6a7779ba3bd4823640fbcb3aafd8fec1441a8519f18"

# ------------------------------------------------------------------------------------------------------------ rows

LEAF_TYPES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXT),
    (pa.binary(), st.binary(max_size=8)),
]


def columns() -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """Draw a type with a strategy of its values, nulls among them."""

    def nullable(kind: tuple[pa.DataType, st.SearchStrategy[Any]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        return kind[0], st.none() | kind[1]

    leaf = st.sampled_from(LEAF_TYPES).map(nullable)
    lists = leaf.map(lambda kind: nullable((pa.list_(kind[0]), st.lists(kind[1], max_size=3))))
    structs = st.lists(leaf, min_size=1, max_size=3).map(
        lambda kinds: nullable(
            (
                pa.struct([(f"f{n}", kind) for n, (kind, _) in enumerate(kinds)]),
                st.fixed_dictionaries({f"f{n}": values for n, (_, values) in enumerate(kinds)}),
            )
        )
    )
    return leaf | lists | structs


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Draw a table of a few columns of any type we store."""
    kinds = draw(st.lists(columns(), min_size=1, max_size=3))
    rows = draw(st.integers(0, 12))
    arrays = [pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind) for kind, values in kinds]
    return pa.RecordBatch.from_arrays(arrays, [f"c{n}" for n in range(len(arrays))])


@given(batches(), st.lists(st.integers(0, 12), max_size=4))
def test_a_fold_does_not_know_where_it_was_cut(batch: pa.RecordBatch, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, batch.num_rows) for cut in cuts), batch.num_rows]
    pieces = [batch.slice(a, b - a) for a, b in itertools.pairwise(borders)]
    assert fold_batches(pieces) == fold_batch(batch)


@given(batches(), batches(), batches())
def test_addition_of_folds_is_associative_with_a_zero(a: pa.RecordBatch, b: pa.RecordBatch, c: pa.RecordBatch) -> None:
    x, y, z = fold_batch(a), fold_batch(b), fold_batch(c)
    assert (x + y) + z == x + (y + z)
    assert x + Fold() == x == Fold() + x
    assert Fold.parse(x.rows, x.hex()) == x


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.randoms())
def test_the_order_of_rows_matters(values: list[int], random: Any) -> None:
    other = values.copy()
    random.shuffle(other)
    same = fold_ints(values) == fold_ints(other)
    assert same == (values == other)


def fold_ints(values: Sequence[int]) -> Fold:
    return fold_batch(pa.RecordBatch.from_pydict({"x": pa.array(values, pa.int64())}))


@given(batches(), st.data())
def test_a_changed_value_changes_the_fold(batch: pa.RecordBatch, data: st.DataObject) -> None:
    column = data.draw(st.sampled_from(range(batch.num_columns)))
    values = batch.column(column).to_pylist()
    present = [row for row, value in enumerate(values) if value is not None]
    if not present:
        return
    values[data.draw(st.sampled_from(present))] = None
    changed = batch.set_column(column, batch.schema.field(column), pa.array(values, batch.schema.types[column]))
    assert fold_batch(changed) != fold_batch(batch)


def encoded(value: Any, kind: pa.DataType) -> bytes:
    """Encode one value as docs/format.md says, in the plainest words."""
    if value is None:
        return b"\0"
    if pa.types.is_list(kind):
        return b"\1" + len(value).to_bytes(8, "little") + b"".join(encoded(item, kind.value_type) for item in value)
    if pa.types.is_struct(kind):
        return b"\1" + b"".join(encoded(value[field.name], field.type) for field in kind)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return b"\1" + len(data).to_bytes(8, "little") + data
    if isinstance(value, float):
        return b"\1" + struct.pack("<d", 0.0 if value == 0 else value)
    return b"\1" + int(value).to_bytes(8, "little", signed=not pa.types.is_uint64(kind))


@given(batches())
def test_the_fold_is_as_documented(batch: pa.RecordBatch) -> None:
    prime = 2**255 - 19
    base = int(digest_bytes(b"headrace row fold 1"), 16) % prime
    fold = 0
    for row in batch.to_pylist():
        data = b"".join(encoded(row[field.name], field.type) for field in batch.schema)
        fold = (fold * base + int(digest_bytes(data), 16)) % prime
    assert fold_batch(batch) == Fold(batch.num_rows, fold)


def test_neighbouring_texts_do_not_run_together() -> None:
    def fold(left: str | None, right: str | None) -> Fold:
        return fold_batch(
            pa.RecordBatch.from_pydict({"a": pa.array([left], pa.string()), "b": pa.array([right], pa.string())})
        )

    rows = [("ab", "c"), ("a", "bc"), ("abc", ""), ("abc", None), ("", "abc"), (None, "abc")]
    assert len({fold(*row) for row in rows}) == len(rows)


def test_undefined_is_null_never_nan() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UnstableValueError, match="undefined is null"):
            fold_batch(pa.RecordBatch.from_pydict({"x": pa.array([1.0, value])}))


def test_a_type_without_a_form_is_refused() -> None:
    with pytest.raises(UnstableValueError, match="timestamp"):
        fold_batch(pa.RecordBatch.from_pydict({"x": pa.array([0], pa.timestamp("s"))}))


def test_names_and_types_of_columns_are_content() -> None:
    fold = fold_ints([1, 2])
    ids = {fold.content_id(pa.schema([(name, kind)])) for name in ("x", "y") for kind in (pa.int64(), pa.int32())}
    assert len(ids) == 4
    assert Fold().content_id(DOCUMENTS) != Fold().content_id(TABLES["records"])


def documents(uri: str, offset: int) -> pa.RecordBatch:
    origin = {"uri": uri, "offset": offset, "length": 7, "digest": "0" * 64, "inner": None}
    rows = [{"doc_id": f"{n:032x}", "text": f"text {n}", "text_bytes": 6, "origin": origin} for n in range(20)]
    return pa.RecordBatch.from_pylist([dict.fromkeys(DOCUMENTS.names) | row for row in rows], schema=DOCUMENTS)


def test_where_bytes_lie_is_no_content() -> None:
    here, there = documents("file:///a", 0), documents("s3://b/c", 99)
    assert fold_batch(here) == fold_batch(there)
    assert "origin" in LOCATION_COLUMNS
    assert "origin" not in [field.name for field in content_fields(DOCUMENTS)]
    text = there.set_column(1, "text", pa.array(["other"] * 20))
    assert fold_batch(here) != fold_batch(text)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=batches(),
    compression=st.sampled_from(["zstd", "snappy", "none", "gzip"]),
    group=st.integers(1, 12),
    dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
)
def test_how_a_file_is_written_is_no_content(
    tmp_path: Path, batch: pa.RecordBatch, compression: str, group: int, dictionary: bool, version: str
) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(
        pa.Table.from_batches([batch]),
        path,
        compression=compression,
        row_group_size=group,
        use_dictionary=dictionary,
        data_page_version=version,
        write_page_checksum=True,
    )
    ours = write_table(tmp_path / "ours.parquet", batch.schema, [batch], {"task": "x"}, row_group_bytes=64)
    again = fold_batches(read_batches(path, batch_rows=5))
    assert (again.hex(), again.rows) == (ours.fold, ours.rows)
    assert ours.content == again.content_id(batch.schema) == again.content_id(read_schema(path))
    assert ours.sha256 == digest_file(tmp_path / "ours.parquet")
