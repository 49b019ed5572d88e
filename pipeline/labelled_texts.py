"""Texts to learn from: of text files, JSON lines, Parquet (also our corpora) and CSV, all or those with some value.

What a file is, its name says: `.txt` (one text a file), `.jsonl` or `.ndjson`, `.parquet`, `.csv`; all but Parquet may
end in `.gz` or `.zst`, the first two in `.lz4` too.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from headrace.pipeline.errors import InputError
from headrace.pipeline.extract import Extracted, clean, make_extractor
from headrace.pipeline.readers.contract import Record, make_reader

COMPRESSIONS = (".gz", ".zst", ".lz4")
MAX_CSV_FIELD = 16 << 20


@dataclass(frozen=True)
class Choice:
    """Which texts of a table: those whose `column` has one of `values` (compared as text); no column means all."""

    text_column: str = "text"
    column: str = ""
    values: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text_column: str, where: str) -> "Choice":
        """Read `COLUMN=VALUE,VALUE`, or nothing for all texts; raises InputError."""
        column, equals, values = where.partition("=")
        if where and not (column and equals and values):
            raise InputError(f"{where!r} chooses nothing; write COLUMN=VALUE or COLUMN=VALUE,VALUE, as in class=0,1")
        return cls(text_column, column, tuple(values.split(",")) if where else ())

    @property
    def columns(self) -> list[str]:
        """The columns that must be read."""
        return [self.text_column, *([self.column] if self.column else [])]

    def takes(self, value: Any) -> bool:
        """Tell whether a row with this value is chosen."""
        return not self.column or as_text(value) in self.values


def as_text(value: Any) -> str:
    """Return a value as it is compared: flags in lower case, whole numbers without a decimal point."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_texts(path: Path, choice: Choice) -> Iterator[str | None]:
    """Yield the chosen texts of a file in its order: empty where a row has none, None where a record is faulty.

    Raises:
        InputError: the file is of no known kind, damaged, or has no such column.
    """
    stem = path.name
    for compression in COMPRESSIONS:
        stem = stem.removesuffix(compression)
    kind = stem.rpartition(".")[2]
    if kind == "parquet":
        yield from _parquet(path, choice)
    elif kind == "csv":
        yield from _csv(path, choice)
    elif kind in ("txt", "jsonl", "ndjson"):
        yield from _records(path, choice, "text" if kind == "txt" else "jsonl")
    else:
        raise InputError(f"{path}: not known what is in it; name files in .txt, .jsonl, .parquet or .csv")


def _records(path: Path, choice: Choice, reader: str) -> Iterator[str | None]:
    if reader == "text" and choice.column:
        raise InputError(f"{path}: a text file has no column {choice.column!r} to choose by")
    keys = {"text_key": choice.text_column, "metadata_keys": [choice.column] if choice.column else []}
    made, plain = make_reader(reader, keys if reader == "jsonl" else {}), make_extractor("plain", {})
    with path.open("rb") as file:
        for item in made.read(file, path.as_uri()):
            if isinstance(item, Record) and choice.takes(item.metadata.get(choice.column, "")):
                found = plain.extract(item)
                yield found.text if isinstance(found, Extracted) else "" if found.reason == "empty" else None


def _parquet(path: Path, choice: Choice) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _require(path, choice, file.schema_arrow.names)
            for batch in file.iter_batches(columns=choice.columns):
                values = batch.column(choice.column).to_pylist() if choice.column else [None] * batch.num_rows
                for text, value in zip(batch.column(choice.text_column).to_pylist(), values, strict=True):
                    if choice.takes(value):
                        yield clean(text) if isinstance(text, str) else ""
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None


def _csv(path: Path, choice: Choice) -> Iterator[str]:
    with _opened(path) as file:
        csv.field_size_limit(MAX_CSV_FIELD)
        rows = csv.DictReader(file)
        try:
            _require(path, choice, list(rows.fieldnames or ()))
            for row in rows:
                if choice.takes(row[choice.column] if choice.column else None):
                    yield clean(row[choice.text_column] or "")
        except (csv.Error, EOFError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: line {rows.line_num} cannot be read as CSV in UTF-8: {error}") from None


def _require(path: Path, choice: Choice, names: list[str]) -> None:
    for column in choice.columns:
        if column not in names:
            raise InputError(f"{path}: has no column {column!r}; it has {', '.join(names) or 'none'}")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield file
    elif path.suffix == ".zst":
        import zstandard

        with path.open("rb") as stored, zstandard.ZstdDecompressor().stream_reader(stored) as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8", newline="")
    else:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
