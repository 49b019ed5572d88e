"""Gopher's measures of repetition and quality (Rae et al. 2021, arXiv:2112.11446, table A1 and section A1.1).

They are computed as datatrove 0.10.1's `GopherRepetitionFilter` and `GopherQualityFilter` compute them, which differ
from the paper in places: a duplicate's characters are counted from its second occurrence on, and shares of characters
are of the whole text while words leave out white space. With `words = "spacy"` the words are spaCy's own. With
`unspaced = "null"` what rests on words is null for texts in scripts without spaces, with `"segment"` it is measured on
ICU's words (`filters.unspaced`); the reference measures them like English.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.counts import ratios
from headrace.filters.unspaced import Unspaced, null_where_unspaced, unspaced_resources
from headrace.filters.words import Words, word_resources

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
OF_WORDS = (  # columns of `gopher_quality` that rest on words
    *("num_words", "num_non_symbol_words", "mean_word_length", "hash_ratio", "ellipsis_ratio"),
    *("alpha_word_frac", "num_stop_words"),
)


@register
@dataclass(frozen=True)
class GopherRepetition:
    """How much of a text repeats itself, in lines, paragraphs and word n-grams."""

    name: ClassVar[str] = "gopher_repetition"
    version: ClassVar[int] = 1

    words: Words = "english"
    unspaced: Unspaced = "measure"

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
        return {**word_resources(self.words), **unspaced_resources(self.unspaced)}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and shares; of the empty text only `num_chars` is defined, of few words no top n-gram."""
        from headrace.filters.analysis.repeats import count_repeats

        utf8, table = batch.utf8, batch.words_for(self.words, self.unspaced)
        runs = np.array(TOP_GRAMS), np.array(DUPLICATE_GRAMS)
        counts = count_repeats(*utf8, *table, *runs, *load_codepoints()).T
        num_chars, num_paragraphs, paragraphs, paragraph_chars, num_lines, lines, line_chars, *run_chars = counts
        defined, num_words = num_chars > 0, np.diff(table.first)
        shortest = (*TOP_GRAMS, *[0] * len(DUPLICATE_GRAMS))
        values = (
            num_chars.tolist(),
            ratios(paragraphs, np.where(defined, num_paragraphs, 0)),
            ratios(paragraph_chars, num_chars),
            ratios(lines, np.where(defined, num_lines, 0)),
            ratios(line_chars, num_chars),
            *(ratios(c, np.where(num_words >= n, num_chars, 0)) for n, c in zip(shortest, run_chars, strict=True)),
        )
        measured = dict(zip((column.name for column in self.columns), values, strict=True))
        return null_where_unspaced(self.unspaced, batch, measured, [name for name in measured if "_gram_" in name])


@register
@dataclass(frozen=True)
class GopherQuality:
    """Whether a text looks like prose: its words, symbols, bullets, ellipses and stop words."""

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[int] = 1

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    words: Words = "english"
    unspaced: Unspaced = "measure"

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
        return {**word_resources(self.words), **unspaced_resources(self.unspaced)}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and ratios; a ratio to no words or no lines is undefined."""
        from headrace.filters.analysis.prose import count_line_forms, count_marks, count_words

        table = batch.words_for(self.words, self.unspaced)
        words = count_words(*table, stop_word_table(self.stop_words), len(self.stop_words)).T
        marks = count_marks(*batch.utf8).T
        lines = count_line_forms(*batch.utf8, *load_codepoints()).T
        values = (
            words[0].tolist(),
            words[1].tolist(),
            ratios(words[2], words[1]),
            ratios(marks[0], words[0]),
            ratios(marks[1], words[0]),
            ratios(lines[1], lines[0]),
            ratios(lines[2], lines[0]),
            ratios(words[3], words[0]),
            words[4].tolist(),
        )
        measured = dict(zip((column.name for column in self.columns), values, strict=True))
        return null_where_unspaced(self.unspaced, batch, measured, OF_WORDS)


@cache
def stop_word_table(words: tuple[str, ...]) -> Any:
    """Return a table that numbers some words by their hashes."""
    from headrace.filters.analysis.lexicon import number_words

    return number_words(words)
