"""FineWeb's own measures of lists and fragments (Penedo et al. 2024, arXiv:2406.17557, section 3.5).

Computed as datatrove 0.10.1's `FineWebQualityFilter` does. The reference judges the text that C4's line removal
leaves, so recipes measure this signal on the view `c4`. With `words = "spacy"` the words are spaCy's own. With
`unspaced = "null"` line breaks a word are null for texts in scripts without spaces, with `"segment"` they are measured
on ICU's words (`filters.unspaced`); the reference measures them like English.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.counts import ratios
from headrace.filters.unspaced import Unspaced, null_where_unspaced, unspaced_resources
from headrace.filters.words import Words, word_resources


@register
@dataclass(frozen=True)
class FineWeb:
    """How a text's lines end, how short they are, and how much they repeat."""

    name: ClassVar[str] = "fineweb"
    version: ClassVar[int] = 1

    short_line_chars: int = 30
    words: Words = "english"
    unspaced: Unspaced = "measure"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Shares in the order in which datatrove judges them."""
        return (
            Column("num_lines", "int", "lines that are not white space"),
            Column("line_punct_ratio", "float", "lines that end with terminal punctuation, of all"),
            Column("short_line_ratio", "float", f"lines of at most {self.short_line_chars} characters, of all"),
            Column("char_dup_ratio", "float", "characters in lines that occurred before, of all but line breaks"),
            Column("new_line_ratio", "float", "line breaks a word"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides the words."""
        return {**word_resources(self.words), **unspaced_resources(self.unspaced)}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and ratios; of a text without lines only `num_lines` is defined."""
        from headrace.filters.analysis.prose import count_fragments

        counts = count_fragments(*batch.utf8, self.short_line_chars, *load_codepoints()).T
        num_lines, punctuated, short, repeated, num_chars, num_breaks = counts
        defined, num_words = num_lines > 0, np.diff(batch.words_for(self.words, self.unspaced).first)
        values = (
            num_lines.tolist(),
            ratios(punctuated, num_lines),
            ratios(short, num_lines),
            ratios(repeated, np.where(defined, num_chars, 0)),
            ratios(num_breaks, np.where(defined, num_words, 0)),
        )
        measured = dict(zip((column.name for column in self.columns), values, strict=True))
        return null_where_unspaced(self.unspaced, batch, measured, ["new_line_ratio"])
