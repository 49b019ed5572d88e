"""C4's clean-up of lines (Raffel et al. 2020, arXiv:1910.10683, section 2.2), as spans.

The text without the spans of `removed` is what datatrove 0.10.1's `C4QualityFilter` leaves, to the character: lines
with a fault go, kept lines lose the white space around them and Wikipedia's citation marks, and one line feed joins
them (where the source has none between two kept lines, the span of their break is replaced by one). Whether the page
stays is for rules: over the sentences that are left, and over the two marks that condemn a whole page.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.spans import Span, to_byte_offsets
from headrace.filters.words import EnglishTokenizer, english_tokenizer, word_resources

FAULTS = ("too_long_word", "no_terminal_punct", "too_few_words", "javascript", "policy")
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_TERMINAL = (".", "?", "!", '"', "'")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


@register
@dataclass(frozen=True)
class C4:
    """Which lines C4 removes and why, and what it says about the page; the defaults are FineWeb's."""

    name: ClassVar[str] = "c4"
    version: ClassVar[int] = 1

    terminal_punct: bool = False
    min_words_per_line: int = 3
    max_word_length: int = 1000
    citations: bool = True
    javascript: bool = True
    policy: bool = True

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
        return word_resources()

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return spans, marks and counts; all are defined for every text."""
        tokenizer = english_tokenizer()
        return by_column(self.columns, (self._measure(text, tokenizer) for text in batch.texts))

    def _measure(self, text: str, tokenizer: EnglishTokenizer) -> tuple[Any, ...]:
        faults = Counter[str]()
        lorem = curly = False
        num_lines = num_sentences = position = 0
        edit = _Edit(text)
        for raw in text.splitlines(keepends=True):
            line = raw.strip()
            cleaned = _CITATION.sub("", line) if self.citations else line
            lowered = cleaned.lower()
            fault = self._fault_of_form(line, cleaned)
            if fault is None:
                lorem |= "lorem ipsum" in lowered
                fault = "javascript" if self.javascript and "javascript" in lowered else None
                curly |= fault is None and "{" in cleaned
                if fault is None and self.policy and any(policy in lowered for policy in _POLICIES):
                    fault = "policy"
            if fault is None:
                num_sentences += tokenizer.num_sentences(cleaned)
                edit.keep(position, raw, line, self.citations)
            else:
                faults[fault] += 1
                edit.drop(position, raw, fault)
            num_lines += 1
            position += len(raw)
        spans = to_byte_offsets(text, edit.spans())
        return spans, lorem, curly, num_sentences, num_lines, *(faults[fault] for fault in FAULTS)

    def _fault_of_form(self, line: str, cleaned: str) -> str | None:
        """Return the fault that a line has whatever it says; words are counted with the citations among them."""
        words = line.split()
        if len(line) > self.max_word_length and any(len(word) > self.max_word_length for word in words):
            return "too_long_word"
        if self.terminal_punct and (not cleaned.endswith(_TERMINAL) or cleaned.endswith("...")):
            return "no_terminal_punct"
        return "too_few_words" if len(words) < self.min_words_per_line else None


@dataclass
class _Edit:
    """An edit of lines as it is found, in offsets of characters.

    `labels` (end, label) tile the text and say why a range would go. `kept` holds what stays, in order; a break
    between kept lines that must become a line feed stays as a span with that replacement.
    """

    text: str
    labels: list[tuple[int, str]] = field(default_factory=list)
    kept: list[Span] = field(default_factory=list)
    line_end: int | None = None

    def drop(self, position: int, raw: str, fault: str) -> None:
        """Leave the line that begins at `position` out."""
        self._label(position + len(raw), fault)

    def keep(self, position: int, raw: str, line: str, citations: bool) -> None:
        """Keep what is left of a line without the white space around it and without citations."""
        start = position + len(raw) - len(raw.lstrip())
        if self.line_end is not None:
            self.kept.append(self._line_break(self.line_end, start))
        begin = start
        for match in _CITATION.finditer(line) if citations else ():
            self.kept.append(Span(begin, start + match.start(), "kept"))
            begin = start + match.end()
            self._label(start + match.start(), "white_space")
            self._label(begin, "citation")
        self.line_end = start + len(line)
        self.kept.append(Span(begin, self.line_end, "kept"))
        self._label(position + len(raw), "white_space")

    def _label(self, end: int, label: str) -> None:
        if self.labels and self.labels[-1][1] == label:
            self.labels.pop()
        if not self.labels or end > self.labels[-1][0]:
            self.labels.append((end, label))

    def _line_break(self, start: int, end: int) -> Span:
        """Return the line feed to keep between two lines, or the break that becomes one."""
        found = self.text.find("\n", start, end)
        if found >= 0:
            return Span(found, found + 1, "kept")
        line, with_break = (self.text[start:end].splitlines(keepends)[0] for keepends in (False, True))
        return Span(start + len(line), start + len(with_break), "line_break", "\n")

    def spans(self) -> list[Span]:
        """Return the edits: what becomes a line feed, and all that is not kept, by label."""
        kept = self._stripped()
        spans = [span for span in kept if span.replacement is not None]
        ends = [end for end, _ in self.labels]
        starts = [0, *(span.end for span in kept)]
        stops = [*(span.start for span in kept), len(self.text)]
        for start, stop in zip(starts, stops, strict=True):
            index = bisect_right(ends, start)
            while start < stop:
                end = min(ends[index], stop)
                spans.append(Span(start, end, self.labels[index][1]))
                start, index = end, index + 1
        return sorted(spans)

    def _stripped(self) -> list[Span]:
        """Return what stays when white space goes from both ends of it."""
        kept = [span for span in self.kept if span.end > span.start]
        while kept and not self._source(kept[0]).strip():
            del kept[0]
        while kept and not self._source(kept[-1]).strip():
            del kept[-1]
        if kept:
            kept[0] = kept[0]._replace(start=kept[0].end - len(self._source(kept[0]).lstrip()))
            kept[-1] = kept[-1]._replace(end=kept[-1].start + len(self._source(kept[-1]).rstrip()))
        return kept

    def _source(self, span: Span) -> str:
        return self.text[span.start : span.end]
