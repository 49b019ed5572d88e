"""Edits of a text as spans, and the views that spans make.

A span is a half-open range of UTF-8 byte offsets into a text. Without a replacement it removes those bytes, with
one it redacts them. Spans are merged and applied once; where both claim a byte, removal beats redaction. A *view*
is a text after the edits of one signal; `View.to_source` carries spans measured on it back to offsets in the text it
was made from.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt


class Span(NamedTuple):
    """A range of bytes, why it is there, and what takes its place (None: nothing does, it is removed)."""

    start: int
    end: int
    label: str
    replacement: str | None = None


@dataclass(frozen=True)
class SpanColumn(Sequence[list[Span]]):
    """Spans of many texts as arrays; text i has those from offsets[i] to offsets[i + 1].

    `labels` are numbers of `kinds`, each a label and its replacement. Indexing makes the spans of one text.
    """

    offsets: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    kinds: tuple[tuple[str, str | None], ...]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> list[Span]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Span]]: ...
    def __getitem__(self, index: int | slice) -> list[Span] | list[list[Span]]:
        """Return the spans of one text, or of each text of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        part = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        columns = (self.starts[part].tolist(), self.ends[part].tolist(), self.labels[part].tolist())
        return [Span(start, end, *self.kinds[label]) for start, end, label in zip(*columns, strict=True)]


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return disjoint, non-empty edits in order of offset.

    A byte that two spans claim goes to the removal, then to the span that starts first. A redaction that is cut into
    pieces puts its replacement where its first piece stands.
    """
    ordered = sorted(
        (s for s in spans if s.end > s.start), key=lambda s: (s.start, s.end, s.label, s.replacement or "")
    )
    removals = list(_merge_removals(s for s in ordered if s.replacement is None))
    ends = [span.end for span in removals]
    edits = list(removals)
    covered = 0
    for span in ordered:
        if span.replacement is not None:
            first = bisect_right(ends, max(span.start, covered))
            pieces = list(_outside(max(span.start, covered), span.end, removals, first))
            edits += [span._replace(start=a, end=b, replacement="") for a, b in pieces]
            if pieces:
                edits[-len(pieces)] = edits[-len(pieces)]._replace(replacement=span.replacement)
            covered = max(covered, span.end)
    return sorted(edits, key=lambda s: s.start)


def _span_order(span: Span) -> tuple[int, int, str, str]:
    return span.start, span.end, span.label, span.replacement or ""


def _merge_removals(ordered: Iterable[Span]) -> Iterator[Span]:
    """Yield disjoint removals; neighbours of one label become one, an overlap goes to the earlier."""
    last: Span | None = None
    for span in ordered:
        if last is None:
            last = span
        elif span.label == last.label and span.start <= last.end:
            last = last._replace(end=max(last.end, span.end))
        elif span.end > last.end:
            yield last
            last = span._replace(start=max(span.start, last.end))
    if last is not None:
        yield last


def _outside(start: int, end: int, taken: Sequence[Span], first: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of [start, end) that none of `taken[first:]` (sorted, disjoint) covers."""
    for index in range(first, len(taken)):
        if taken[index].start >= end:
            break
        if taken[index].start > start:
            yield start, taken[index].start
        start = max(start, taken[index].end)
    if start < end:
        yield start, end


def apply_spans(text: str, spans: Iterable[Span]) -> str:
    """Return the text after all edits.

    Raises:
        ValueError: a span lies outside the text or cuts a character in two.
    """
    edits = merge_spans(spans)
    if not edits:
        return text
    data = text.encode()
    parts: list[bytes] = []
    position = 0
    for start, end, _, replacement in edits:
        if not 0 <= start <= end <= len(data):
            raise ValueError(f"span [{start}, {end}) lies outside a text of {len(data)} bytes")
        parts += (data[position:start], (replacement or "").encode())
        position = end
    parts.append(data[position:])
    return b"".join(parts).decode()


@dataclass(frozen=True)
class View:
    """A text after the edits of one signal; `edits` are merged, in bytes of the source text."""

    text: str
    edits: tuple[Span, ...]

    @classmethod
    def without(cls, text: str, spans: Iterable[Span]) -> "View":
        """Make the view of `text` that leaves out what `spans` remove and holds their replacements."""
        edits = tuple(merge_spans(spans))
        return cls(apply_spans(text, edits), edits)

    def to_source(self, spans: Iterable[Span]) -> list[Span]:
        """Carry spans on the view back to the source text; one that touches or crosses an edit covers it too."""
        if not self.edits:
            return list(spans)
        return [self._move(span) for span in spans]

    def _move(self, span: Span) -> Span:
        start, _ = self._source_range(span.start)
        if span.end <= span.start:
            return span._replace(start=start, end=start)
        _, end = self._source_range(span.end - 1)  # the end follows the last byte: what was removed behind it stays out
        return span._replace(start=start, end=end)

    def _source_range(self, offset: int) -> tuple[int, int]:
        """Return the source bytes that one byte of the view stands for: one byte, or all that was replaced."""
        starts, shifts = self._places
        index = bisect_right(starts, offset) - 1
        if index < 0:
            return offset, offset + 1
        edit = self.edits[index]
        if offset < starts[index] + len((edit.replacement or "").encode()):
            return edit.start, edit.end
        return offset + shifts[index], offset + shifts[index] + 1

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """Return where each edit begins in the view, and by how much the source is ahead of the view after it."""
        starts, shifts = [], []
        shift = 0
        for edit in self.edits:
            starts.append(edit.start - shift)
            shift += edit.end - edit.start - len((edit.replacement or "").encode())
            shifts.append(shift)
        return starts, shifts
