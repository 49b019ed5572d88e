"""Lines and the white space around them, as Python's `str` has them, in UTF-8."""

import numpy as np

from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.hashing import read_number
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

_SPACE = int(Flag.SPACE)
_LINE_FEED, _CARRIAGE_RETURN = ord("\n"), ord("\r")
_EACH_BYTE = np.uint64(0x0101010101010101)
_CONTINUATION = 0xC0  # the two bits that mark bytes inside a code point, which are then 0x80


@kernel(within=True)
def begins_character(byte):  # type: ignore[no-untyped-def]
    """Return whether a byte is the first one of a code point."""
    return byte & _CONTINUATION != 0x80


@kernel()
def count_characters(data, start, end):  # type: ignore[no-untyped-def]
    """Return the number of code points in data[start:end]."""
    count = 0
    for position in range(start, end):
        count += begins_character(data[position])
    return count


@kernel()
def count_byte(data, start, end, wanted):  # type: ignore[no-untyped-def]
    """Return how often a byte stands in data[start:end]."""
    count = 0
    for position in range(start, end):
        count += data[position] == wanted
    return count


@kernel()
def holds_byte(data, start, end, wanted):  # type: ignore[no-untyped-def]
    """Return whether a byte stands in data[start:end]; all are looked at, which is many at once."""
    found = False
    for position in range(start, end):
        found |= data[position] == wanted
    return found


@kernel(within=True)
def find_byte(data, start, end, wanted):  # type: ignore[no-untyped-def]
    """Return where a byte stands first in data[start:end], or `end`; eight bytes are looked at together.

    Of a number without zero bytes, (v - 0x01...) & ~v has no byte's highest bit set (Mycroft 1987).
    """
    pattern = np.uint64(wanted) * _EACH_BYTE
    while start + 8 <= end:
        value = read_number(data, start, 8) ^ pattern
        if (value - _EACH_BYTE) & ~value & (_EACH_BYTE << np.uint64(7)):
            break
        start += 8
    while start < end and data[start] != wanted:
        start += 1
    return start


@kernel(within=True)
def break_length(data, position, end):  # type: ignore[no-untyped-def]
    """Return the length in bytes of the line break at a position, as `str.splitlines` knows them, or 0."""
    byte = data[position]
    if byte < 0x20:
        if byte == _CARRIAGE_RETURN and position + 1 < end and data[position + 1] == _LINE_FEED:
            return 2
        return 1 if 0x0A <= byte <= 0x0D or 0x1C <= byte <= 0x1E else 0
    if byte == 0xC2:  # U+0085
        return 2 if data[position + 1] == 0x85 else 0
    if byte == 0xE2 and data[position + 1] == 0x80:  # U+2028 and U+2029
        return 3 if data[position + 2] == 0xA8 or data[position + 2] == 0xA9 else 0
    return 0


@kernel()
def find_break(data, start, end):  # type: ignore[no-untyped-def]
    """Return where the line that begins at `start` ends, and where the next one begins."""
    for position in range(start, end):
        byte = data[position]
        if byte < 0x20 or byte == 0xC2 or byte == 0xE2:
            length = break_length(data, position, end)
            if length:
                return position, position + length
    return end, end


@kernel()
def skip_space(data, start, end, index, pages):  # type: ignore[no-untyped-def]
    """Return where data[start:end] begins without the white space at its beginning."""
    while start < end:
        code, length = decode(data, start)
        if not flags_of(code, index, pages) & _SPACE:
            break
        start += length
    return start


@kernel()
def last_character(data, start, end, index, pages):  # type: ignore[no-untyped-def]
    """Return where the last character of data[start:end] (not empty) begins, and its flags."""
    position = end - 1
    while position > start and not begins_character(data[position]):
        position -= 1
    code, _ = decode(data, position)
    return position, flags_of(code, index, pages)


@kernel()
def trim_space(data, start, end, index, pages):  # type: ignore[no-untyped-def]
    """Return where data[start:end] ends without the white space at its end."""
    while end > start:
        position, flags = last_character(data, start, end, index, pages)
        if not flags & _SPACE:
            break
        end = position
    return end


@kernel()
def ends_with_ellipsis(data, start, end):  # type: ignore[no-untyped-def]
    """Return whether data[start:end] ends with three dots or with U+2026."""
    if end - start < 3:
        return False
    first, second, third = data[end - 3], data[end - 2], data[end - 1]
    dots = first == second == third == np.uint8(0x2E)
    return dots or (first == 0xE2 and second == 0x80 and third == 0xA6)
