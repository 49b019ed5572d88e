"""Edits of a text as spans, and the views that spans make.

A span is a half-open range of UTF-8 byte offsets into a text. Without a replacement it removes those bytes, with
one it redacts them. Spans are merged and applied once; where both claim a byte, removal beats redaction. A *view*
is a text without the removed spans of one signal; `View.to_source` carries spans measured on it back to offsets in
the text it was made from.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """A range of bytes, why it is there, and what takes its place (None: nothing does, it is removed)."""

    start: int
    end: int
    label: str
    replacement: str | None = None


def merge_removals(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Return the removed ranges, sorted, disjoint and non-empty; redactions are left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((s.start, s.end) for s in spans if s.replacement is None and s.end > s.start):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Return disjoint, sorted edits: removals merged, redactions cut where a removal or an earlier redaction lies."""
    edits = [Span(start, end, "removed") for start, end in merge_removals(spans)]
    taken = [(s.start, s.end) for s in edits]
    for span in sorted(s for s in spans if s.replacement is not None):
        pieces = _outside(span.start, span.end, taken)
        for number, (start, end) in enumerate(pieces):
            edits.append(Span(start, end, span.label, span.replacement if number == 0 else ""))
        taken = sorted([*taken, *pieces])
    return sorted(edits)


def _outside(start: int, end: int, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pieces of [start, end) that no range of `taken` (sorted, disjoint) covers."""
    pieces = []
    for low, high in taken:
        if high <= start or low >= end:
            continue
        if low > start:
            pieces.append((start, low))
        start = max(start, high)
    return [*pieces, (start, end)] if start < end else pieces


def apply_spans(text: str, spans: Sequence[Span]) -> str:
    """Return the text after all edits.

    Raises:
        ValueError: a span lies outside the text or cuts a character in two.
    """
    if not spans:
        return text
    data = text.encode()
    parts: list[bytes] = []
    position = 0
    for start, end, _, replacement in merge_spans(spans):
        if not 0 <= start <= end <= len(data):
            raise ValueError(f"span [{start}, {end}) lies outside a text of {len(data)} bytes")
        parts += (data[position:start], (replacement or "").encode())
        position = end
    parts.append(data[position:])
    return b"".join(parts).decode()


@dataclass(frozen=True)
class View:
    """A text without some ranges of it; `removed` is sorted and disjoint, in bytes of the source text."""

    text: str
    removed: tuple[tuple[int, int], ...]

    @classmethod
    def without(cls, text: str, spans: Sequence[Span]) -> "View":
        """Make the view of `text` that leaves out what `spans` remove; redactions stay as they are."""
        removed = merge_removals(spans)
        return cls(apply_spans(text, [Span(a, b, "removed") for a, b in removed]), tuple(removed))

    def to_source(self, spans: Sequence[Span]) -> list[Span]:
        """Carry spans on the view back to the source text; one that crosses a removed range covers it too."""
        if not self.removed:
            return list(spans)
        kept_before = []  # the view offset at which each removed range was taken out
        shift = [0]
        for start, end in self.removed:
            kept_before.append(start - shift[-1])
            shift.append(shift[-1] + end - start)
        moved = []
        for span in spans:
            start = span.start + shift[bisect_right(kept_before, span.start)]
            last = span.end - 1  # the end follows its last byte, so that a removed range behind it stays outside
            end = last + shift[bisect_right(kept_before, last)] + 1 if span.end > span.start else start
            moved.append(span._replace(start=start, end=end))
        return moved
