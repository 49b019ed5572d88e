"""The phrases by which C4 condemns a line or a page, found in letters of any case.

Each phrase is looked for where its rarest letter stands (v of `privacy`, k of `cookie`), so most bytes are passed over
at a glance. Case is that of `str.lower`, which makes ASCII of two more characters.
"""

import numpy as np

from headrace.filters.analysis.matching import stands_at
from headrace.filters.kernels import kernel

LOREM, JAVASCRIPT_LINE, POLICY_LINE = 1, 2, 4  # bits of what is found
_PHRASES = (  # with the offset of the letter
    (b"lorem ipsum", 4, LOREM),
    (b"javascript", 0, JAVASCRIPT_LINE),
    (b"terms of use", 3, POLICY_LINE),
    (b"privacy policy", 3, POLICY_LINE),
    (b"cookie policy", 3, POLICY_LINE),
    (b"uses cookies", 8, POLICY_LINE),
    (b"use of cookies", 10, POLICY_LINE),
    (b"use cookies", 7, POLICY_LINE),
)
_BYTES = np.frombuffer(b"".join(phrase for phrase, _, _ in _PHRASES), np.uint8)
_STARTS = np.cumsum([0, *(len(phrase) for phrase, _, _ in _PHRASES)])
_OFFSETS = np.array([offset for _, offset, _ in _PHRASES])
_LETTERS = np.array([phrase[offset] for phrase, offset, _ in _PHRASES], np.uint8)
_BITS = np.array([bit for _, _, bit in _PHRASES])
_I_WITH_DOT, _KELVIN_SIGN = 0xC4, 0xE2  # their first bytes
_LOOK_AT = np.isin(np.arange(256), [*_LETTERS, *(_LETTERS - 32), _I_WITH_DOT, _KELVIN_SIGN])


@kernel()
def _phrase_at(data, start, position, end):  # type: ignore[no-untyped-def]
    """Return the bits of the phrases of data[start:end] whose letter stands at a position."""
    letter, found = data[position] | np.uint8(32), 0
    for phrase in range(len(_BITS)):
        first = position - _OFFSETS[phrase]
        if letter == _LETTERS[phrase] and first >= start:
            stands = stands_at(data, first, end, _BYTES, _STARTS[phrase], _STARTS[phrase + 1])
            found |= _BITS[phrase] if stands else 0
    return found


@kernel()
def _is_folded(data, position):  # type: ignore[no-untyped-def]
    """Return whether one of the two characters stands at a position: the Kelvin sign, or I with a dot above."""
    byte = data[position]
    if byte == _KELVIN_SIGN:
        return data[position + 1] == 0x84 and data[position + 2] == 0xAA
    return byte == _I_WITH_DOT and data[position + 1] == 0xB0


@kernel()
def _lower_folded(data, start, end):  # type: ignore[no-untyped-def]
    """Return data[start:end] with those two characters in lower case, and its length; two bytes of room follow."""
    folded, size, position = np.zeros(2 * (end - start) + 2, np.uint8), np.int64(0), start
    while position < end:
        if not _is_folded(data, position):
            folded[size], size, position = data[position], size + 1, position + 1
        elif data[position] == _KELVIN_SIGN:
            folded[size], size, position = ord("k"), size + 1, position + 3
        else:
            folded[size], folded[size + 1], folded[size + 2] = ord("i"), 0xCC, 0x87
            size, position = size + 3, position + 2
    return folded, size


@kernel()
def _scan(data, start, end):  # type: ignore[no-untyped-def]
    """Return the bits of the phrases in data[start:end], or -1 where one of the two characters stands there."""
    found = 0
    for position in range(start, end):
        if _LOOK_AT[data[position]]:
            if _is_folded(data, position):
                return -1
            found |= _phrase_at(data, start, position, end)
    return found


@kernel()
def find_phrases(data, start, end):  # type: ignore[no-untyped-def]
    """Return the bits of what stands in data[start:end]; two bytes behind it may be read."""
    found = _scan(data, start, end)
    if found < 0:
        folded, size = _lower_folded(data, start, end)
        found = _scan(folded, np.int64(0), size)
    return found
