"""spaCy's patterns for English (prefixes, suffixes, infixes) as functions over classes of code points.

A chunk is an array of POINT, the last of which only says where the chunk ends; ranges are of its points. Each function
returns how long what it finds is, 0 where it finds nothing, and sees nothing outside the range that it is given, as the
patterns do not.
"""

import numpy as np

from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.hashing import hash_between
from headrace.filters.analysis.lexicon import LONGEST_EXCEPTION, LONGEST_UNIT, UNIT, find_entry
from headrace.filters.kernels import kernel

# A code point of a chunk: its flags, where its bytes begin, and the hash of the chunk's bytes before it.
POINT = np.dtype([("code", np.uint32), ("flags", np.uint32), ("offset", np.int64), ("hash", np.uint64)])

_DIGIT, _DECIMAL, _LETTER, _TOP_LEVEL = int(Flag.DIGIT), int(Flag.DECIMAL), int(Flag.LETTER), int(Flag.TOP_LEVEL)
_PREFIX, _SUFFIX, _INFIX = int(Flag.PREFIX), int(Flag.SUFFIX), int(Flag.INFIX)
_CURRENCY, _UPPER, _BEFORE_LAST_DOT = int(Flag.CURRENCY), int(Flag.UPPER), int(Flag.BEFORE_LAST_DOT)
_BEFORE_DOT, _AFTER_DOT = int(Flag.BEFORE_DOT), int(Flag.AFTER_DOT)

_DOT, _COMMA, _PLUS, _STAR, _CARET, _DOLLAR = ord("."), ord(","), ord("+"), ord("*"), ord("^"), ord("$")
_APOSTROPHE, _QUOTE, _ELLIPSIS, _DEGREE = ord("'"), ord("\u2019"), ord("…"), ord("°")
_HYPHEN, _EN_DASH, _EM_DASH, _TILDE = ord("-"), ord("\u2013"), ord("—"), ord("~")
_COLON, _SLASH, _LESS, _EQUALS, _GREATER = ord(":"), ord("/"), ord("<"), ord("="), ord(">")
_S, _CAPITAL_S, _CAPITAL_U, _CAPITAL_C, _CAPITAL_A = ord("s"), ord("S"), ord("U"), ord("C"), ord("A")
_F, _C, _K = ord("f"), ord("c"), ord("k")


@kernel(within=True)
def hash_points(chunk, start, end):  # type: ignore[no-untyped-def]
    """Return the hash of the bytes of a range."""
    return hash_between(chunk[start].hash, chunk[end].hash, chunk[end].offset - chunk[start].offset)


@kernel(within=True)
def exception_slot(chunk, start, end, entries):  # type: ignore[no-untyped-def]
    """Return where the lexicon has a range as an exception, or -1."""
    if end - start > LONGEST_EXCEPTION or end <= start:
        return -1
    return find_entry(entries, hash_points(chunk, start, end))


@kernel()
def prefix_length(chunk, start, end):  # type: ignore[no-untyped-def]
    """Return the length of the prefix of a range."""
    code = chunk[start].code
    following = chunk[start + 1].code if start + 1 < end else 0
    if chunk[start].flags & _PREFIX:
        return 1
    if code == _PLUS:
        return 0 if start + 1 < end and chunk[start + 1].flags & _DIGIT else 1
    if code == _DOT and following == _DOT:
        after = start + 2
        while after < end and chunk[after].code == _DOT:
            after += 1
        return after - start
    if code == _CAPITAL_U and following == _CAPITAL_S and start + 2 < end and chunk[start + 2].code == _DOLLAR:
        return 3
    if (code == _CAPITAL_C or code == _CAPITAL_A) and following == _DOLLAR:
        return 2
    return 0


@kernel()
def _currency_length(chunk, start, end):  # type: ignore[no-untyped-def]
    """Return the length of a currency behind a digit at the end of [start, end), or 0; the longest, of several."""
    if chunk[end - 1].code == _DOLLAR and end - start > 2:
        before, second = chunk[end - 2].code, chunk[end - 3]
        if before == _CAPITAL_S and second.code == _CAPITAL_U and end - start > 3 and chunk[end - 4].flags & _DIGIT:
            return 3
        if (before == _CAPITAL_C or before == _CAPITAL_A) and second.flags & _DIGIT:
            return 2
    return 1 if chunk[end - 1].flags & _CURRENCY and end - start > 1 and chunk[end - 2].flags & _DIGIT else 0


@kernel()
def _unit_length(chunk, start, end, entries):  # type: ignore[no-untyped-def]
    for length in range(min(LONGEST_UNIT, end - start - 1), 0, -1):
        behind_digit = chunk[end - length - 1].flags & _DIGIT
        if behind_digit and find_entry(entries, hash_points(chunk, end - length, end) ^ UNIT) >= 0:
            return length
    return 0


@kernel()
def suffix_length(chunk, start, end, entries):  # type: ignore[no-untyped-def]
    """Return the length of the longest suffix of [start, end); nothing before `start` is seen."""
    if end <= start:
        return 0
    last, size = chunk[end - 1].code, end - start
    if last == _DOT:
        if size > 1 and chunk[end - 2].code == _DOT:
            before = end - 2
            while before > start and chunk[before - 1].code == _DOT:
                before -= 1
            return end - before
        if size > 1 and chunk[end - 2].flags & _BEFORE_LAST_DOT:
            return 1
        if size > 2 and chunk[end - 2].flags & _UPPER and chunk[end - 3].flags & _UPPER:
            return 1
        if size > 2 and chunk[end - 3].code == _DEGREE:
            letter = chunk[end - 2].code | np.uint32(32)
            return 1 if letter == _F or letter == _C or letter == _K else 0
        return 0
    longest = 1 if chunk[end - 1].flags & _SUFFIX else 0
    if size > 1:
        before = chunk[end - 2].code
        if last == _ELLIPSIS and before == _ELLIPSIS:
            longest = 2
        if (last == _S or last == _CAPITAL_S) and (before == _APOSTROPHE or before == _QUOTE):
            longest = 2
        if last == _PLUS and chunk[end - 2].flags & _DIGIT:
            longest = 1
        longest = max(longest, _currency_length(chunk, start, end), _unit_length(chunk, start, end, entries))
    return longest


@kernel()
def _hyphen_length(chunk, position, end):  # type: ignore[no-untyped-def]
    """Return the length of the hyphen at a position that a letter follows, or 0."""
    code = chunk[position].code
    most = 3 if code == _HYPHEN else 2 if code == _EM_DASH else 1
    for length in range(1, most + 1):
        if position + length >= end or chunk[position + length - 1].code != code:
            return 0
        if chunk[position + length].flags & _LETTER:
            return length
    return 0


@kernel()
def infix_length(chunk, start, position, end):  # type: ignore[no-untyped-def]
    """Return the length of the infix at a position of the core [start, end), or 0."""
    code = chunk[position].code
    if code == _DOT and position + 1 < end and chunk[position + 1].code == _DOT:
        after = position + 2
        while after < end and chunk[after].code == _DOT:
            after += 1
        return after - position
    if chunk[position].flags & _INFIX:
        return 1
    if position == start or position + 1 >= end:
        return 0
    before, after_flags, after = chunk[position - 1].flags, chunk[position + 1].flags, chunk[position + 1].code
    sign = code == _PLUS or code == _HYPHEN or code == _STAR or code == _CARET
    if sign and before & _DIGIT and (after_flags & _DIGIT or after == _HYPHEN):
        return 1
    if code == _DOT:
        return 1 if before & _BEFORE_DOT and after_flags & _AFTER_DOT else 0
    if code == _COMMA:
        return 1 if before & _LETTER and after_flags & _LETTER else 0
    if not before & (_LETTER | _DIGIT):
        return 0
    if code == _HYPHEN or code == _EN_DASH or code == _EM_DASH or code == _TILDE:
        return _hyphen_length(chunk, position, end)
    if code == _COLON or code == _LESS or code == _GREATER or code == _EQUALS or code == _SLASH:
        return 1 if after_flags & _LETTER else 0
    return 0


@kernel()
def may_be_url(chunk, start, end):  # type: ignore[no-untyped-def]
    """Return whether [start, end) has what each URL has: a dot before two letters of a top-level domain, or an IP."""
    numbers = 0
    for position in range(start + 1, end - 1):
        if chunk[position].code == _DOT:
            if position + 2 < end and chunk[position + 1].flags & _TOP_LEVEL and chunk[position + 2].flags & _TOP_LEVEL:
                return True
            numbers += 1 if chunk[position + 1].flags & _DECIMAL else 0
    return numbers > 2
