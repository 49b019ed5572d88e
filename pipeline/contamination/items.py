"""Items of evaluation sets, read from files: JSON lines, JSON, Parquet, CSV and plain text.

An item is a record, and what is looked for are the texts of some of its fields, each for itself. Of a JSON file the
records are the list that it is, or the lists that `records` leads to, a path of keys joined by dots; a field is such a
path, too, and lists on the way give several texts. Of plain text every line that is not empty is an item.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError

FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".txt")
COMPRESSIONS = (".gz", ".zst")
TEXT_FIELD = "text"


@dataclass(frozen=True)
class Item:
    """An item of a benchmark: its number in the set's order, what the set calls it, and its texts."""

    benchmark: str
    number: int
    name: str
    texts: tuple[str, ...]


def read_items(
    benchmark: str, paths: Sequence[Path], fields: Sequence[str], records: str = "", id_field: str = ""
) -> Iterator[Item]:
    """Yield the items of a set.

    Args:
        benchmark: What the set is called.
        paths: Its files, in order.
        fields: The fields whose texts are looked for; of plain text there is one, called `text`.
        records: Where a JSON file has its records, if it is not a list of them.
        id_field: The field that names an item; else its number does.

    Raises:
        InputError: a file is of no known format, cannot be read, or no record of it has one of the fields.
    """
    number = 0
    for path in paths:
        found: set[str] = set()
        for record in _records(path, records):
            texts = {field: list(_texts(record, field.split("."))) for field in fields}
            found.update(field for field, values in texts.items() if values)
            names = list(_texts(record, id_field.split("."))) if id_field else []
            together = tuple(text for values in texts.values() for text in values)
            yield Item(benchmark, number, names[0] if names else str(number), together)
            number += 1
        for field in fields:
            if field not in found:
                raise InputError(
                    f"{path}: no record of {benchmark!r} has a text under {field!r}{_known(path, records)}"
                )


def _known(path: Path, records: str) -> str:
    """Say which fields the first record has."""
    first = next(iter(_records(path, records)), None)
    return f"; the first has {', '.join(map(str, first)) or 'none'}" if isinstance(first, Mapping) else ""


def _texts(value: Any, path: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _texts(one, path)
    elif path and isinstance(value, Mapping):
        yield from _texts(value.get(path[0]), path[1:])
    elif not path and value is not None and not isinstance(value, Mapping):
        text = str(value)
        if text.strip():
            yield text


def _records(path: Path, records: str) -> Iterator[Any]:
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
            yield from csv.DictReader(io.StringIO(_read(path)), delimiter="," if suffix == ".csv" else "\t")
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
