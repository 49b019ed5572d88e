"""What a signal is: a named, versioned measurement of texts, in columns.

A signal never decides. It measures whole batches and returns one value per text for each of its columns; rules
(`filters.rules`) read those columns later, so a changed threshold never measures again. A class becomes a signal by
`@register`; its dataclass fields are its configuration and, with `version` and `resources()`, its identity.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from headrace.filters.registry import ClassRegistry
from headrace.filters.utf8 import Int64s, Uint8s, Utf8, frozen

if TYPE_CHECKING:
    from headrace.filters.analysis.tokens import WordTable
    from headrace.filters.unspaced import Unspaced
    from headrace.filters.words import Words

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


class TextBatch:
    """Texts to measure, with the analyses that several signals share (each made once, when first asked for).

    `urls` is parallel to `texts`; a document without a URL has the empty string. Texts are Unicode as Python has it:
    a lone surrogate, which no stored text has, is measured as U+FFFD, which is as long in UTF-8.
    """

    def __init__(self, texts: Sequence[str], urls: Sequence[str]) -> None:
        self.texts, self.urls = [_without_surrogates(text) for text in texts], urls

    @classmethod
    def from_utf8(cls, data: Uint8s, offsets: Int64s, urls: Sequence[str]) -> "TextBatch":
        """Return a batch of texts that lie end to end in `data`, text i from offsets[i] to offsets[i + 1]."""
        batch = cls.__new__(cls)
        batch.urls, batch.utf8 = urls, Utf8(frozen(data), offsets)
        return batch

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.urls)

    @cached_property
    def texts(self) -> Sequence[str]:
        """The texts as strings."""
        return list(self.utf8.texts())

    @cached_property
    def utf8(self) -> Utf8:
        """The texts as bytes end to end."""
        return Utf8.of(self.texts)

    @cached_property
    def _word_tables(self) -> "dict[tuple[Words, bool], WordTable]":
        return {}

    def words_for(self, words: "Words" = "english", unspaced: "Unspaced" = "measure") -> "WordTable":
        """Words of each text in arrays, cut as a signal's options ask; one table for each way of cutting."""
        from headrace.filters.analysis.splitters import cut_by, segment_unspaced

        segmented = unspaced == "segment"
        if (words, segmented) not in self._word_tables:
            table = segment_unspaced(self, words) if segmented else cut_by(words, *self.utf8)
            self._word_tables[words, segmented] = table
        return self._word_tables[words, segmented]

    @property
    def word_table(self) -> "WordTable":
        """Words of each text as spaCy's English tokenizer cuts them, in arrays."""
        return self.words_for()

    @cached_property
    def words(self) -> list[list[str]]:
        """The same words as strings; white space is left out."""
        from headrace.filters.analysis.tokens import word_strings

        return word_strings(self.utf8.data, self.word_table)

    def forget_analyses(self) -> None:
        """Give back the memory of what was analysed; it is made again when it is asked for again."""
        for name in ("_word_tables", "words", *(("texts",) if "utf8" in self.__dict__ else ())):
            self.__dict__.pop(name, None)


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


@runtime_checkable
class StoredModel(Protocol):
    """A signal that can be measured with a model of the store that it is measured in, by the option `artifact`.

    `artifact` is a name until `pin` has put the digest of its model in place of it; `stored_as` is the stage that
    trains such models.
    """

    stored_as: ClassVar[str]

    @property
    def artifact(self) -> str | None:
        """The option; None where the model is given otherwise."""
        ...

    def pin(self, manifest: Path) -> Mapping[str, Any]:
        """Return the options to change so that they hold the digest of the model, None for those to take away."""
        ...

    def with_model(self, path: Path) -> "Signal":
        """Return the signal, when it is pinned, with the file to open; a file with another digest is refused."""
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
