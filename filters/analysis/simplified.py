"""Simplified words: `filters.normalize.simplify_text` and the cutting of its result, in one pass over UTF-8.

What comes out are the words of each text joined by single spaces, so that any run of words lies there as datatrove
joins it. What a code point becomes is looked up; only numbers need to look ahead. A chunk of letters is a word unless
the lexicon knows it; others are cut with care (`filters.analysis.cutting`). A text is left to the caller if it has a
chunk that even that kernel would ask the reference about, or a capital sigma, which becomes what stands around it.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.affixes import POINT
from headrace.filters.analysis.becoming import DIGIT, INERT, MOST_BYTES, SPACE, becoming
from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.analysis.cutting import WORD, cut_chunk, decode_chunk
from headrace.filters.analysis.hashing import append_byte, read_eight, write_eight
from headrace.filters.analysis.lexicon import english_lexicon, find_entry
from headrace.filters.analysis.limits import MOST_WORDS
from headrace.filters.analysis.shingles import join_words
from headrace.filters.analysis.splitters import cut_by
from headrace.filters.analysis.utf8 import decode
from headrace.filters.kernels import kernel
from headrace.filters.normalize import SEPARATORS, simplify_text
from headrace.filters.utf8 import Bools, Int64s, Uint8s, Utf8
from headrace.filters.words import Words, english_tokenizer

_DONE, _NO_ROOM, _UNSURE = 0, 1, 2
_WITH_CARE = 4096  # bytes of a chunk; longer ones are left to the caller
_LONGEST_KNOWN, _SHORT = 10, 8  # bytes; no exception of letters is longer, few are longer than eight
_TO_BIT, _FILTER_BITS = np.uint64(0x9E3779B97F4A7C15), 12
_ONE, _EIGHT, _BIT_6 = np.uint64(1), np.uint64(8), np.uint64(0x4040404040404040)
_PLACES = np.uint64(0x0001020304050607)  # times 2^8i it has i in its highest byte
_BLANK, _ZERO, _ASCII, _CAPITAL_SIGMA = ord(" "), ord("0"), 128, 0x3A3
_SEPARATORS = np.array([ord(sign) for sign in SEPARATORS], np.uint32)


class JoinedWords(NamedTuple):
    """Words joined by single spaces: those of text i from `starts[i]` in `data`, each ending where `ends` says.

    The ends of text i are `ends[first[i]:first[i + 1]]`. A text in `unsure` was not done, and has no words here.
    """

    data: Uint8s
    starts: Int64s
    ends: Int64s
    first: Int64s
    unsure: Bools


def simplified_words(utf8: Utf8) -> JoinedWords:
    """Return the words of simplified texts as spaCy's English tokenizer cuts them."""
    tables = becoming(utf8.data)
    return JoinedWords(*simplify_batch(*utf8, *tables, _known(), *load_codepoints(), *english_lexicon()))


@kernel(within=True)
def _kind_at(data, position, index, kinds):  # type: ignore[no-untyped-def]
    """Return code point, length and kind of the character at a position, and its place in the tables."""
    code, length = decode(data, position)
    place = (np.int64(index[code >> np.uint32(8)]) << 8) + np.int64(code & np.uint32(255))
    return code, length, kinds[place], place


@kernel()
def _behind_digits(data, position, stop, index, kinds):  # type: ignore[no-untyped-def]
    """Return where a run of digits ends."""
    while position < stop:
        _, length, kind, _ = _kind_at(data, position, index, kinds)
        if kind != DIGIT:
            break
        position += length
    return position


@kernel()
def _behind_number(data, position, stop, index, kinds):  # type: ignore[no-untyped-def]
    """Return where a number ends that begins at a position: digits, and once a separator with digits behind it."""
    position = _behind_digits(data, position, stop, index, kinds)
    if position < stop:
        code, length = decode(data, position)
        for separator in _SEPARATORS:
            if code == separator:
                after = _behind_digits(data, position + length, stop, index, kinds)
                return after if after > position + length else position
    return position


@kernel()
def _cut_with_care(  # type: ignore[no-untyped-def]
    out, start, end, cp_index, cp_pages, entries, piece_bytes, chunk, suffixes, words, copy, ends, count
):
    """Cut the chunk out[start:end] in place; return where its words end and how many there are, -1 if unsure."""
    size = decode_chunk(out, start, end, chunk, cp_index, cp_pages)
    number, unsure = cut_chunk(chunk, size, suffixes, entries, piece_bytes, words, np.int64(0))
    if unsure:
        return np.int64(-1), count
    copy[: end - start] = out[start:end]
    position = start
    for word in range(number):
        after = np.int64(words[word].end) - start
        before = after - np.int64(words[word].num_bytes)
        if word:
            out[position] = _BLANK
            position += 1
        for place in range(before, after):
            out[position] = copy[place]
            position += 1
        ends[count] = position
        count += 1
    return position, count


@kernel()
def _is_known(out, start, size, entries):  # type: ignore[no-untyped-def]
    """Return whether the lexicon knows a chunk."""
    value = np.uint64(0)
    for place in range(start, start + size):
        value = append_byte(value, out[place])
    return find_entry(entries, value) >= 0


@cache
def _known() -> npt.NDArray[np.uint64]:
    """Return a bit for each hash of a short key, set where a simplified text can hold an exception with it."""
    simple = [exception for exception in english_tokenizer().exceptions if simplify_text(exception) == exception]
    assert max(len(exception.encode()) for exception in simple) <= _LONGEST_KNOWN
    short = [data for data in map(str.encode, simple) if len(data) <= _SHORT]
    keys = np.array([int.from_bytes(data, "little") for data in short], np.uint64)
    flags = np.zeros(1 << _FILTER_BITS, np.bool_)
    flags[keys * _TO_BIT >> np.uint64(64 - _FILTER_BITS)] = True
    return np.packbits(flags, bitorder="little").view(np.uint64)


@kernel()
def _general_chunk(data, position, stop, out, end, index, kinds, starts, ends, pool):  # type: ignore[no-untyped-def]
    """Write what a chunk becomes; return where it ends here and there (-1 without room, -2 if unsure), and its kind.

    The kind is whether all are letters that nothing cuts beside.
    """
    inert = True
    while position < stop:
        if end + MOST_BYTES >= len(out):
            return position, np.int64(-1), inert
        code, length, kind, place = _kind_at(data, position, index, kinds)
        if kind == SPACE:
            break
        inert &= kind == INERT
        if kind == DIGIT:
            out[end] = _ZERO
            end += 1
            position = _behind_number(data, position, stop, index, kinds)
            continue
        if code == _CAPITAL_SIGMA:
            return position, np.int64(-2), inert
        for number in range(starts[place], ends[place]):
            out[end] = pool[number]
            end += 1
        position += length
    return position, end, inert


@kernel()
def _simplify_text(  # type: ignore[no-untyped-def]
    data, position, stop, mapped, out, filled, ends, count, index, kinds, starts, becomes_ends, pool, known,
    cp_index, cp_pages, entries, piece_bytes, chunk, suffixes, words, copy,
):  # fmt: skip
    """Write the words of one text; return how it went, and how much is written of bytes and of words.

    Letters are copied eight at a time up to the next byte that is none (a letter alone has bit 6); what is behind the
    end in `out` means nothing. All of this stands in one loop, because an array that is handed to another function
    has its references counted each time, which costs more than a word.
    """
    first, room = count, np.uint64(len(out))
    while position < stop:
        start = filled + 1 if count > first else filled
        after, to, inert = np.uint64(position), np.uint64(start), True
        eight = read_eight(mapped, after)
        others = ~eight & _BIT_6
        letters = eight
        while to + _EIGHT < room:
            write_eight(out, to, letters)
            if others:
                break
            after += _EIGHT
            to += _EIGHT
            letters = read_eight(mapped, after)
            others = ~letters & _BIT_6
        if others:
            more = (((others & (~others + _ONE)) >> np.uint64(6)) * _PLACES) >> np.uint64(56)
            after, to = after + more, to + more
        behind, end = np.int64(after), np.int64(to)
        if behind >= stop:
            behind, end = stop, end - (behind - stop)
        elif mapped[behind] != _BLANK:
            behind, end, inert = _general_chunk(
                data, position, stop, out, start, index, kinds, starts, becomes_ends, pool
            )
            if end < 0:
                return _NO_ROOM if end == -1 else _UNSURE, filled, count
            eight = read_eight(out, start)
        size, position = end - start, behind
        if position < stop:
            position += 1 if mapped[position] == _BLANK else decode(data, position)[1]
        if not size:
            continue
        if count - first >= MOST_WORDS:
            break
        if count + size + 1 >= len(ends) or end + size + _SHORT >= len(out):
            return _NO_ROOM, filled, count
        if start > filled:
            out[filled] = _BLANK
        if inert and size <= _LONGEST_KNOWN:
            may_be_known = True
            if size <= _SHORT:
                bit = (eight & (~np.uint64(0) >> np.uint64(64 - 8 * size))) * _TO_BIT >> np.uint64(64 - _FILTER_BITS)
                may_be_known = (known[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & _ONE != 0
            if may_be_known and _is_known(out, start, size, entries):
                inert = False
        if inert or (size == 1 and out[start] == _ZERO):
            ends[count] = end
            count += 1
        elif size > _WITH_CARE:
            return _UNSURE, filled, count
        else:
            end, count = _cut_with_care(
                out, start, end, cp_index, cp_pages, entries, piece_bytes, chunk, suffixes, words, copy, ends, count
            )
            if end < 0:
                return _UNSURE, filled, count
        filled = end
    return _DONE, filled, count


@kernel()
def _map_bytes(data, kinds, starts, pool):  # type: ignore[no-untyped-def]
    """Return letters below 128 as what they become, what divides words as a space, all else as 0; 8 spaces follow."""
    becomes = np.zeros(256, np.uint8)
    for code in range(_ASCII):
        if kinds[code] == SPACE:
            becomes[code] = _BLANK
        elif kinds[code] == INERT:
            becomes[code] = pool[starts[code]]
    mapped = np.full(len(data) + 8, _BLANK, np.uint8)
    for position in range(len(data)):
        mapped[position] = becomes[data[position]]
    return mapped


@kernel()
def simplify_batch(  # type: ignore[no-untyped-def]
    data, offsets, index, kinds, starts, becomes_ends, pool, known, cp_index, cp_pages, entries, piece_bytes
):
    """Return the fields of `JoinedWords` for texts that lie end to end in `data`, each from its offset."""
    num_texts = len(offsets) - 1
    out, ends = np.empty(len(data) + len(data) // 8 + 1024, np.uint8), np.empty(len(data) // 4 + 1024, np.int64)
    begins, first = np.zeros(num_texts, np.int64), np.zeros(num_texts + 1, np.int64)
    unsure = np.zeros(num_texts, np.bool_)
    chunk, suffixes = np.empty(_WITH_CARE + 1, POINT), np.empty(_WITH_CARE + 1, np.int64)
    words, copy = np.empty(_WITH_CARE + 1, WORD), np.empty(_WITH_CARE + 1, np.uint8)
    mapped = _map_bytes(data, kinds, starts, pool)
    filled = count = np.int64(0)
    for text in range(num_texts):
        begins[text] = filled
        while True:
            status, end, number = _simplify_text(
                data, offsets[text], offsets[text + 1], mapped, out, filled, ends, count, index, kinds, starts,
                becomes_ends, pool, known, cp_index, cp_pages, entries, piece_bytes, chunk, suffixes, words, copy,
            )  # fmt: skip
            if status != _NO_ROOM:
                break
            more, further = np.empty(2 * len(out), np.uint8), np.empty(2 * len(ends), np.int64)
            more[:filled], further[:count] = out[:filled], ends[:count]
            out, ends = more, further
        if status == _UNSURE:
            unsure[text] = True
        else:
            filled, count = end, number
        first[text + 1] = count
    return out[:filled], begins, ends[:count], first, unsure


def joined_words(simplified: Sequence[str], words: Words) -> JoinedWords:
    """Return the words of texts that are simplified already, as they are cut by `words`."""
    utf8 = Utf8.of(simplified)
    table = cut_by(words, *utf8)
    data, starts, ends = join_words(utf8.data, *table)
    return JoinedWords(data, starts, ends, table.first, np.zeros(len(simplified), dtype=np.bool_))
