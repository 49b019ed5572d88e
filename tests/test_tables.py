"""Tables on disk: what is written is what its record says, damage is an error, and every column is documented."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headrace.filters.rules import Rule
from headrace.pipeline import lock, recipe, schema, tables
from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.hashing import content_fields, digest_bytes, digest_file, fold_batch
from headrace.pipeline.schema import DOCUMENTS, SPANS, TABLES
from headrace.pipeline.tables import (
    TableWriter,
    column_range,
    read_batches,
    read_columns,
    read_schema,
    same_rows,
    table_writers,
    write_table,
)
from headrace.trainer.run_config import RunFile
from headrace.trainer.stream import StreamPlan

SCHEMA = pa.schema([("doc_id", pa.string()), ("text", pa.string()), ("c4.removed", SPANS)])


def batch_of(texts: list[str], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    span = {"start": 0, "end": 1, "label": "x", "replacement": None}
    rows = [{"doc_id": f"{n:032x}", "text": text, "c4.removed": [span]} for n, text in enumerate(texts)]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=40), st.integers(1, 4000))
def test_what_is_written_is_read_and_named(tmp_path: Path, texts: list[str], limit: int) -> None:
    path, batch = tmp_path / "t.parquet", batch_of(texts)
    record = write_table(path, SCHEMA, [batch.slice(0, 3), batch.slice(3)], {"task": "k"}, limit)
    assert pa.Table.from_batches(read_batches(path), SCHEMA).to_pylist() == batch.to_pylist()
    data = path.read_bytes()
    assert (record.name, record.bytes, record.sha256) == (path.name, len(data), digest_bytes(data))
    assert (record.rows, record.fold) == (len(texts), fold_batch(batch).hex())
    assert record.content == fold_batch(batch).content_id(SCHEMA)
    assert sum(group.rows for group in record.row_groups) == len(texts)
    for group in record.row_groups:
        assert digest_bytes(data[group.offset : group.offset + group.length]) == group.sha256
    assert record.footer == digest_bytes(data[record.footer_start :])


@given(st.integers(1, 3000))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_row_groups_hold_to_their_size_or_one_row(tmp_path: Path, limit: int) -> None:
    path, batch = tmp_path / "t.parquet", batch_of(["x" * (50 * n % 777) for n in range(60)])
    write_table(path, SCHEMA, [batch], {}, limit)
    with pq.ParquetFile(path) as file:
        for index in range(file.num_row_groups):
            group = file.read_row_group(index)
            assert group.num_rows == 1 or group.combine_chunks().nbytes <= limit + 256


def test_row_groups_lie_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    record = write_table(path, SCHEMA, [batch_of(["some text"] * 200)], {}, 2000)
    assert record.row_groups[0].offset == 4
    assert all(a.offset + a.length == b.offset for a, b in pairwise(record.row_groups))
    group = pq.read_metadata(path).row_group(1)
    ranges = [column_range(group.column(number)) for number in range(group.num_columns)]
    assert all(a[1] == b[0] for a, b in pairwise(ranges))


def test_a_file_is_as_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, [batch_of(["x"] * 9)], {"task": "the key"})
    metadata = pq.read_metadata(path)
    assert metadata.metadata[b"headrace.task"] == b"the key"
    assert metadata.row_group(0).column(1).compression == "ZSTD"
    assert metadata.row_group(0).column(1).has_offset_index
    assert read_schema(path).names == SCHEMA.names
    assert read_schema(path).metadata is None


def test_an_empty_table_has_a_content_too(tmp_path: Path) -> None:
    record = write_table(tmp_path / "t.parquet", DOCUMENTS, [], {})
    assert (record.rows, record.row_groups) == (0, ())
    assert list(read_batches(tmp_path / "t.parquet")) == []


def test_content_does_not_depend_on_batches_or_row_groups(tmp_path: Path) -> None:
    batch = batch_of([f"text {n}" for n in range(100)])
    whole = write_table(tmp_path / "a.parquet", SCHEMA, [batch], {"task": "one"})
    cut = write_table(
        tmp_path / "b.parquet", SCHEMA, [batch.slice(n, 7) for n in range(0, 100, 7)], {"task": "two"}, 500
    )
    assert (whole.content, whole.fold) == (cut.content, cut.fold)
    assert whole.sha256 != cut.sha256


def test_a_failed_writer_leaves_no_file(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield batch_of(["x"] * 100)
        raise RuntimeError("a reader broke")

    with pytest.raises(RuntimeError):
        write_table(tmp_path / "t.parquet", SCHEMA, batches(), {}, 100)
    writers = [TableWriter(tmp_path / f"{n}.parquet", SCHEMA, {}) for n in range(2)]
    writers[0].write(batch_of(["x"]))
    with pytest.raises(KeyboardInterrupt), table_writers(*writers):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_damaged_pages_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, [batch_of([f"text {n * n}" for n in range(500)])], {})
    _, end = column_range(pq.read_metadata(path).row_group(0).column(1))
    data = bytearray(path.read_bytes())
    data[end - 1] ^= 1
    path.write_bytes(data)
    for read in (lambda: list(read_batches(path)), lambda: read_columns(path, ["text"])):
        with pytest.raises(OSError, match="CRC checksum"):
            read()
    assert read_columns(path, ["doc_id"]).num_rows == 500


def test_columns_whose_names_have_dots(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, SCHEMA, [batch_of(["x"])], {})
    assert read_columns(path, ["c4.removed"]).column_names == ["c4.removed"]
    (batch,) = read_batches(path, ["c4.removed"])
    assert batch.schema.names == ["c4.removed"]


def test_rows_that_do_not_match_are_named() -> None:
    path = Path("side.parquet")
    same_rows(["a", "b"], ["a", "b"], path)
    with pytest.raises(IntegrityError, match=r"side\.parquet: row 1 is document c, the documents have b there"):
        same_rows(["a", "b"], ["a", "c"], path)
    with pytest.raises(IntegrityError, match="1 rows stand beside 2 documents"):
        same_rows(["a", "b"], ["a"], path)


def test_memory_is_bounded_by_a_row_group(tmp_path: Path) -> None:
    """Reading and writing hold a row group or two, not the table."""
    path, before = tmp_path / "t.parquet", pa.total_allocated_bytes()
    text = "word " * 2000
    peak = 0
    writer = TableWriter(path, SCHEMA, {}, row_group_bytes=1 << 20)
    for _ in range(30):
        writer.write(batch_of([text] * 100))
        peak = max(peak, pa.total_allocated_bytes() - before)
    writer.close()
    for batch in read_batches(path):
        assert batch.num_rows
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 8 << 20 < 30 * 100 * len(text)


# ---------------------------------------------------------------------------------------------------------- format

FORMAT = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
CODE = [
    *re.findall(r"```(.*?)```", FORMAT, re.DOTALL),
    *re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", FORMAT, flags=re.DOTALL)),
]
NAMED = {word for code in CODE for word in re.findall(r"[A-Za-z_]\w*", code)}
"""Every word that stands in code quotes on the page."""


def fields_of(kind: pa.DataType | pa.Schema) -> Iterator[str]:
    """Yield the names of all fields, at whatever depth."""
    if isinstance(kind, pa.Schema) or pa.types.is_struct(kind):
        for field in kind:
            yield field.name
            yield from fields_of(field.type)
    elif pa.types.is_list(kind):
        yield from fields_of(kind.value_type)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    assert table in NAMED
    assert [name for name in fields_of(TABLES[table]) if name not in NAMED] == []


def models_below(*roots: type[BaseModel]) -> list[type[BaseModel]]:
    """Return models with all models that their fields hold."""
    found: list[type[BaseModel]] = []
    waiting = list(roots)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            waiting += [inner for field in model.model_fields.values() for inner in _models_in(field.annotation)]
    return sorted(found, key=lambda model: model.__name__)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


STORED = [model for model in vars(schema).values() if isinstance(model, type) and issubclass(model, schema.Strict)]


@pytest.mark.parametrize(
    "model",
    models_below(*STORED, lock.Lock, recipe.Recipe, RunFile, StreamPlan, Rule),
    ids=lambda model: model.__name__,
)
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    assert [name for name in names if name not in NAMED] == []


def test_the_documented_version_is_this_one() -> None:
    assert f"Schema version: **{schema.SCHEMA_VERSION}**" in FORMAT


def test_documented_sizes_are_the_ones() -> None:
    assert tables.ROW_GROUP_BYTES == 32 << 20
    assert f"{tables.ROW_GROUP_ROWS:,} rows" in FORMAT
    assert recipe.Sharding().task_mebibytes == 256
    assert f"`heldout` ({recipe.Split().heldout})" in FORMAT


def test_location_columns_are_the_documented_ones() -> None:
    left_out = {f.name for table in TABLES.values() for f in table} - {
        f.name for table in TABLES.values() for f in content_fields(table)
    }
    assert left_out == {"origin", "stored_bytes"}


def test_files_are_hashed_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab" * 3_000_000)
    assert digest_file(path) == digest_bytes(b"ab" * 3_000_000)
