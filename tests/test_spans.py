"""Edits are applied once, removal beats redaction, and offsets on a view lead back to the source."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.spans import Span, View, apply_spans, merge_spans

TEXT = "añ€ b\nc🍷d " * 3
BOUNDARIES = sorted({len(TEXT[:i].encode()) for i in range(len(TEXT) + 1)})

spans_of_text = st.lists(
    st.builds(
        lambda bounds, label, replacement: Span(*sorted(bounds), label, replacement),
        st.tuples(st.sampled_from(BOUNDARIES), st.sampled_from(BOUNDARIES)),
        st.sampled_from("xyz"),
        st.one_of(st.none(), st.sampled_from(["", "€", "[gone]"])),
    ),
    max_size=8,
)


def test_removal_beats_redaction() -> None:
    spans = [Span(2, 8, "email", "<mail>"), Span(4, 6, "line")]
    assert apply_spans("0123456789", spans) == "01<mail>89"
    assert merge_spans(spans) == [Span(2, 4, "email", "<mail>"), Span(4, 6, "line"), Span(6, 8, "email", "")]


def test_labels_of_removals_survive_merging() -> None:
    spans = [Span(0, 4, "short"), Span(2, 6, "policy"), Span(6, 8, "policy"), Span(7, 7, "nothing")]
    assert merge_spans(spans) == [Span(0, 4, "short"), Span(4, 8, "policy")]


@settings(deadline=None)
@given(spans_of_text)
def test_merged_edits_are_disjoint_and_apply_alike(spans: list[Span]) -> None:
    merged = merge_spans(spans)
    assert all(a.start < a.end <= b.start for a, b in pairwise(merged))
    assert merge_spans(merged) == merged
    assert apply_spans(TEXT, merged) == apply_spans(TEXT, spans)


@settings(deadline=None)
@given(spans_of_text)
def test_bytes_that_no_span_claims_stay_and_removed_ones_go(spans: list[Span]) -> None:
    data = TEXT.encode()
    removed = {i for s in spans if s.replacement is None for i in range(s.start, s.end)}
    claimed = removed | {i for s in spans for i in range(s.start, s.end)}
    only_removals = [s for s in spans if s.replacement is None]
    assert apply_spans(TEXT, only_removals).encode() == bytes(b for i, b in enumerate(data) if i not in removed)
    erased = [s if s.replacement is None else s._replace(replacement="") for s in spans]
    assert apply_spans(TEXT, erased).encode() == bytes(b for i, b in enumerate(data) if i not in claimed)


@settings(deadline=None)
@given(spans_of_text, st.data())
def test_a_span_on_a_view_covers_its_bytes_in_the_source(spans: list[Span], data: st.DataObject) -> None:
    view = View.without(TEXT, spans)
    size = len(view.text.encode())
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    (moved,) = view.to_source([Span(start, end, "found", "!")])
    assert 0 <= moved.start <= moved.end <= len(TEXT.encode())
    assert (moved.label, moved.replacement) == ("found", "!")
    on_view = view.text.encode()[start:end]
    inside = [Span(s.start - moved.start, s.end - moved.start, s.label, s.replacement) for s in view.edits]
    if all(s.replacement is None for s in view.edits) and end > start:
        kept = bytearray(TEXT.encode()[moved.start : moved.end])
        for s in reversed([s for s in inside if s.end > 0 and s.start < len(kept)]):
            del kept[max(0, s.start) : s.end]
        assert bytes(kept) == on_view


def test_a_view_holds_replacements_and_leads_back_over_them() -> None:
    source = "one\u2028two\u2028 three"
    view = View.without(source, [Span(3, 6, "line_break", "\n"), Span(9, 12, "short")])
    assert view.text == "one\ntwo three"
    assert view.to_source([Span(0, 3, "a"), Span(3, 4, "b"), Span(4, 7, "c"), Span(4, 9, "d")]) == [
        Span(0, 3, "a"),
        Span(3, 6, "b"),
        Span(6, 9, "c"),
        Span(6, 14, "d"),
    ]


def test_a_text_without_edits_is_its_own_view() -> None:
    view = View.without(TEXT, [])
    assert view.text == TEXT
    assert view.to_source([Span(1, 3, "x")]) == [Span(1, 3, "x")]


@pytest.mark.parametrize(("start", "end"), [(0, 99), (-1, 2), (2, 3)])
def test_a_span_outside_the_text_or_inside_a_character_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"outside a text|codec"):
        apply_spans("añ", [Span(start, end, "x")])
