"""C4's clean-up of lines (Raffel et al. 2020, arXiv:1910.10683, section 2.2), as spans.

The text without the spans of `removed` is what datatrove 0.10.1's `C4QualityFilter` leaves, to the character: lines
with a fault go, kept lines lose the white space around them and Wikipedia's citation marks, and one line feed joins
them (where the source has none between two kept lines, the span of their break is replaced by one). Whether the page
stays is for rules: over the sentences that are left, and over the two marks that condemn a whole page. Sentences are
those of spaCy's sentencizer over the kernel's words, or with `words = "spacy"` over spaCy's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.spans import SpanColumn
from headrace.filters.utf8 import Int64s, Uint8s, frozen
from headrace.filters.words import Words, word_resources

FAULTS = ("too_long_word", "no_terminal_punct", "too_few_words", "javascript", "policy")
_ANY_LENGTH = 1 << 62
SPAN_KINDS = (*((label, None) for label in (*FAULTS, "citation", "white_space")), ("line_break", "\n"))


@register
@dataclass(frozen=True)
class C4:
    """Which lines C4 removes and why, and what it says about the page; the defaults are FineWeb's.

    A negative `max_word_length` lets words be of any length.
    """

    name: ClassVar[str] = "c4"
    version: ClassVar[int] = 1

    terminal_punct: bool = False
    min_words_per_line: int = 3
    max_word_length: int = 1000
    citations: bool = True
    javascript: bool = True
    policy: bool = True
    words: Words = "english"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The edit, the page's marks, and counts of lines; lines are counted under their first fault."""
        return (
            Column("removed", "spans", "what C4 removes: lines by fault, citations, white space around lines"),
            Column("has_lorem_ipsum", "bool", "a line holds `lorem ipsum`"),
            Column("has_curly_bracket", "bool", "a line holds an opening curly bracket, lines on Javascript aside"),
            Column("num_sentences", "int", "sentences in the kept lines, each line cut for itself"),
            Column("num_lines", "int", "lines of the text"),
            *(Column(f"num_lines_{fault}", "int", f"lines removed as {fault}") for fault in FAULTS),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides words and sentences."""
        return word_resources(self.words)

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return spans, marks and counts; all are defined for every text."""
        from headrace.filters.analysis.c4_lines import clean_lines

        longest = self.max_word_length if self.max_word_length >= 0 else _ANY_LENGTH
        options = (self.terminal_punct, self.min_words_per_line, longest, self.citations)
        kinds = 2 * self.javascript + 4 * self.policy
        cleaned = clean_lines(*batch.utf8, *options, kinds, *load_codepoints())
        spans, first_span, counts, lines, first_line, cited = cleaned
        sentences = _count_sentences(self.words, batch, lines, first_line, *cited)
        num_lines, lorem, curly = counts[:, len(FAULTS) :].T
        removed = SpanColumn(first_span, spans["start"], spans["end"], spans["label"], SPAN_KINDS)
        values = (removed, (lorem != 0).tolist(), (curly != 0).tolist(), sentences.tolist(), num_lines.tolist())
        faults = (column.tolist() for column in counts.T[: len(FAULTS)])
        return dict(zip((column.name for column in self.columns), (*values, *faults), strict=True))


def _count_sentences(
    words: Words, batch: TextBatch, lines: Int64s, first_line: Int64s, cited: Uint8s, offsets: Int64s, texts: Int64s
) -> Int64s:
    """Return each text's sentences: of lines that stay as they are, and of those that lost citations."""
    from headrace.filters.analysis.sentences import count_sentences
    from headrace.filters.analysis.splitters import cut_by

    sentences: Int64s = count_sentences(batch.utf8.data, *batch.words_for(words), lines, first_line)
    cited = frozen(cited)
    ranges = np.stack([offsets[:-1], offsets[1:]], axis=1)
    of_cited = count_sentences(cited, *cut_by(words, cited, offsets), ranges, np.arange(len(offsets)))
    np.add.at(sentences, texts, of_cited)
    return sentences
