"""Words as spaCy's blank English pipeline cuts them, by a compiled kernel over UTF-8.

The algorithm is that of `filters.words`: a chunk between white space loses prefixes and suffixes until an exception or
nothing to take is left, and what remains is cut at infixes. Two questions stay with the reference: whether a core is a
URL, and whether words of one chunk together spell an exception; chunks that might be concerned (a few in a thousand)
are written down, for `filters.analysis.tokens` to ask. Most chunks are letters alone and are done in one glance.

Memory is bounded twice. Of a text the first `MOST_WORDS` words are cut, which is 50 MB of prose. A chunk that must be
cut with care is cut in pieces of `LONGEST_CHUNK` characters, each as if it stood alone.
"""

import numpy as np

from headrace.filters.analysis.affixes import (
    POINT,
    exception_slot,
    hash_points,
    infix_length,
    may_be_url,
    prefix_length,
    suffix_length,
)
from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.hashing import append_byte, hash_between, join_hashes
from headrace.filters.analysis.lexicon import LONGEST_EXCEPTION, PAIR, find_entry
from headrace.filters.analysis.limits import MOST_WORDS
from headrace.filters.analysis.lines import begins_character
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

_SPACE, _INERT = int(Flag.SPACE), int(Flag.INERT)
_ALPHABETIC, _PUNCTUATION = int(Flag.ALPHABETIC), int(Flag.PUNCTUATION)
_SYMBOL, _SENTENCE_TERMINAL = int(Flag.SYMBOL), int(Flag.SENTENCE_TERMINAL)
_SUFFIX, _BEFORE_LAST_DOT = int(Flag.SUFFIX), int(Flag.BEFORE_LAST_DOT)
_PLAIN_SPACE, _DOT = ord(" "), ord(".")
_ASCII = 128
WORDS, CHUNK, DOUBTFUL, NOTHING = 1, 2, 3, 4  # what may lack room; nothing more is to be cut
LONGEST_CHUNK = 1 << 16

HAS_LETTER, NON_SYMBOL, ALL_PUNCTUATION, TERMINAL, AFTER_SPACE = 1, 2, 4, 8, 16  # marks of a word

# A word: its hash, where it ends in the bytes of all texts, its length in bytes and characters, its marks.
WORD = np.dtype(
    [("hash", np.uint64), ("end", np.uint32), ("num_bytes", np.uint32), ("num_chars", np.uint32), ("marks", np.uint8)],
    align=True,
)


@kernel(within=True)
def marks_of(any_flags, all_flags, num_chars):  # type: ignore[no-untyped-def]
    """Return a word's marks from the flags that some, and all, of its characters have."""
    marks = HAS_LETTER if any_flags & _ALPHABETIC else 0
    marks |= 0 if all_flags & _SYMBOL else NON_SYMBOL
    marks |= ALL_PUNCTUATION if all_flags & _PUNCTUATION else 0
    return marks | (TERMINAL if num_chars == 1 and all_flags & _SENTENCE_TERMINAL else 0)


@kernel(within=True)
def write_word(words, count, value, start, end, num_chars, any_flags, all_flags):  # type: ignore[no-untyped-def]
    """Write the word of bytes [start, end); return how many words there are."""
    word = words[count]
    word.hash, word.end, word.num_bytes, word.num_chars = value, end, end - start, num_chars
    word.marks = marks_of(any_flags, all_flags, num_chars)
    return count + 1


@kernel()
def _emit(chunk, start, end, words, count):  # type: ignore[no-untyped-def]
    """Write the word of points [start, end)."""
    any_flags, all_flags = _flags_between(chunk, start, end)
    return _emit_known(chunk, start, end, any_flags, all_flags, words, count)


@kernel(within=True)
def _emit_known(chunk, start, end, any_flags, all_flags, words, count):  # type: ignore[no-untyped-def]
    first, last = chunk[start].offset, chunk[end].offset
    return write_word(words, count, hash_points(chunk, start, end), first, last, end - start, any_flags, all_flags)


@kernel()
def _flags_between(chunk, start, end):  # type: ignore[no-untyped-def]
    """Return the flags that some, and all, of points [start, end) have."""
    any_flags, all_flags = np.uint32(0), ~np.uint32(0)
    for position in range(start, end):
        any_flags |= chunk[position].flags
        all_flags &= chunk[position].flags
    return any_flags, all_flags


@kernel()
def _emit_exception(chunk, start, entry, piece_bytes, words, count):  # type: ignore[no-untyped-def]
    position = start
    for piece in range(entry.first, entry.first + entry.count):
        stop, after = chunk[position].offset + piece_bytes[piece], position
        while chunk[after].offset < stop:
            after += 1
        count = _emit(chunk, position, after, words, count)
        position = after
    return count


@kernel()
def _emit_core(chunk, start, end, words, count):  # type: ignore[no-untyped-def]
    """Write what is left between prefixes and suffixes; return the number of words and whether it may be a URL."""
    any_flags, all_flags = _flags_between(chunk, start, end)
    if all_flags & _INERT:
        return _emit_known(chunk, start, end, any_flags, all_flags, words, count), False
    if may_be_url(chunk, start, end):
        return _emit_known(chunk, start, end, any_flags, all_flags, words, count), True
    first = position = start
    while position < end:
        length = infix_length(chunk, start, position, end)
        if length and position > start:
            if position > first:
                count = _emit(chunk, first, position, words, count)
            count = _emit(chunk, position, position + length, words, count)
            first = position + length
        position += max(length, 1)
    if first < end:
        count = _emit(chunk, first, end, words, count)
    return count, False


@kernel()
def cut_chunk(chunk, size, suffixes, entries, piece_bytes, words, count):  # type: ignore[no-untyped-def]
    """Write the words of a chunk of `size` points; return their number and whether the reference must be asked.

    `suffixes` is room for as many lengths. The order of the questions is that of spaCy's `_split_affixes`; `slot` is
    always that of points [start, end) as an exception.
    """
    start, end, num_suffixes, first_word, doubtful = np.int64(0), size, 0, count, False
    slot = exception_slot(chunk, start, end, entries)
    while start < end and slot < 0:
        after = start + prefix_length(chunk, start, end)
        if after > start:
            slot = exception_slot(chunk, after, end, entries)
            if slot >= 0:
                count = _emit(chunk, start, after, words, count)
                start = after
                break
        before = end - suffix_length(chunk, after, end, entries)
        if before < end:
            slot = exception_slot(chunk, start, before, entries)
            if slot >= 0:
                suffixes[num_suffixes] = end - before
                num_suffixes += 1
                end = before
                break
            suffixes[num_suffixes] = end - before
            num_suffixes += 1
        elif start == after:
            break
        if after > start:
            count = _emit(chunk, start, after, words, count)
            if before < end:
                slot = exception_slot(chunk, after, before, entries)
        start, end = after, before
    if slot >= 0:
        count = _emit_exception(chunk, start, entries[slot], piece_bytes, words, count)
    elif start < end:
        count, doubtful = _emit_core(chunk, start, end, words, count)
    for number in range(num_suffixes - 1, -1, -1):
        count = _emit(chunk, end, end + suffixes[number], words, count)
        end += suffixes[number]
    return count, doubtful or _spells_exception(words, first_word, count, entries)


@kernel()
def _spells_exception(words, first, end, entries):  # type: ignore[no-untyped-def]
    """Return whether two neighbours among the words begin a sequence that spells an exception."""
    for number in range(first + 1, end):
        if find_entry(entries, join_hashes(words[number - 1].hash, words[number].hash) ^ PAIR) >= 0:
            return True
    return False


@kernel()
def decode_chunk(data, start, end, chunk, index, pages):  # type: ignore[no-untyped-def]
    """Write the points of data[start:end] and one behind the last; return how many there are."""
    position, number, value = start, 0, np.uint64(0)
    while position < end:
        code, length = decode(data, position)
        point = chunk[number]
        point.code = code
        point.flags = flags_of(code, index, pages)
        point.offset = position
        point.hash = value
        for byte in range(position, position + length):
            value = append_byte(value, data[byte])
        position += length
        number += 1
    chunk[number].offset = end
    chunk[number].hash = value
    return number


@kernel()
def _cut_long_chunk(  # type: ignore[no-untyped-def]
    data, start, end, index, pages, entries, piece_bytes, chunk, suffixes, words, count, limit
):
    """Write the words of data[start:end], piece by piece up to about a limit; return how many there are."""
    while start < end and count < limit:
        middle, size = start, 0
        while middle < end and size < LONGEST_CHUNK:
            middle += decode(data, middle)[1]
            size += 1
        decode_chunk(data, start, middle, chunk, index, pages)
        count, _ = cut_chunk(chunk, size, suffixes, entries, piece_bytes, words, count)
        start = middle
    return count


@kernel()
def _cut_some(  # type: ignore[no-untyped-def]
    data,
    position,
    stop,
    index,
    pages,
    ascii_flags,
    entries,
    piece_bytes,
    chunk,
    suffixes,
    doubtful,
    words,
    count,
    limit,
    asked,
):
    """Cut a text from a position on; return where it stopped, what lacked room there, and the counts.

    One long loop over plain arguments, because the rest would cost more than the work: no array changes hands in here
    and no tuple of arrays comes in, since their references would be counted for each word. A chunk of letters is a word
    unless it is an exception, and so is one before a mark that is always a suffix; all others are cut with care.
    """
    gap = position
    while position < stop:
        begin = middle = position
        size, code, length, value, value_before = 0, np.uint32(0), 1, np.uint64(0), np.uint64(0)
        flags = flags_before = some = some_before = np.uint32(0)
        every = every_before = ~np.uint32(0)
        while position < stop:
            byte, length, code = data[position], 1, np.uint32(data[position])
            if byte < _ASCII:
                following = ascii_flags[byte]
            else:
                code, length = decode(data, position)
                following = flags_of(code, index, pages)
            if following & _SPACE:
                break
            flags_before, flags, middle = flags, following, position
            some_before, every_before, value_before = some, every, value
            for number in range(position, position + length):
                value = append_byte(value, data[number])
            some |= flags
            every &= flags
            position += length
            size += 1
        if not size:
            position += length
            continue
        if count >= limit:
            return gap, NOTHING, count, asked
        if count + min(size, limit - count + LONGEST_CHUNK) > len(words):
            return gap, WORDS, count, asked
        if min(size, LONGEST_CHUNK) > len(suffixes) or asked == len(doubtful):
            return gap, DOUBTFUL if asked == len(doubtful) else CHUNK, count, asked
        first, known = count, size <= LONGEST_EXCEPTION and find_entry(entries, value) >= 0
        mark_hash = hash_between(value_before, value, position - middle)
        if every & _INERT and not known:
            count = write_word(words, count, value, begin, position, size, some, every)
        elif (
            every_before & _INERT
            and size > 1
            and not known
            and (flags & _SUFFIX or (code == _DOT and flags_before & _BEFORE_LAST_DOT))
            and (size > LONGEST_EXCEPTION + 1 or find_entry(entries, value_before) < 0)
            and find_entry(entries, join_hashes(value_before, mark_hash) ^ PAIR) < 0
        ):
            count = write_word(words, count, value_before, begin, middle, size - 1, some_before, every_before)
            count = write_word(words, count, mark_hash, middle, position, np.int64(1), flags, flags)
        elif size > LONGEST_CHUNK:
            count = _cut_long_chunk(
                data, begin, position, index, pages, entries, piece_bytes, chunk, suffixes, words, count, limit
            )
        else:
            decode_chunk(data, begin, position, chunk, index, pages)
            count, ask = cut_chunk(chunk, size, suffixes, entries, piece_bytes, words, count)
            if ask:
                doubtful[asked, 0], doubtful[asked, 1] = begin, position
                doubtful[asked, 2], doubtful[asked, 3] = first, count
                asked += 1
        if begin > gap + 1 or (begin > gap and data[gap] != _PLAIN_SPACE):
            words[first].marks |= AFTER_SPACE
        gap = position
    return stop, 0, count, asked


@kernel()
def cut_batch(data, offsets, index, pages, entries, piece_bytes):  # type: ignore[no-untyped-def]
    """Return the words of all texts, their number, the number of each text's first word, and the doubtful chunks.

    `data` are the bytes of all texts, `offsets` (int64, one more than texts) where each begins; `index` and `pages` are
    the code points, `entries` and `piece_bytes` the lexicon. A doubtful chunk is a row of [first byte, end, first word,
    end]. Marks say of the first word of a chunk whether a token of white space stands before it (anything but one plain
    space).
    """
    words = np.empty(len(data) // 4 + 256, WORD)
    first_word = np.zeros(len(offsets), np.int64)
    chunk, suffixes = np.empty(257, POINT), np.empty(256, np.int64)
    doubtful, asked, count = np.empty((64, 4), np.int64), np.int64(0), np.int64(0)
    ascii_flags = pages[np.int64(index[0]) << 8 :][:_ASCII]
    for text in range(len(offsets) - 1):
        position, stop, limit = offsets[text], offsets[text + 1], first_word[text] + MOST_WORDS
        while position < stop:
            position, lacking, count, asked = _cut_some(
                data, position, stop, index, pages, ascii_flags, entries, piece_bytes, chunk, suffixes, doubtful,
                words, count, limit, asked,
            )  # fmt: skip
            if lacking == WORDS:
                larger = np.empty(2 * len(words), WORD)
                larger[:count] = words[:count]
                words = larger
            elif lacking == CHUNK:
                chunk, suffixes = np.empty(2 * len(chunk), POINT), np.empty(2 * len(suffixes), np.int64)
            elif lacking == DOUBTFUL:
                doubtful = np.concatenate((doubtful, np.empty_like(doubtful)))
            elif lacking == NOTHING:
                break
        first_word[text + 1] = count
    return words, count, first_word, doubtful[:asked]


@kernel()
def replace_words(data, words, first_word, changes, lengths, index, pages):  # type: ignore[no-untyped-def]
    """Return words in which some runs are replaced, and the number of the first word of each text.

    A row of `changes` says where the run begins in `data`, the words [first, end) that go, and how many come; their
    `lengths` in bytes follow each other.
    """
    gained = (changes[:, 3] - (changes[:, 2] - changes[:, 1])).sum()
    result, moved = np.empty(len(words) + gained, WORD), first_word.copy()
    chunk = np.empty(257, POINT)
    read = written = np.int64(0)
    piece = text = 0
    for change in range(len(changes) + 1):
        until = changes[change, 1] if change < len(changes) else len(words)
        while text < len(first_word) and first_word[text] <= until:
            moved[text] = written + first_word[text] - read
            text += 1
        result[written : written + until - read] = words[read:until]
        written += until - read
        if change == len(changes):
            break
        start, first = changes[change, 0], written
        for _ in range(changes[change, 3]):
            end = start + lengths[piece]
            if end - start >= len(chunk):
                chunk = np.empty(2 * (end - start), POINT)
            size = decode_chunk(data, start, end, chunk, index, pages)
            written = _emit(chunk, np.int64(0), size, result, written)
            start = end
            piece += 1
        result[first].marks |= words[until].marks & AFTER_SPACE
        read = changes[change, 2]
    return result, moved


@kernel()
def chunk_start(data, start, position, index, pages):  # type: ignore[no-untyped-def]
    """Return where the chunk around a position begins: behind white space of any kind, or at `start`."""
    while position > start:
        before = position - 1
        while before > start and not begins_character(data[before]):
            before -= 1
        if flags_of(decode(data, before)[0], index, pages) & _SPACE:
            break
        position = before
    return position


@kernel()
def chunk_end(data, position, end, index, pages):  # type: ignore[no-untyped-def]
    """Return where the chunk around a position ends: before white space of any kind, or at `end`."""
    while position < end:
        code, length = decode(data, position)
        if flags_of(code, index, pages) & _SPACE:
            break
        position += length
    return position
