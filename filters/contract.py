"""What a signal is: a named, versioned measurement of texts, in columns.

A signal never decides. It measures whole batches and returns one value per text for each of its columns; rules
(`filters.rules`) read those columns later, so a changed threshold never measures again. A class becomes a signal by
`@register`; its dataclass fields are its configuration and, with `version` and `resources()`, its identity.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from headrace.filters.registry import ClassRegistry

ColumnKind = Literal["int", "float", "bool", "string", "spans", "hashes"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a side table.

    `kind` fixes the stored type: `int` is int64, `float` float64 (one division of two counts, or a model score
    rounded to 1e-4), `spans` a list of `filters.spans.Span`, `hashes` the little-endian bytes of a uint32 or uint64
    vector. Undefined is None in every kind, never NaN.
    """

    name: str
    kind: ColumnKind
    doc: str


@dataclass(frozen=True)
class TextBatch:
    """Texts to measure, with the analyses that several signals share (each made once, when first asked for).

    `urls` is parallel to `texts`; a document without a URL has the empty string.
    """

    texts: Sequence[str]
    urls: Sequence[str]

    def __post_init__(self) -> None:
        """Measure a lone surrogate, which no stored text has, as U+FFFD, which is as long in UTF-8."""
        object.__setattr__(self, "texts", [_without_surrogates(text) for text in self.texts])

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    @cached_property
    def words(self) -> list[list[str]]:
        """Words of each text as spaCy's English tokenizer cuts them (`filters.words`), white space left out."""
        from headrace.filters.words import split_words

        return [split_words(text) for text in self.texts]


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text)


class Signal(Protocol):
    """Measures one family of facts about a text."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What `measure` returns, in order."""
        ...

    def resources(self) -> Mapping[str, str]:
        """Name and version, or digest, of each library, model file and word list that can change a value."""
        ...

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return for each column name one value per text; spans are byte offsets into the given text."""
        ...


def by_column(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Turn one tuple of values per text, in the order of `columns`, into one list per column."""
    gathered: dict[str, list[Any]] = {column.name: [] for column in columns}
    for row in rows:
        for values, value in zip(gathered.values(), row, strict=True):
            values.append(value)
    return dict(gathered)


SIGNALS = ClassRegistry("signal", "headrace.filters.signals")
register = SIGNALS.register
signal_classes = SIGNALS.all


def iter_columns(signals: Sequence[Signal]) -> Iterator[tuple[Signal, Column]]:
    """Yield each signal with each of its columns, in order."""
    for signal in signals:
        for column in signal.columns:
            yield signal, column
