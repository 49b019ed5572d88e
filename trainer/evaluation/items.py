"""Items of a task, and templates that make texts of them.

A field is named by its path: keys and numbers of list places, joined by dots (`answers.text.0`). A template is a text
with fields in braces (`Question: {question}`); a brace itself is written twice.
"""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError
from headrace.pipeline.record_files import read_records


@dataclass(frozen=True)
class Item:
    """A record of a data file; `number` counts from 0 over all files of a task, `place` in this one."""

    path: Path
    number: int
    place: int
    record: Mapping[str, Any]

    def value(self, field: str) -> Any:
        """Return what is at the path of a field.

        Raises:
            InputError: nothing is there; the message says what is.
        """
        found: Any = self.record
        for key in field.split("."):
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise self.fault(f"there is no field {field!r}; at {key!r} there is {_told(found)}")
        return found

    def text(self, field: str) -> str:
        """Return a field as text: numbers as JSON writes them, true and false too.

        Raises:
            InputError: it is not there, or is no text, number or truth value.
        """
        value = self.value(field)
        if isinstance(value, str):
            return value
        if not isinstance(value, int | float):
            raise self.fault(f"the field {field!r} is {_told(value)}, not a text")
        return json.dumps(value)

    def texts(self, field: str) -> list[str]:
        """Return the texts of a field that is a list of them, or one text.

        Raises:
            InputError: it is not there, or is neither.
        """
        value = self.value(field)
        if not isinstance(value, list):
            return [self.text(field)]
        return [self.text(f"{field}.{place}") for place in range(len(value))]

    def fault(self, what: str) -> InputError:
        """Return the error to raise about this record."""
        return InputError(f"{self.path}: record {self.place + 1}: {what}")


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a table with {', '.join(map(str, value)) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)


def read_task_items(paths: Sequence[Path], records: str, limit: int | None = None) -> list[Item]:
    """Return the items of a task's files in order, the first `limit` of them.

    Raises:
        InputError: a file cannot be read, one of its records is no table, or there are none.
    """
    found: list[Item] = []
    for path in paths:
        for place, record in enumerate(read_records(path, records)):
            if limit is not None and len(found) >= limit:
                return found
            if not isinstance(record, Mapping):
                raise InputError(f"{path}: record {place + 1} is {_told(record)}, not a table of fields")
            found.append(Item(path, len(found), place, record))
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no record there")
    return found


class Template:
    """A text with fields.

    Raises:
        ValueError: it cannot be read, or a field has a format; the message says what would be right.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        for literal, name, form, conversion in string.Formatter().parse(text):
            if name == "" or form or conversion:
                raise ValueError(f"{text!r}: in braces stands the path of a field alone, as in {{question}}")
            self._parts.append((literal, name))

    def fill(self, item: Item) -> str:
        """Return the text with an item's values; raises `InputError` where it has none."""
        return "".join(literal + (item.text(name) if name else "") for literal, name in self._parts)
