"""RefinedWeb's corrections of lines (Penedo et al. 2023, arXiv:2306.01116, appendix G.2), as spans.

Lines go that are mainly of upper case, of digits alone, a counter ("3 likes"), or one word; lines of at most ten words
lose the phrases of menus: at their start, at their end, or anywhere, and go where nothing is left. What counts is what
DCLM's reproduction does (Li et al. 2024, arXiv:2406.11794; mlfoundations/dclm, baselines/mappers/modifiers.py): mainly
is more than half of a line's characters, lines end at line feeds, a phrase goes with one white space beside it. The
paper gives one phrase of each kind and one counter; the counters are DCLM's, and `read more` before U+2026 is ours.

Two things differ from DCLM. It reads the dots of "Read more..." as a regular expression, so that any three characters
match; here dots match. And `removed_word_frac` counts the words between white space, as the paper says; DCLM counts by
fastText's tokenizer, to which each line feed is a word, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.counts import ratios
from headrace.filters.spans import SpanColumn
from headrace.filters.utf8 import Utf8

FAULTS = ("uppercase", "numeric", "counter", "one_word", "menu")
WHAT = {
    "uppercase": "lines removed: more than half of their characters are in upper case",
    "numeric": "lines removed: digits alone",
    "counter": "lines removed: a number and what it counts",
    "one_word": "lines removed: one word",
    "menu": "short lines that lost phrases of a menu, or went with them",
}
COUNTERS = (
    *("likes", "shares", "comments", "retweets", "reposts", "quotes"),
    *("bookmarks", "upvotes", "downvotes", "downloads", "views", "followers"),
)


@register
@dataclass(frozen=True)
class RefinedWeb:
    """Which lines RefinedWeb removes and why, and how much of the words they hold; phrases match in any case."""

    name: ClassVar[str] = "refinedweb"
    version: ClassVar[int] = 1

    counters: tuple[str, ...] = COUNTERS
    starts: tuple[str, ...] = ("sign-in",)
    ends: tuple[str, ...] = ("read more...", "read more…")
    anywhere: tuple[str, ...] = ("items in cart",)
    max_menu_words: int = 10

    @property
    def columns(self) -> tuple[Column, ...]:
        """The edit, counts of lines under their first fault, and words."""
        return (
            Column("removed", "spans", "what the corrections remove: lines by fault, phrases of menus"),
            Column("num_lines", "int", "lines of the text"),
            *(Column(f"num_lines_{fault}", "int", WHAT[fault]) for fault in FAULTS),
            Column("num_words", "int", "words between white space"),
            Column("num_removed_words", "int", "words that the corrections remove"),
            Column("removed_word_frac", "float", "words that the corrections remove, of all"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides cases, digits and white space."""
        from headrace.filters.analysis.letters import letters_digest

        return {"letters": letters_digest()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return spans, counts and the share; of a text without words the share is undefined."""
        from headrace.filters.analysis.letters import load_letters
        from headrace.filters.analysis.refinedweb_lines import ANYWHERE, AT_END, AT_START, correct_lines

        places = {AT_START: self.starts, AT_END: self.ends, ANYWHERE: self.anywhere}
        kinds = np.array([kind for kind, phrases in places.items() for _ in filter(None, phrases)], np.int64)
        phrases, counters = _packed(sum(places.values(), ())), _packed(self.counters)
        corrected = correct_lines(*batch.utf8, self.max_menu_words, *counters, *phrases, kinds, *load_letters())
        spans, first_span, counts = corrected
        *faults, num_lines, num_words, removed_words = counts.T
        removed = SpanColumn(first_span, spans["start"], spans["end"], spans["label"], tuple((f, None) for f in FAULTS))
        listed = (column.tolist() for column in (num_lines, *faults, num_words, removed_words))
        values = (removed, *listed, ratios(removed_words, num_words))
        return dict(zip((column.name for column in self.columns), values, strict=True))


def _packed(phrases: Sequence[str]) -> Utf8:
    """Return phrases in lower case as bytes end to end; empty ones, which would stand everywhere, are none."""
    return Utf8.of([phrase.lower() for phrase in phrases if phrase])
