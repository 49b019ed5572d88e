"""How much of a text has been said before: pieces (lines, paragraphs) and runs of words, in characters.

Counted as datatrove 0.10.1 does: a piece is a duplicate from its second occurrence on; the commonest run of n words is,
of equals, the one that comes first; a run that occurred before is stepped over whole. Pieces and runs are compared by
64-bit hashes, runs of five and more as the string that their words make without spaces, because the reference does so.
"""

import numpy as np

from headrace.filters.analysis.hashing import append_byte, as_key, hash_between, join_hashes, power
from headrace.filters.analysis.lines import begins_character, count_byte, count_characters, skip_space, trim_space
from headrace.filters.analysis.seen import emptied, most_different_lines, slot_of, table_size
from headrace.filters.kernels import kernel

# The words before a word, put together: their hash and bytes. Packed: there are as many as words.
_BEFORE = np.dtype([("hash", np.uint64), ("num_bytes", np.uint32)])
_LINE_FEED = ord("\n")


@kernel()
def _duplicate_pieces(data, start, end, shortest_break, table, counts):  # type: ignore[no-untyped-def]
    """Cut data[start:end] at runs of line feeds; count into `counts` pieces, duplicates and their characters."""
    value, num_chars, position = np.uint64(0), 0, start
    while True:
        while position < end and data[position] != _LINE_FEED:
            value = append_byte(value, data[position])
            num_chars += begins_character(data[position])
            position += 1
        breaks = 0
        while position + breaks < end and data[position + breaks] == _LINE_FEED:
            breaks += 1
        if position == end or breaks >= shortest_break:
            key = as_key(value)
            slot = slot_of(table, key)
            counts[0] += 1
            if table[slot] == key:
                counts[1] += 1
                counts[2] += num_chars
            table[slot] = key
            if position == end:
                return
            value, num_chars = np.uint64(0), 0
        else:
            for _ in range(breaks):
                value = append_byte(value, _LINE_FEED)
            num_chars += breaks
        position += breaks


@kernel(within=True)
def _run_key(words, start, n):  # type: ignore[no-untyped-def]
    """Return the key of the run of n words that begins with a word."""
    key = words[start].hash
    for word in range(start + 1, start + n):
        key = join_hashes(key, words[word].hash)
    return as_key(key)


@kernel(within=True)
def _run_chars(words, start, n):  # type: ignore[no-untyped-def]
    """Return the characters of a run of n words."""
    num_chars = np.int64(0)
    for word in range(start, start + n):
        num_chars += np.int64(words[word].num_chars)
    return num_chars


@kernel()
def _top_run(words, first, end, n, table, seen):  # type: ignore[no-untyped-def]
    """Return the characters, spaces between words included, in all occurrences of the commonest run of n words."""
    most = np.uint32(0)
    for start in range(first, end - n + 1):
        key = _run_key(words, start, n)
        slot = slot_of(table, key)
        if table[slot] == 0:
            table[slot], seen[slot] = key, np.uint32(0)
        seen[slot] += np.uint32(1)
        most = max(most, seen[slot])
    for start in range(first, end - n + 1):
        if seen[slot_of(table, _run_key(words, start, n))] == most:
            return (_run_chars(words, start, n) + n - 1) * np.int64(most)
    return np.int64(0)


@kernel()
def _put_together(words, first, end, before):  # type: ignore[no-untyped-def]
    """Write what stands before each word, and before the end, when all words are put together."""
    value, num_bytes = np.uint64(0), np.uint32(0)
    for word in range(first, end + 1):
        place = before[word - first]
        place.hash, place.num_bytes = value, num_bytes
        if word < end:
            value = value * power(np.int64(words[word].num_bytes)) + words[word].hash
            num_bytes += words[word].num_bytes


@kernel()
def _repeated_runs(words, first, before, num_words, n, table):  # type: ignore[no-untyped-def]
    """Return the characters in runs of n words that occurred before."""
    num_chars, word = np.int64(0), 0
    while word + n <= num_words:
        start, stop = before[word], before[word + n]
        key = as_key(hash_between(start.hash, stop.hash, np.int64(stop.num_bytes - start.num_bytes)))
        slot = slot_of(table, key)
        if table[slot] == key:
            num_chars += _run_chars(words, first + word, n)
            word += n
        else:
            table[slot] = key
            word += 1
    return num_chars


@kernel()
def count_repeats(data, offsets, words, first_word, top, repeated, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text counts of pieces, and characters in runs of words.

    The counts (int64, of shape (num_texts, 7 + len(top) + len(repeated))) are: characters; paragraphs, those that are
    duplicates, their characters; lines, those that are duplicates, their characters; for each n of `top` the characters
    in the commonest run of n words (0 of fewer words), for each n of `repeated` those in repeated runs.
    """
    counts = np.zeros((len(offsets) - 1, 7 + len(top) + len(repeated)), np.int64)
    room, seen, before = np.empty(16, np.uint64), np.empty(16, np.uint32), np.empty(1024, _BEFORE)
    for text in range(len(offsets) - 1):
        start, end, row = offsets[text], offsets[text + 1], counts[text]
        row[0] = count_characters(data, start, end)
        num_pieces = count_byte(data, start, end, _LINE_FEED) + 1
        first, last = first_word[text], first_word[text + 1]
        piece_slots = table_size(most_different_lines(num_pieces, end - start))
        word_slots = table_size(last - first)
        if max(piece_slots, word_slots) > len(room):
            room = np.empty(max(piece_slots, word_slots), np.uint64)
            seen = np.empty(len(room), np.uint32)
        trimmed = skip_space(data, start, end, index, pages)
        end_trimmed = trim_space(data, trimmed, end, index, pages)
        _duplicate_pieces(data, trimmed, end_trimmed, 2, emptied(room, piece_slots), row[1:4])
        _duplicate_pieces(data, start, end, 1, emptied(room, piece_slots), row[4:7])
        for number in range(len(top)):
            row[7 + number] = _top_run(words, first, last, top[number], emptied(room, word_slots), seen)
        if last - first >= len(before):
            before = np.empty(last - first + 1, _BEFORE)
        _put_together(words, first, last, before)
        for number in range(len(repeated)):
            table = emptied(room, word_slots)
            row[7 + len(top) + number] = _repeated_runs(words, first, before, last - first, repeated[number], table)
    return counts
