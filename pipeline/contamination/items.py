"""Items of evaluation sets, read from files: JSON lines, JSON, Parquet, CSV and plain text.

An item is a record, and what is looked for are the texts of some of its fields, each for itself. Of a JSON file the
records are the list that it is, or the lists that `records` leads to, a path of keys joined by dots; a field is such a
path, too, and lists on the way give several texts. Of plain text every line that is not empty is an item.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError
from headrace.pipeline.record_files import read_records


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
        for record in read_records(path, records):
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
    first = next(iter(read_records(path, records)), None)
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
