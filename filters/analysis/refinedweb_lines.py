"""RefinedWeb's corrections of lines as a kernel: which lines go and why, and what menus leave of short ones.

It finds what `filters.signals.refinedweb` describes. Lines end at line feeds. What remains of a text is its kept lines
with one line feed between them: a line goes with the line feed behind it, and lines that go at the very end with the
one before them. Phrases are compared by bytes, ASCII letters of any case; they and the words for counters come in lower
case, as bytes end to end with the places where each begins.
"""

import numpy as np

from headrace.filters.analysis.growing import SPAN, with_room
from headrace.filters.analysis.letters import Letter
from headrace.filters.analysis.lines import begins_character
from headrace.filters.analysis.matching import lower, stands_at
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

UPPERCASE, NUMERIC, COUNTER, ONE_WORD, MENU = range(5)
NUM_FAULTS = 5
AT_START, AT_END, ANYWHERE = range(3)  # where a phrase of a menu stands
_KEPT = -1

_SPACE, _WORD, _UPPER, _DIGIT = int(Letter.SPACE), int(Letter.WORD), int(Letter.UPPER), int(Letter.DIGIT)
_LINE_FEED, _COMMA, _DOT = ord("\n"), ord(","), ord(".")
_K, _M, _B = ord("k"), ord("m"), ord("b")


@kernel()
def _space_at(line, position, end, index, pages):  # type: ignore[no-untyped-def]
    """Return the length of the white space character at a position, or 0."""
    if position >= end:
        return 0
    code, length = decode(line, position)
    return length if flags_of(code, index, pages) & _SPACE else 0


@kernel()
def _space_before(line, start, position, index, pages):  # type: ignore[no-untyped-def]
    """Return the length of the white space character before a position, or 0."""
    before = position - 1
    while before > start and not begins_character(line[before]):
        before -= 1
    return position - before if before >= start and _space_at(line, before, position, index, pages) else 0


@kernel()
def _count_words(line, start, end, index, pages):  # type: ignore[no-untyped-def]
    """Return the words between white space."""
    count, within = 0, False
    while start < end:
        code, length = decode(line, start)
        space = (flags_of(code, index, pages) & _SPACE) != 0
        count += not space and not within
        within = not space
        start += length
    return count


@kernel()
def _is_counter(data, position, end, counters, counter_starts, index, pages):  # type: ignore[no-untyped-def]
    """Return whether a line is a number and what it counts, with any marks around: `(1,234 views)`, `3.5k likes`."""
    code, length = decode(data, position)
    while position < end and not flags_of(code, index, pages) & _WORD:
        position += length
        if position < end:
            code, length = decode(data, position)
    if position >= end or not flags_of(code, index, pages) & _DIGIT:
        return False
    while position < end:
        code, length = decode(data, position)
        if not flags_of(code, index, pages) & _DIGIT and code != _COMMA and code != _DOT:
            break
        position += length
    if position < end:
        unit = lower(data[position])
        position += unit == _K or unit == _M or unit == _B
    gap = _space_at(data, position, end, index, pages)
    if not gap:
        return False
    while gap:
        position += gap
        gap = _space_at(data, position, end, index, pages)
    for word in range(len(counter_starts) - 1):
        if stands_at(data, position, end, counters, counter_starts[word], counter_starts[word + 1]):
            after = position + counter_starts[word + 1] - counter_starts[word]
            if _no_word(data, after, end, index, pages):
                return True
    return False


@kernel()
def _no_word(data, position, end, index, pages):  # type: ignore[no-untyped-def]
    while position < end:
        code, length = decode(data, position)
        if flags_of(code, index, pages) & _WORD:
            return False
        position += length
    return True


@kernel()
def _phrase_length(line, position, end, kind, phrases, phrase_starts, kinds):  # type: ignore[no-untyped-def]
    """Return the length of the first phrase of a kind that stands at a position, or 0."""
    for phrase in range(len(kinds)):
        first, last = phrase_starts[phrase], phrase_starts[phrase + 1]
        if kinds[phrase] == kind and stands_at(line, position, end, phrases, first, last):
            return last - first
    return 0


@kernel()
def _ending_length(line, start, end, phrases, phrase_starts, kinds):  # type: ignore[no-untyped-def]
    """Return the length of the longest phrase with which line[start:end] ends, or 0."""
    longest = 0
    for phrase in range(len(kinds)):
        first, last = phrase_starts[phrase], phrase_starts[phrase + 1]
        if kinds[phrase] == AT_END and end - start >= last - first > longest:
            if stands_at(line, end - (last - first), end, phrases, first, last):
                longest = last - first
    return longest


@kernel()
def _holds_menu(data, start, end, phrases, phrase_starts, kinds):  # type: ignore[no-untyped-def]
    """Return whether a phrase stands where its kind stands."""
    if _phrase_length(data, start, end, AT_START, phrases, phrase_starts, kinds):
        return True
    if _ending_length(data, start, end, phrases, phrase_starts, kinds):
        return True
    for position in range(start, end):
        if _phrase_length(data, position, end, ANYWHERE, phrases, phrase_starts, kinds):
            return True
    return False


@kernel()
def _without_menu(data, start, end, line, origin, phrases, phrase_starts, kinds, index, pages):  # type: ignore[no-untyped-def]
    """Write what menus leave of a line, and where each byte came from; return the range of it that stays.

    Phrases go in the order anywhere, at the end, at the start, each with one white space character beside it.
    """
    size, position = 0, start
    while position < end:
        space = _space_at(data, position, end, index, pages)
        length = _phrase_length(data, position + space, end, ANYWHERE, phrases, phrase_starts, kinds)
        if length:
            position += space + length
            continue
        _, width = decode(data, position)
        for byte in range(position, position + width):
            line[size], origin[size] = data[byte], byte
            size += 1
        position += width
    length = _ending_length(line, 0, size, phrases, phrase_starts, kinds)
    if length:
        size -= length
        size -= _space_before(line, 0, size, index, pages)
    first = _phrase_length(line, 0, size, AT_START, phrases, phrase_starts, kinds)
    if first:
        first += _space_at(line, first, size, index, pages)
    return first, size


@kernel()
def _add_span(spans, count, start, end, label):  # type: ignore[no-untyped-def]
    """Return the spans with one more, if it is not empty, and their number."""
    if start >= end:
        return spans, count
    spans = with_room(spans, count, 1)
    spans[count].start, spans[count].end, spans[count].label = start, end, label
    return spans, count + 1


@kernel()
def _line_fault(data, start, end, num_chars, num_upper, num_digits, num_words, counters, counter_starts, index, pages):  # type: ignore[no-untyped-def]
    """Return why a whole line goes, the first reason of several."""
    if 2 * num_upper > num_chars:
        return UPPERCASE
    if num_chars and num_digits == num_chars:
        return NUMERIC
    if num_digits and _is_counter(data, start, end, counters, counter_starts, index, pages):
        return COUNTER
    return ONE_WORD if num_words == 1 else _KEPT


@kernel()
def correct_lines(  # type: ignore[no-untyped-def]
    data, offsets, max_menu_words, counters, counter_starts, phrases, phrase_starts, kinds, index, pages
):
    """Return what RefinedWeb's corrections remove from each text, and counts.

    Returns spans (of dtype SPAN, from the text's beginning) and the first of each text; counts of shape (num_texts,
    NUM_FAULTS + 3): lines by fault, all lines, words, words that go.
    """
    num_texts = len(offsets) - 1
    counts = np.zeros((num_texts, NUM_FAULTS + 3), np.int64)
    spans, first_span, num_spans = np.empty(256, SPAN), np.zeros(num_texts + 1, np.int64), np.int64(0)
    line, origin = np.empty(256, np.uint8), np.empty(256, np.int64)
    ascii_flags = pages[np.int64(index[0]) << 8 :][:128]
    for text in range(num_texts):
        row, base, stop = counts[text], offsets[text], offsets[text + 1]
        start, run = base, np.int64(-1)  # the first of the spans of whole lines that end here
        while start < stop:
            end, num_chars, num_upper, num_digits, num_words, within = start, 0, 0, 0, 0, False
            while end < stop and data[end] != _LINE_FEED:
                if data[end] < 128:
                    flags, length = ascii_flags[data[end]], 1
                else:
                    code, length = decode(data, end)
                    flags = flags_of(code, index, pages)
                space = (flags & _SPACE) != 0
                num_chars += 1
                num_upper += (flags & _UPPER) != 0
                num_digits += (flags & _DIGIT) != 0
                num_words += not space and not within
                within = not space
                end += length
            fault = _line_fault(
                data, start, end, num_chars, num_upper, num_digits, num_words, counters, counter_starts, index, pages
            )
            following = min(end + 1, stop)
            row[NUM_FAULTS] += 1
            row[NUM_FAULTS + 1] += num_words
            if fault == _KEPT and 0 < num_words <= max_menu_words:
                if _holds_menu(data, start, end, phrases, phrase_starts, kinds):
                    if end - start > len(line):
                        line, origin = np.empty(2 * (end - start), np.uint8), np.empty(2 * (end - start), np.int64)
                    first, size = _without_menu(
                        data, start, end, line, origin, phrases, phrase_starts, kinds, index, pages
                    )
                    left = _count_words(line, first, size, index, pages)
                    if left == 0:
                        fault = MENU
                    else:
                        row[MENU] += 1
                        row[NUM_FAULTS + 2] += num_words - left
                        at = start
                        for byte in range(first, size):
                            spans, num_spans = _add_span(spans, num_spans, at - base, origin[byte] - base, MENU)
                            at = origin[byte] + 1
                        spans, num_spans = _add_span(spans, num_spans, at - base, end - base, MENU)
            if fault == _KEPT:
                run = np.int64(-1)
            else:
                row[fault] += 1
                row[NUM_FAULTS + 2] += num_words
                run = num_spans if run < 0 else run
                spans, num_spans = _add_span(spans, num_spans, start - base, following - base, fault)
            if following == stop and end == stop and run >= 0 and spans[run].start > 0:
                spans[run].start -= 1
            start = following
        first_span[text + 1] = num_spans
    return spans[:num_spans], first_span, counts
