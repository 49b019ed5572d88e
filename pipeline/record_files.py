"""Records of data files that a person names: JSON lines, JSON, Parquet, CSV, TSV and plain text, gzip and zstd too.

Of a JSON file the records are the list that it is, or the lists that `records` leads to, a path of keys joined by dots.
Of plain text every line that is not empty is a record with one field, `text`.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError

FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".txt")
COMPRESSIONS = (".gz", ".zst")
TEXT_FIELD = "text"


def read_records(path: Path, records: str = "") -> Iterator[Any]:
    """Yield the records of a file in order.

    Args:
        path: The file; its name says what is in it.
        records: Where a JSON file has its records, if it is not a list of them.

    Raises:
        InputError: it is of no known format, or cannot be read.
    """
    stem = path.name
    for compression in COMPRESSIONS:
        stem = stem.removesuffix(compression)
    suffix = Path(stem).suffix
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
        elif suffix == ".json":
            yield from _list_of(path, json.loads(_read(path)), records)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(path)
        elif suffix in (".csv", ".tsv"):
            yield from _table(path, "," if suffix == ".csv" else "\t")
        elif suffix == ".txt":
            yield from ({TEXT_FIELD: line} for line in _read(path).splitlines() if line.strip())
        else:
            raise InputError(f"{path}: not known what is in it; name files in {', '.join(FORMATS)}, also .gz and .zst")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as {suffix[1:]}: {error}") from None


def _read(path: Path) -> str:
    if path.suffix == ".zst":
        import zstandard

        with path.open("rb") as stored, zstandard.ZstdDecompressor().stream_reader(stored) as stream:
            return stream.read().decode("utf-8-sig")
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(_read(path).split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}: line {number} is no JSON: {error}") from None


def _table(path: Path, delimiter: str) -> Iterator[Any]:
    rows = csv.DictReader(io.StringIO(_read(path)), delimiter=delimiter)
    for row in rows:
        if None in row:  # cells behind the last column
            names = rows.fieldnames or ()
            raise InputError(
                f"{path}: line {rows.line_num} has {len(row) - 1 + len(row[None])} cells, but there are {len(names)} "
                f"columns: {', '.join(names)}; a cell with {delimiter!r} in it stands in quotes"
            )
        yield row


def _list_of(path: Path, value: Any, records: str) -> Iterable[Any]:
    found = [value]
    for key in filter(None, records.split(".")):
        found = [
            one for item in _flat(found) if isinstance(item, Mapping) for one in [item.get(key)] if one is not None
        ]
    items = list(_flat(found))
    if not items or (not records and isinstance(value, Mapping)):
        keys = f"; it has {', '.join(value)}" if isinstance(value, Mapping) else ""
        raise InputError(f"{path}: no list of records under {records!r}{keys}; say where with `records`")
    return items


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, list) else (value,)


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
