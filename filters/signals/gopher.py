"""Gopher's measures of repetition and quality (Rae et al. 2021, arXiv:2112.11446, table A1 and section A1.1).

They are computed as datatrove 0.10.1's `GopherRepetitionFilter` and `GopherQualityFilter` compute them, which differ
from the paper in places: a duplicate's characters are counted from its second occurrence on, and shares of characters
are of the whole text while words leave out white space.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.punctuation import PUNCTUATION_OR_TERMINAL
from headrace.filters.repetition import count_duplicates, repeated_gram_chars, top_gram_chars
from headrace.filters.words import word_resources

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
_PARAGRAPH_BREAK = re.compile(r"\n{2,}")
_LINE_BREAK = re.compile(r"\n+")


@register
@dataclass(frozen=True)
class GopherRepetition:
    """How much of a text repeats itself, in lines, paragraphs and word n-grams."""

    name: ClassVar[str] = "gopher_repetition"
    version: ClassVar[int] = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Shares in the order in which datatrove judges them."""
        return (
            Column("num_chars", "int", "characters of the text"),
            Column("dup_para_frac", "float", "paragraphs that occurred before, of all"),
            Column("dup_para_char_frac", "float", "characters in paragraphs that occurred before, of all"),
            Column("dup_line_frac", "float", "lines that occurred before, of all"),
            Column("dup_line_char_frac", "float", "characters in lines that occurred before, of all"),
            *(Column(f"top_{n}_gram_char_frac", "float", f"characters in the commonest {n}-gram") for n in TOP_GRAMS),
            *(Column(f"dup_{n}_gram_char_frac", "float", f"characters in repeated {n}-grams") for n in DUPLICATE_GRAMS),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides the words."""
        return word_resources()

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and shares; of the empty text only `num_chars` is defined, of few words no top n-gram."""
        rows = (_repetition(text, words) for text, words in zip(batch.texts, batch.words, strict=True))
        return by_column(self.columns, rows)


def _repetition(text: str, words: list[str]) -> tuple[float | None, ...]:
    if not text:
        return 0, *[None] * (4 + len(TOP_GRAMS) + len(DUPLICATE_GRAMS))
    paragraphs = _PARAGRAPH_BREAK.split(text.strip())
    lines = _LINE_BREAK.split(text)
    num_paragraphs, paragraph_chars = count_duplicates(paragraphs)
    num_lines, line_chars = count_duplicates(lines)
    top = (top_gram_chars(words, n) for n in TOP_GRAMS)
    repeated = (repeated_gram_chars(words, n) for n in DUPLICATE_GRAMS)
    return (
        len(text),
        num_paragraphs / len(paragraphs),
        paragraph_chars / len(text),
        num_lines / len(lines),
        line_chars / len(text),
        *(None if chars is None else chars / len(text) for chars in top),
        *(chars / len(text) for chars in repeated),
    )


@register
@dataclass(frozen=True)
class GopherQuality:
    """Whether a text looks like prose: its words, symbols, bullets, ellipses and stop words."""

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[int] = 1

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Counts, and ratios of counts."""
        return (
            Column("num_words", "int", "words, punctuation marks included"),
            Column("num_non_symbol_words", "int", "words with a character that is no punctuation"),
            Column("mean_word_length", "float", "characters a word, of the non-symbol words"),
            Column("hash_ratio", "float", "hash signs a word"),
            Column("ellipsis_ratio", "float", "ellipses a word"),
            Column("bullet_line_frac", "float", "lines that begin with a bullet, of all"),
            Column("ellipsis_line_frac", "float", "lines that end with an ellipsis, of all"),
            Column("alpha_word_frac", "float", "words with a letter, of all"),
            Column("num_stop_words", "int", "different stop words that occur"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides the words."""
        return word_resources()

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and ratios; a ratio to no words or no lines is undefined."""
        stop_words = frozenset(self.stop_words)
        rows = (_quality(text, words, stop_words) for text, words in zip(batch.texts, batch.words, strict=True))
        return by_column(self.columns, rows)


def _quality(text: str, words: list[str], stop_words: frozenset[str]) -> tuple[float | None, ...]:
    counts = Counter(words)
    lengths = [(len(word), count) for word, count in counts.items() if not PUNCTUATION_OR_TERMINAL.issuperset(word)]
    num_non_symbol = sum(count for _, count in lengths)
    num_alpha = sum(count for word, count in counts.items() if any(map(str.isalpha, word)))
    lines = text.splitlines()
    return (
        len(words),
        num_non_symbol,
        _ratio(sum(length * count for length, count in lengths), num_non_symbol),
        _ratio(text.count("#"), len(words)),
        _ratio(text.count("...") + text.count("…"), len(words)),
        _ratio(sum(line.lstrip().startswith(("•", "-")) for line in lines), len(lines)),
        _ratio(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        _ratio(num_alpha, len(words)),
        len(stop_words.intersection(counts)),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
