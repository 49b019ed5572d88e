"""How much of a text has been said before: pieces (lines, paragraphs) and runs of words, in characters.

Counted as datatrove 0.10.1 does: a piece is a duplicate from its second occurrence on; the commonest run of n words is,
of equals, the one that comes first; a run that occurred before is stepped over whole. Pieces and runs are compared by
64-bit hashes, runs of five and more as the string that their words make without spaces, because the reference does so.

Most runs occur once, and most of these are known to: a run cannot occur twice if the shorter run that it begins with,
or its first few bytes, do not. Only the shortest runs are all looked up.
"""

import numpy as np

from headrace.filters.analysis.hashing import as_key, digest_bytes, join_hashes, power, read_number, write_number
from headrace.filters.analysis.lines import count_byte, count_characters, find_byte, skip_space, trim_space
from headrace.filters.analysis.seen import emptied, most_different_lines, slot_of, table_size
from headrace.filters.kernels import kernel

# A run of words: its hash, or the slot of its key, and its first word. Packed: there are as many as words.
_RUN = np.dtype([("hash", np.uint64), ("word", np.uint32)])
_ROOM = 16  # bytes behind words that are put together
_MIXING = np.uint64(0x9E3779B97F4A7C15)
_WINDOW = 12  # bytes: hardly any five words are shorter, and few such stretches occur twice
_LINE_FEED = ord("\n")


@kernel()
def _duplicate_pieces(data, start, end, shortest_break, table, counts):  # type: ignore[no-untyped-def]
    """Cut data[start:end] at runs of line feeds; count into `counts` pieces, duplicates and their characters."""
    first = position = start
    while True:
        position = find_byte(data, position, end, _LINE_FEED)
        breaks = 0
        while position + breaks < end and data[position + breaks] == _LINE_FEED:
            breaks += 1
        if position == end or breaks >= shortest_break:
            key = as_key(digest_bytes(data, first, position))
            slot = slot_of(table, key)
            counts[0] += 1
            if table[slot] == key:
                counts[1] += 1
                counts[2] += count_characters(data, first, position)
            table[slot] = key
            if position == end:
                return
            first = position + breaks
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
def _top_run(words, first, end, n, runs, num_runs, table, seen):  # type: ignore[no-untyped-def]
    """Return the characters, spaces between words included, in all occurrences of the commonest run of n words.

    Only runs that begin where the first `num_runs` of `runs` do may occur twice. Those that do so stay there, and how
    many they are is returned, too.
    """
    if first + n > end:
        return np.int64(0), np.int64(0)
    most, best, left = np.uint32(1), np.int64(first), np.int64(0)
    while num_runs and np.int64(runs[num_runs - 1].word) + n > end:
        num_runs -= 1
    for number in range(num_runs):
        key = _run_key(words, np.int64(runs[number].word), n)
        slot = slot_of(table, key)
        if table[slot] == 0:
            table[slot], seen[slot] = key, np.uint32(0)
        seen[slot] += np.uint32(1)
        most = max(most, seen[slot])
        runs[number].hash = np.uint64(slot)
    found = most == 1
    for number in range(num_runs):
        word, count = runs[number].word, seen[np.int64(runs[number].hash)]
        if count == most and not found:
            best, found = np.int64(word), True
        runs[left].word = word
        left += count > 1
    return (_run_chars(words, best, n) + n - 1) * np.int64(most), left


@kernel()
def _put_together(data, words, first, end, joined):  # type: ignore[no-untyped-def]
    """Write the bytes of words end to end, and zeros behind them; eight at a time, the next over the rest."""
    size = np.int64(0)
    for word in range(first, end):
        stop, num_bytes = np.int64(words[word].end), np.int64(words[word].num_bytes)
        position, written = stop - num_bytes, size
        while position < stop:
            length = min(8, len(data) - position)
            value = read_number(data, position, 8) if length == 8 else read_number(data, position, length)
            write_number(joined, written, value)
            position += 8
            written += 8
        size += num_bytes
    joined[size : size + _ROOM] = 0


@kernel(within=True)
def _window_key(joined, position):  # type: ignore[no-untyped-def]
    """Return the key of the `_WINDOW` bytes at a position."""
    return as_key(read_number(joined, position, 8) ^ (read_number(joined, position + _WINDOW - 8, 8) * _MIXING))


@kernel()
def _find_candidates(words, first, end, n, joined, runs, table, seen):  # type: ignore[no-untyped-def]
    """Write the runs of n words that may occur twice, or shorter ones of longer runs that may; return their number.

    A run of `_WINDOW` bytes and more can only occur twice if its first bytes do, however they are cut into words.
    """
    num_words, position, num_bytes, num_runs = end - first, np.int64(0), np.int64(0), np.int64(0)
    for word in range(first, min(first + n, end)):
        num_bytes += np.int64(words[word].num_bytes)
    for number in range(num_words):
        key = _window_key(joined, position)
        slot = slot_of(table, key)
        runs[number].word = np.uint32(num_bytes < _WINDOW)
        if table[slot] == 0:
            table[slot], seen[slot] = key, np.uint32(number)
        else:
            runs[number].word = runs[np.int64(seen[slot])].word = np.uint32(1)
        size = np.int64(words[first + number].num_bytes)
        following = first + number + n
        num_bytes += (np.int64(words[following].num_bytes) if following < end else 0) - size
        position += size
    for number in range(num_words - n + 1):
        if runs[number].word:
            value = np.uint64(0)
            for word in range(first + number, first + number + n):
                value = value * power(np.int64(words[word].num_bytes)) + words[word].hash
            runs[num_runs].hash, runs[num_runs].word = value, np.uint32(first + number)
            num_runs += 1
    return num_runs


@kernel()
def _lengthen(words, end, n, runs, num_runs):  # type: ignore[no-untyped-def]
    """Make runs of n words of those of n - 1, as many as there is room for; return how many."""
    while num_runs and np.int64(runs[num_runs - 1].word) + n > end:
        num_runs -= 1
    for number in range(num_runs):
        word = words[np.int64(runs[number].word) + n - 1]
        runs[number].hash = runs[number].hash * power(np.int64(word.num_bytes)) + word.hash
    return num_runs


@kernel()
def _repeated_runs(words, n, runs, num_runs, table):  # type: ignore[no-untyped-def]
    """Return the characters in runs of n words that occurred before, of those that may."""
    num_chars = following = np.int64(0)
    for number in range(num_runs):
        word = np.int64(runs[number].word)
        if word < following:
            continue
        key = as_key(runs[number].hash)
        slot = slot_of(table, key)
        if table[slot] == key:
            num_chars += _run_chars(words, word, n)
            following = word + n
        else:
            table[slot] = key
    return num_chars


@kernel()
def count_repeats(data, offsets, words, first_word, top, repeated, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text counts of pieces, and characters in runs of words.

    The counts (int64, of shape (num_texts, 7 + len(top) + len(repeated))) are: characters; paragraphs, those that are
    duplicates, their characters; lines, those that are duplicates, their characters; for each n of `top` the characters
    in the commonest run of n words (0 of fewer words), for each n of `repeated` those in repeated runs. Each n is
    larger than the one before it.
    """
    counts = np.zeros((len(offsets) - 1, 7 + len(top) + len(repeated)), np.int64)
    room, seen, runs = np.empty(16, np.uint64), np.empty(16, np.uint32), np.empty(1024, _RUN)
    joined = np.empty(4096, np.uint8)
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
        if last - first > len(runs):
            runs = np.empty(last - first, _RUN)
        if end - start + _ROOM > len(joined):
            joined = np.empty(end - start + _ROOM, np.uint8)
        trimmed = skip_space(data, start, end, index, pages)
        end_trimmed = trim_space(data, trimmed, end, index, pages)
        _duplicate_pieces(data, trimmed, end_trimmed, 2, emptied(room, piece_slots), row[1:4])
        _duplicate_pieces(data, start, end, 1, emptied(room, piece_slots), row[4:7])
        num_runs = last - first
        for number in range(num_runs):
            runs[number].word = np.uint32(first + number)
        for number in range(len(top)):
            table = emptied(room, table_size(num_runs))
            row[7 + number], num_runs = _top_run(words, first, last, top[number], runs, num_runs, table, seen)
        _put_together(data, words, first, last, joined)
        n = repeated[0]
        num_runs = _find_candidates(words, first, last, n, joined, runs, emptied(room, word_slots), seen)
        for number in range(len(repeated)):
            while n < repeated[number]:
                n += 1
                num_runs = _lengthen(words, last, n, runs, num_runs)
            table = emptied(room, table_size(num_runs))
            row[7 + len(top) + number] = _repeated_runs(words, n, runs, num_runs, table)
    return counts
