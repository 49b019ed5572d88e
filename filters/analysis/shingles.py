"""Shingles: the hash of each run of n units (words joined by one space, or characters) of a text.

Words lie joined (`filters.analysis.simplified`), so a shingle is a range of bytes. Of one text the units end where
`ends` says, and between two of them lie `gap` bytes.
"""

import numpy as np

from headrace.filters.analysis.lines import begins_character
from headrace.filters.analysis.xxhash import xxh32, xxh64
from headrace.filters.kernels import kernel


@kernel()
def num_shingles(first, n):  # type: ignore[no-untyped-def]
    """Return where each text's shingles begin among those of all, and last where they end."""
    begins = np.zeros(len(first), np.int64)
    for text in range(len(first) - 1):
        begins[text + 1] = begins[text] + max(first[text + 1] - first[text] - n + 1, 0)
    return begins


@kernel()
def hash_shingles_64(data, starts, ends, first, n, gap):  # type: ignore[no-untyped-def]
    """Return the XXH64 of each shingle of each text, in order."""
    hashes = np.empty(num_shingles(first, n)[-1], np.uint64)
    number = 0
    for text in range(len(starts)):
        start = starts[text]
        for unit in range(first[text], first[text + 1] - n + 1):
            hashes[number] = xxh64(data, start, ends[unit + n - 1])
            number += 1
            start = ends[unit] + gap
    return hashes


@kernel()
def hash_shingles_32(data, starts, ends, first, n, gap):  # type: ignore[no-untyped-def]
    """Return the XXH32 of each shingle of each text, in order."""
    hashes = np.empty(num_shingles(first, n)[-1], np.uint32)
    number = 0
    for text in range(len(starts)):
        start = starts[text]
        for unit in range(first[text], first[text + 1] - n + 1):
            hashes[number] = xxh32(data, start, ends[unit + n - 1])
            number += 1
            start = ends[unit] + gap
    return hashes


@kernel()
def character_ends(data, starts, ends, first):  # type: ignore[no-untyped-def]
    """Return where each character of each text ends, and the number of each text's first one.

    A text reaches from its start to the end of its last word.
    """
    found, begins = np.empty(len(data), np.int64), np.zeros(len(starts) + 1, np.int64)
    count = 0
    for text in range(len(starts)):
        stop = ends[first[text + 1] - 1] if first[text + 1] > first[text] else starts[text]
        for position in range(starts[text] + 1, stop + 1):
            if position == stop or begins_character(data[position]):
                found[count] = position
                count += 1
        begins[text + 1] = count
    return found[:count], begins


@kernel()
def join_words(data, words, first):  # type: ignore[no-untyped-def]
    """Return words of texts joined by one space: the bytes, where each text begins, and where each word ends."""
    size = np.int64(0)
    for number in range(len(words)):
        size += np.int64(words[number].num_bytes) + 1
    joined, starts = np.empty(size, np.uint8), np.zeros(len(first) - 1, np.int64)
    ends, position = np.empty(len(words), np.int64), np.int64(0)
    for text in range(len(first) - 1):
        starts[text] = position
        for number in range(first[text], first[text + 1]):
            stop = np.int64(words[number].end)
            if number > first[text]:
                joined[position] = ord(" ")
                position += 1
            for place in range(stop - np.int64(words[number].num_bytes), stop):
                joined[position] = data[place]
                position += 1
            ends[number] = position
    return joined[:position], starts, ends
