"""Counts that tell prose from lists and code: kinds of words, marks, and how lines begin and end."""

import numpy as np

from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.cutting import HAS_LETTER, NON_SYMBOL
from headrace.filters.analysis.hashing import as_key, digest_bytes
from headrace.filters.analysis.lexicon import find_entry
from headrace.filters.analysis.lines import (
    count_byte,
    count_characters,
    ends_with_ellipsis,
    find_break,
    find_byte,
    last_character,
    skip_space,
    trim_space,
)
from headrace.filters.analysis.seen import emptied, most_different_lines, slot_of, table_size
from headrace.filters.kernels import kernel

_SPACE, _LINE_TERMINAL = int(Flag.SPACE), int(Flag.LINE_TERMINAL)
_HASH, _DOT, _DASH, _LINE_FEED = ord("#"), ord("."), ord("-"), ord("\n")


@kernel()
def count_words(words, first_word, stop_words, num_stop_words):  # type: ignore[no-untyped-def]
    """Return for each text: words, those that are no symbols, their characters, those with a letter, stop words.

    `stop_words` is a table of hashes whose `first` numbers them; of stop words the different ones count.
    """
    counts = np.zeros((len(first_word) - 1, 5), np.int64)
    seen = np.full(num_stop_words, -1, np.int64)
    for text in range(len(first_word) - 1):
        row = counts[text]
        row[0] = first_word[text + 1] - first_word[text]
        for number in range(first_word[text], first_word[text + 1]):
            word = words[number]
            if word.marks & NON_SYMBOL:
                row[1] += 1
                row[2] += np.int64(word.num_chars)
            row[3] += (word.marks & HAS_LETTER) != 0
            slot = find_entry(stop_words, word.hash)
            if slot >= 0 and seen[stop_words[slot].first] != text:
                seen[stop_words[slot].first] = text
                row[4] += 1
    return counts


@kernel()
def count_listed_words(words, first_word, listed, first_list, lists, num_lists):  # type: ignore[no-untyped-def]
    """Return for each text how many different words of each list occur, of shape (num_texts, num_lists).

    `listed` is a table of hashes whose `first` numbers the words; word i is in lists[first_list[i]:first_list[i + 1]].
    """
    counts = np.zeros((len(first_word) - 1, num_lists), np.int64)
    seen = np.full(len(first_list) - 1, -1, np.int64)
    for text in range(len(first_word) - 1):
        for number in range(first_word[text], first_word[text + 1]):
            slot = find_entry(listed, words[number].hash)
            if slot >= 0 and seen[listed[slot].first] != text:
                word = listed[slot].first
                seen[word] = text
                for place in range(first_list[word], first_list[word + 1]):
                    counts[text, lists[place]] += 1
    return counts


@kernel()
def count_marks(data, offsets):  # type: ignore[no-untyped-def]
    """Return for each text: hash signs, ellipses (three dots, or U+2026)."""
    counts = np.zeros((len(offsets) - 1, 2), np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        counts[text, 0] = count_byte(data, start, end, _HASH)
        position = start
        while position < end:
            byte = data[position]
            position += 1
            if (byte == _DOT or byte == 0xE2) and ends_with_ellipsis(data, position - 1, min(position + 2, end)):
                counts[text, 1] += 1
                position += 2
    return counts


@kernel()
def count_line_forms(data, offsets, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text: lines, those that begin with a bullet, those that end with an ellipsis."""
    counts = np.zeros((len(offsets) - 1, 3), np.int64)
    for text in range(len(offsets) - 1):
        start, row = offsets[text], counts[text]
        while start < offsets[text + 1]:
            end, following = find_break(data, start, offsets[text + 1])
            begin = skip_space(data, start, end, index, pages)
            row[0] += 1
            row[1] += _begins_with_bullet(data, begin, end)
            row[2] += ends_with_ellipsis(data, start, trim_space(data, start, end, index, pages))
            start = following
    return counts


@kernel()
def _begins_with_bullet(data, start, end):  # type: ignore[no-untyped-def]
    if start >= end:
        return False
    bullet = end - start >= 3 and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2
    return data[start] == _DASH or bullet


@kernel()
def count_fragments(data, offsets, short_line_chars, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text, cut at line feeds: lines that are not white space, those that end with terminal
    punctuation, short ones, characters in those that occurred before, characters but line feeds, line feeds.
    """
    counts = np.zeros((len(offsets) - 1, 6), np.int64)
    room = np.empty(16, np.uint64)
    for text in range(len(offsets) - 1):
        row = counts[text]
        start, stop = offsets[text], offsets[text + 1]
        row[5] = count_byte(data, start, stop, _LINE_FEED)
        slots = table_size(most_different_lines(row[5] + 1, stop - start))
        if slots > len(room):
            room = np.empty(slots, np.uint64)
        seen = emptied(room, slots)
        while start <= stop:
            end = find_byte(data, start, stop, _LINE_FEED)
            num_chars = count_characters(data, start, end)
            row[4] += num_chars
            if skip_space(data, start, end, index, pages) < end:
                row[0] += 1
                row[1] += (last_character(data, start, end, index, pages)[1] & _LINE_TERMINAL) != 0
                row[2] += num_chars <= short_line_chars
                key = as_key(digest_bytes(data, start, end))
                slot = slot_of(seen, key)
                row[3] += num_chars if seen[slot] == key else 0
                seen[slot] = key
            start = end + 1
    return counts
