"""XXH64 and XXH32 of a range of bytes, by their specification (github.com/Cyan4973/xxHash), with seed 0.

Positions have no sign, so that eight bytes are one load.
"""

import numpy as np

from headrace.filters.analysis.hashing import read_eight
from headrace.filters.kernels import kernel

_P1, _P2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P3, _P4, _P5 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)
_Q1, _Q2, _Q3 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D)
_Q4, _Q5 = np.uint32(0x27D4EB2F), np.uint32(0x165667B1)


@kernel(within=True)
def _read_four(data, position):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for byte in range(4):
        value |= np.uint64(data[position + np.uint64(byte)]) << np.uint64(8 * byte)
    return value


@kernel(within=True)
def _rotate(value, bits):  # type: ignore[no-untyped-def]
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@kernel(within=True)
def _round(lane, value):  # type: ignore[no-untyped-def]
    return _rotate(lane + value * _P2, 31) * _P1


@kernel(within=True)
def _merge(value, lane):  # type: ignore[no-untyped-def]
    return (value ^ _round(np.uint64(0), lane)) * _P1 + _P4


@kernel(within=True)
def xxh64(data, start, end):  # type: ignore[no-untyped-def]
    """Return the XXH64 of data[start:end]."""
    position, stop = np.uint64(start), np.uint64(end)
    size, value = stop - position, _P5
    if size >= np.uint64(32):
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while position + np.uint64(32) <= stop:
            a = _round(a, read_eight(data, position))
            b = _round(b, read_eight(data, position + np.uint64(8)))
            c = _round(c, read_eight(data, position + np.uint64(16)))
            d = _round(d, read_eight(data, position + np.uint64(24)))
            position += np.uint64(32)
        value = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        value = _merge(_merge(_merge(_merge(value, a), b), c), d)
    value += size
    while position + np.uint64(8) <= stop:
        value = _rotate(value ^ _round(np.uint64(0), read_eight(data, position)), 27) * _P1 + _P4
        position += np.uint64(8)
    if position + np.uint64(4) <= stop:
        value = _rotate(value ^ (_read_four(data, position) * _P1), 23) * _P2 + _P3
        position += np.uint64(4)
    while position < stop:
        value = _rotate(value ^ (np.uint64(data[position]) * _P5), 11) * _P1
        position += np.uint64(1)
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


@kernel(within=True)
def _times(value, factor):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint64(value) * np.uint64(factor))


@kernel(within=True)
def _plus(value, other):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint64(value) + np.uint64(other))


@kernel(within=True)
def _rotate_32(value, bits):  # type: ignore[no-untyped-def]
    return np.uint32((np.uint64(value) << np.uint64(bits)) | (np.uint64(value) >> np.uint64(32 - bits)))


@kernel(within=True)
def _round_32(lane, value):  # type: ignore[no-untyped-def]
    return _times(_rotate_32(_plus(lane, _times(value, _Q2)), 13), _Q1)


@kernel(within=True)
def xxh32(data, start, end):  # type: ignore[no-untyped-def]
    """Return the XXH32 of data[start:end]."""
    position, stop = np.uint64(start), np.uint64(end)
    size, value = stop - position, _Q5
    if size >= np.uint64(16):
        a, b, c, d = _plus(_Q1, _Q2), _Q2, np.uint32(0), np.uint32(np.uint64(1 << 32) - np.uint64(_Q1))
        while position + np.uint64(16) <= stop:
            a = _round_32(a, np.uint32(_read_four(data, position)))
            b = _round_32(b, np.uint32(_read_four(data, position + np.uint64(4))))
            c = _round_32(c, np.uint32(_read_four(data, position + np.uint64(8))))
            d = _round_32(d, np.uint32(_read_four(data, position + np.uint64(12))))
            position += np.uint64(16)
        value = _plus(_plus(_rotate_32(a, 1), _rotate_32(b, 7)), _plus(_rotate_32(c, 12), _rotate_32(d, 18)))
    value = _plus(value, np.uint32(size))
    while position + np.uint64(4) <= stop:
        value = _times(_rotate_32(_plus(value, _times(np.uint32(_read_four(data, position)), _Q3)), 17), _Q4)
        position += np.uint64(4)
    while position < stop:
        value = _times(_rotate_32(_plus(value, _times(np.uint32(data[position]), _Q5)), 11), _Q1)
        position += np.uint64(1)
    value = _times(value ^ (value >> np.uint32(15)), _Q2)
    value = _times(value ^ (value >> np.uint32(13)), _Q3)
    return value ^ (value >> np.uint32(16))
