"""C4's clean-up of lines as a kernel: which lines go and why, as spans, and what is left of the others.

It finds what `filters.signals.c4` describes. A text's spans come from two lists: `tiles` say for each stretch why it
would go, `kept` what stays; the spans are the tiles outside what is kept, and line breaks that become line feeds.
"""

import numpy as np

from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.growing import SPAN, with_room
from headrace.filters.analysis.lines import find_break, holds_byte, skip_space, trim_space
from headrace.filters.analysis.matching import stands_exactly
from headrace.filters.analysis.phrases import JAVASCRIPT_LINE, LOREM, POLICY_LINE, find_phrases
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

TOO_LONG_WORD, NO_TERMINAL_PUNCT, TOO_FEW_WORDS, JAVASCRIPT, POLICY, CITATION, WHITE_SPACE, LINE_BREAK = range(8)
NUM_FAULTS = 5
_NO_FAULT = -1

_KEPT = -1  # in place of a label; of spans, a LINE_BREAK is replaced, all others are removed

_SPACE, _DECIMAL = int(Flag.SPACE), int(Flag.DECIMAL)
_LINE_FEED, _OPEN, _CLOSE, _CURLY = ord("\n"), ord("["), ord("]"), ord("{")
_TERMINALS = np.frombuffer(b".?!\"'", np.uint8)
_EDIT, _NEEDED = np.frombuffer(b"edit]", np.uint8), np.frombuffer(b"citation needed]", np.uint8)


@kernel()
def _citation_length(data, position, end, index, pages):  # type: ignore[no-untyped-def]
    """Return the length of `[12]`, `[]`, `[edit]` or `[citation needed]` at a position, or 0."""
    if stands_exactly(data, position + 1, end, _EDIT):
        return 1 + len(_EDIT)
    if stands_exactly(data, position + 1, end, _NEEDED):
        return 1 + len(_NEEDED)
    after = position + 1
    while after < end:
        code, length = decode(data, after)
        if code == _CLOSE:
            return after + 1 - position
        if not flags_of(code, index, pages) & _DECIMAL:
            return 0
        after += length
    return 0


@kernel()
def _form_fault(data, start, end, min_words, max_word_length, index, pages):  # type: ignore[no-untyped-def]
    """Return TOO_LONG_WORD or TOO_FEW_WORDS of a line, or no fault; looks no further than it must."""
    num_words = word_chars = 0
    may_be_long, too_long, position = end - start > max_word_length, False, start
    while position < end and (num_words < min_words or may_be_long):
        code, length = decode(data, position)
        position += length
        if flags_of(code, index, pages) & _SPACE:
            word_chars = 0
        else:
            num_words += word_chars == 0
            word_chars += 1
            too_long |= word_chars > max_word_length
    if too_long:
        return TOO_LONG_WORD
    return TOO_FEW_WORDS if num_words < min_words else _NO_FAULT


@kernel()
def _ends_sentence(cleaned, start, end):  # type: ignore[no-untyped-def]
    """Return whether a line ends with a terminal mark that is not an ellipsis."""
    if start == end:
        return False
    marked = False
    for terminal in _TERMINALS:
        marked |= cleaned[end - 1] == terminal
    dots = end - start >= 3 and cleaned[end - 1] == cleaned[end - 2] == cleaned[end - 3] == np.uint8(ord("."))
    return marked and not dots


@kernel()
def _add_tile(tiles, count, end, label):  # type: ignore[no-untyped-def]
    """Label what lies between the last tile and `end`; return the number of tiles."""
    if count and tiles[count - 1].label == label:
        count -= 1
    if count == 0 or end > tiles[count - 1].end:
        tiles[count].end, tiles[count].label = end, label
        count += 1
    return count


@kernel()
def _add_kept(kept, count, start, end, label):  # type: ignore[no-untyped-def]
    if end > start:
        kept[count].start, kept[count].end, kept[count].label = start, end, label
        count += 1
    return count


@kernel()
def _strip_kept(data, kept, count, index, pages):  # type: ignore[no-untyped-def]
    """Take white space off both ends of what is kept; return the range of pieces that stay."""
    first, last = 0, count
    while first < last:
        piece = kept[first]
        piece.start = skip_space(data, piece.start, piece.end, index, pages)
        if piece.start < piece.end:
            break
        first += 1
    while first < last:
        piece = kept[last - 1]
        piece.end = trim_space(data, piece.start, piece.end, index, pages)
        if piece.start < piece.end:
            break
        last -= 1
    return first, last


@kernel()
def _write_spans(kept, first, last, tiles, end, origin, spans, count):  # type: ignore[no-untyped-def]
    """Write the tiles outside of what is kept and the breaks to replace, as offsets from `origin`."""
    tile, position = 0, origin
    for piece in range(first, last + 1):
        until = kept[piece].start if piece < last else end
        while position < until:
            while tiles[tile].end <= position:
                tile += 1
            stop = min(tiles[tile].end, until)
            span = spans[count]
            span.start, span.end, span.label = position - origin, stop - origin, tiles[tile].label
            position = stop
            count += 1
        if piece < last:
            if kept[piece].label == LINE_BREAK:
                span = spans[count]
                span.start, span.end, span.label = position - origin, kept[piece].end - origin, LINE_BREAK
                count += 1
            position = kept[piece].end
    return count


@kernel()
def _copy_line(data, start, end, citations, cleaned, size, index, pages):  # type: ignore[no-untyped-def]
    """Write a line without citations (where they go) behind `cleaned[:size]`; return the new size and their number."""
    if not citations or not holds_byte(data, start, end, _OPEN):
        for position in range(start, end):
            cleaned[size + position - start] = data[position]
        return size + end - start, 0
    num_citations, position = 0, start
    while position < end:
        length = _citation_length(data, position, end, index, pages) if data[position] == _OPEN else 0
        if length:
            num_citations += 1
            position += length
        else:
            cleaned[size] = data[position]
            size, position = size + 1, position + 1
    return size, num_citations


@kernel()
def _content_fault(cleaned, start, end, kinds, row):  # type: ignore[no-untyped-def]
    """Return JAVASCRIPT or POLICY, or no fault; note in `row` what condemns the whole page."""
    found = find_phrases(cleaned, start, end)
    row[NUM_FAULTS + 1] |= found & LOREM
    if found & kinds & JAVASCRIPT_LINE:
        return JAVASCRIPT
    row[NUM_FAULTS + 2] |= holds_byte(cleaned, start, end, _CURLY)
    return POLICY if found & kinds & POLICY_LINE else _NO_FAULT


@kernel()
def _keep_break(data, start, end, kept, count):  # type: ignore[no-untyped-def]
    """Keep one line feed of what lies between two kept lines, or the break that becomes one."""
    for position in range(start, end):
        if data[position] == _LINE_FEED:
            return _add_kept(kept, count, position, position + 1, _KEPT)
    position, following = find_break(data, start, end)
    return _add_kept(kept, count, position, following, LINE_BREAK)


@kernel()
def _keep_cited(data, start, end, kept, num_kept, tiles, num_tiles, index, pages):  # type: ignore[no-untyped-def]
    """Keep what stands between citations; return all pieces and tiles, and where the last piece begins."""
    piece = position = start
    while position < end:
        length = _citation_length(data, position, end, index, pages) if data[position] == _OPEN else 0
        if length:
            kept, tiles = with_room(kept, num_kept, 3), with_room(tiles, num_tiles, 3)
            num_kept = _add_kept(kept, num_kept, piece, position, _KEPT)
            num_tiles = _add_tile(tiles, num_tiles, position, WHITE_SPACE)
            piece = position + length
            num_tiles = _add_tile(tiles, num_tiles, piece, CITATION)
        position += max(length, 1)
    return kept, num_kept, tiles, num_tiles, piece


@kernel()
def clean_lines(data, offsets, terminal, min_words, max_word_length, citations, kinds, index, pages):  # type: ignore[no-untyped-def]
    """Return what C4 removes from each text and what it says about it.

    `kinds` are the bits of phrases that condemn a line (2 JavaScript, 4 policies); `terminal` and `citations` are
    switches. Returns spans (of dtype SPAN, from the text's beginning) and the first of each text; counts of shape
    (num_texts, NUM_FAULTS + 3): lines by fault, all lines, and whether lorem ipsum and a curly bracket stand in it;
    rows of [start, end) in `data` of the lines that stay as they are, and the first of each text; the lines that lose
    citations, end to end without them, where each begins, and the text of each.
    """
    num_texts = len(offsets) - 1
    counts = np.zeros((num_texts, NUM_FAULTS + 3), np.int64)
    cleaned, cited_offsets, cited_texts = (
        np.zeros(len(data) + 4, np.uint8),
        np.zeros(64, np.int64),
        np.zeros(64, np.int64),
    )
    spans, first_span = np.empty(256, SPAN), np.zeros(num_texts + 1, np.int64)
    lines, first_line = np.empty((256, 2), np.int64), np.zeros(num_texts + 1, np.int64)
    num_spans, num_lines, num_cited = np.int64(0), np.int64(0), np.int64(0)
    kept, tiles, size = np.empty(256, SPAN), np.empty(256, SPAN), np.int64(0)
    for text in range(num_texts):
        row, start, stop = counts[text], offsets[text], offsets[text + 1]
        num_kept, num_tiles, line_end = np.int64(0), np.int64(0), np.int64(-1)
        while start < stop:
            end, following = find_break(data, start, stop)
            begin = skip_space(data, start, end, index, pages)
            end = trim_space(data, begin, end, index, pages)
            new_size, cited = _copy_line(data, begin, end, citations, cleaned, size, index, pages)
            fault = _form_fault(data, begin, end, min_words, max_word_length, index, pages)
            if fault != TOO_LONG_WORD and terminal and not _ends_sentence(cleaned, size, new_size):
                fault = NO_TERMINAL_PUNCT
            if fault == _NO_FAULT:
                fault = _content_fault(cleaned, size, new_size, kinds, row)
            kept, tiles = with_room(kept, num_kept, 3), with_room(tiles, num_tiles, 3)
            row[NUM_FAULTS] += 1
            if fault == _NO_FAULT:
                if line_end >= 0:
                    num_kept = _keep_break(data, line_end, begin, kept, num_kept)
                if cited:
                    kept, num_kept, tiles, num_tiles, begin = _keep_cited(
                        data, begin, end, kept, num_kept, tiles, num_tiles, index, pages
                    )
                    kept, tiles = with_room(kept, num_kept, 3), with_room(tiles, num_tiles, 3)
                    cited_offsets = with_room(cited_offsets, num_cited + 1, 1)
                    cited_texts = with_room(cited_texts, num_cited, 1)
                    cited_texts[num_cited], cited_offsets[num_cited + 1] = text, new_size
                    num_cited, size = num_cited + 1, new_size
                else:
                    if num_lines == len(lines):
                        lines = np.concatenate((lines, np.empty_like(lines)))
                    lines[num_lines, 0], lines[num_lines, 1] = begin, end
                    num_lines += 1
                num_kept = _add_kept(kept, num_kept, begin, end, _KEPT)
                line_end = end
            else:
                row[fault] += 1
            num_tiles = _add_tile(tiles, num_tiles, following, WHITE_SPACE if fault == _NO_FAULT else fault)
            start = following
        first, last = _strip_kept(data, kept, num_kept, index, pages)
        spans = with_room(spans, num_spans, num_tiles + 2 * (last - first) + 2)
        num_spans = _write_spans(kept, first, last, tiles, stop, offsets[text], spans, num_spans)
        first_span[text + 1], first_line[text + 1] = num_spans, num_lines
    cited = cleaned[:size], cited_offsets[: num_cited + 1], cited_texts[:num_cited]
    return spans[:num_spans], first_span, counts, lines[:num_lines], first_line, cited
