"""FineWeb's own measures of lists and fragments (Penedo et al. 2024, arXiv:2406.17557, section 3.5).

Computed as datatrove 0.10.1's `FineWebQualityFilter` does. The reference judges the text that C4's line removal
leaves, so recipes measure this signal on the view `c4`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.punctuation import TERMINAL_PUNCTUATION
from headrace.filters.repetition import count_duplicates
from headrace.filters.words import word_resources


@register
@dataclass(frozen=True)
class FineWeb:
    """How a text's lines end, how short they are, and how much they repeat."""

    name: ClassVar[str] = "fineweb"
    version: ClassVar[int] = 1

    short_line_chars: int = 30

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
        return word_resources()

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and ratios; of a text without lines only `num_lines` is defined."""
        return by_column(self.columns, map(self._measure, batch.texts, batch.words))

    def _measure(self, text: str, words: list[str]) -> tuple[float | None, ...]:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return 0, None, None, None, None
        num_breaks = text.count("\n")
        return (
            len(lines),
            sum(line[-1] in TERMINAL_PUNCTUATION for line in lines) / len(lines),
            sum(len(line) <= self.short_line_chars for line in lines) / len(lines),
            count_duplicates(lines)[1] / (len(text) - num_breaks),
            num_breaks / len(words),
        )
