"""Units that can be repeated: windows of words, lines and paragraphs; each as a hash of 64 bits and a check of 32.

Windows are of the words of the shared analysis as they stand. Lines and paragraphs are compared as simplified text is:
lower case, each number 0, no punctuation, no diacritics. Two different units of a billion are taken for the same with a
probability of 2^-37.
"""

import numpy as np

from headrace.filters.analysis.banding import mix_bits
from headrace.filters.analysis.becoming import DIGIT, SPACE
from headrace.filters.analysis.growing import with_room
from headrace.filters.analysis.hashing import append_byte
from headrace.filters.analysis.utf8 import decode
from headrace.filters.kernels import kernel

# An occurrence: its hashes, and which text and unit of the text it is.
UNIT = np.dtype([("hash", np.uint64), ("check", np.uint32), ("row", np.uint32), ("number", np.uint32)])
_BASE, _OTHER_BASE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_LINE_FEED, _SPACE, _ZERO = ord("\n"), ord(" "), ord("0")


@kernel()
def hash_windows(words, first, n, first_row):  # type: ignore[no-untyped-def]
    """Return the window of n words that begins with each word of each text; a text's first window is number 0."""
    total = np.int64(0)
    for text in range(len(first) - 1):
        total += max(first[text + 1] - first[text] - n + 1, 0)
    units, count = np.empty(total, UNIT), np.int64(0)
    power = other_power = np.uint64(1)
    for _ in range(n):
        power *= _BASE
        other_power *= _OTHER_BASE
    for text in range(len(first) - 1):
        value = other = np.uint64(0)
        for word in range(first[text], first[text + 1]):
            own = mix_bits(words[word].hash)
            value, other = value * _BASE + own, other * _OTHER_BASE + own
            if word - first[text] >= n:
                gone = mix_bits(words[word - n].hash)
                value, other = value - power * gone, other - other_power * gone
            if word - first[text] >= n - 1:
                unit = units[count]
                unit.hash, unit.check = mix_bits(value), np.uint32(mix_bits(other) >> np.uint64(32))
                unit.row, unit.number = first_row + text, word - first[text] - n + 1
                count += 1
    return units


@kernel()
def unit_end(data, position, stop, breaks):  # type: ignore[no-untyped-def]
    """Return where a unit ends, before `breaks` line feeds or more, and where the next begins, behind all of them."""
    while position < stop:
        if data[position] == _LINE_FEED:
            behind = position
            while behind < stop and data[behind] == _LINE_FEED and (breaks > 1 or behind == position):
                behind += 1
            if behind - position >= breaks:
                return position, behind
            position = behind
        else:
            position += 1
    return stop, stop


@kernel()
def hash_lines(data, offsets, breaks, least, first_row, page_of, kinds, starts, ends, pool):  # type: ignore[no-untyped-def]
    """Return the lines (`breaks` = 1) or paragraphs (2) of each text that have at least `least` characters.

    Characters are those of the simplified text. All are numbered, also those that are left out.
    """
    units, count = np.empty(256, UNIT), np.int64(0)
    for text in range(len(offsets) - 1):
        position, stop, number = offsets[text], offsets[text + 1], np.uint32(0)
        while position < stop:
            end, behind = unit_end(data, position, stop, breaks)
            value = other = np.uint64(0)
            num_chars, spaced, in_number = np.int64(0), False, False
            while position < end:
                code, length = decode(data, position)
                place = (np.int64(page_of[code >> np.uint32(8)]) << 8) + np.int64(code & np.uint32(255))
                kind = kinds[place]
                if kind == SPACE:
                    spaced, in_number = bool(num_chars > 0), False
                elif kind != DIGIT or not in_number:
                    if spaced:
                        value, other = append_byte(value, _SPACE), other * _OTHER_BASE + np.uint64(_SPACE)
                        num_chars += 1
                        spaced = False
                    in_number = kind == DIGIT
                    if in_number:
                        value, other = append_byte(value, _ZERO), other * _OTHER_BASE + np.uint64(_ZERO)
                    for byte in range(starts[place], ends[place]):
                        value, other = (
                            append_byte(value, pool[byte]),
                            other * _OTHER_BASE + np.uint64(pool[byte]) + np.uint64(1),
                        )
                    num_chars += 1
                position += length
            if num_chars >= least:
                units = with_room(units, count, 1)
                unit = units[count]
                unit.hash, unit.check = mix_bits(value), np.uint32(mix_bits(other) >> np.uint64(32))
                unit.row, unit.number = first_row + text, number
                count += 1
            number += np.uint32(1)
            position = behind
    return units[:count]


@kernel()
def line_ranges(data, breaks):  # type: ignore[no-untyped-def]
    """Return where each line or paragraph of one text begins, and where the next does."""
    ranges, count = np.empty((64, 2), np.int64), np.int64(0)
    position = np.int64(0)
    while position < len(data):
        _, behind = unit_end(data, position, np.int64(len(data)), breaks)
        if count == len(ranges):
            larger = np.empty((2 * count, 2), np.int64)
            larger[:count] = ranges
            ranges = larger
        ranges[count, 0], ranges[count, 1] = position, behind
        count += 1
        position = behind
    return ranges[:count]
