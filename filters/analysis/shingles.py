"""Shingles of words and their MinHash: XXH64 of n words joined by spaces, and minima of random linear functions.

XXH64 follows its specification (github.com/Cyan4973/xxHash, seed 0). Hash function i maps a shingle x to
`(a_i x + b_i mod 2^64) mod (2^61 - 1)`, as datatrove 0.10.1 computes it.
"""

import numpy as np

from headrace.filters.analysis.hashing import read_number
from headrace.filters.kernels import kernel

MERSENNE_PRIME = np.uint64((1 << 61) - 1)
_PRIME_1, _PRIME_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3, _PRIME_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_PRIME_5 = np.uint64(0x27D4EB2F165667C5)
_SPACE = ord(" ")


@kernel(within=True)
def _rotate(value, bits):  # type: ignore[no-untyped-def]
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@kernel(within=True)
def _round(lane, value):  # type: ignore[no-untyped-def]
    return _rotate(lane + value * _PRIME_2, 31) * _PRIME_1


@kernel()
def _hash_stripes(data, size):  # type: ignore[no-untyped-def]
    """Return what whole stripes of 32 bytes come to."""
    a, b, c, d = _PRIME_1 + _PRIME_2, _PRIME_2, np.uint64(0), np.uint64(0) - _PRIME_1
    for position in range(0, size - 31, 32):
        a = _round(a, read_number(data, position, 8))
        b = _round(b, read_number(data, position + 8, 8))
        c = _round(c, read_number(data, position + 16, 8))
        d = _round(d, read_number(data, position + 24, 8))
    value = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
    for lane in (a, b, c, d):
        value = (value ^ _round(np.uint64(0), lane)) * _PRIME_1 + _PRIME_4
    return value


@kernel()
def xxh64(data, size):  # type: ignore[no-untyped-def]
    """Return the XXH64 of data[:size]."""
    value = (_hash_stripes(data, size) if size >= 32 else _PRIME_5) + np.uint64(size)
    position = size - size % 32
    while position + 8 <= size:
        value = _rotate(value ^ _round(np.uint64(0), read_number(data, position, 8)), 27) * _PRIME_1 + _PRIME_4
        position += 8
    if position + 4 <= size:
        value = _rotate(value ^ (read_number(data, position, 4) * _PRIME_1), 23) * _PRIME_2 + _PRIME_3
        position += 4
    while position < size:
        value = _rotate(value ^ (np.uint64(data[position]) * _PRIME_5), 11) * _PRIME_1
        position += 1
    value = (value ^ (value >> np.uint64(33))) * _PRIME_2
    value = (value ^ (value >> np.uint64(29))) * _PRIME_3
    return value ^ (value >> np.uint64(32))


@kernel()
def hash_shingles(data, words, first, end, n):  # type: ignore[no-untyped-def]
    """Return the XXH64 of each run of n of the words [first, end), joined by spaces, in order."""
    hashes = np.empty(max(end - first - n + 1, 0), np.uint64)
    joined = np.empty(256, np.uint8)
    for start in range(first, end - n + 1):
        size = n - 1
        for word in range(start, start + n):
            size += np.int64(words[word].num_bytes)
        if size > len(joined):
            joined = np.empty(2 * size, np.uint8)
        size = 0
        for word in range(start, start + n):
            if size:
                joined[size] = _SPACE
                size += 1
            stop = np.int64(words[word].end)
            for position in range(stop - np.int64(words[word].num_bytes), stop):
                joined[size] = data[position]
                size += 1
        hashes[start - first] = xxh64(joined, size)
    return hashes


@kernel()
def minimum_hashes(shingles, multipliers, offsets):  # type: ignore[no-untyped-def]
    """Return each hash function's minimum over the shingles (2^61 - 1 if there is none)."""
    minima = np.full(len(multipliers), MERSENNE_PRIME, np.uint64)
    for shingle in shingles:
        for function in range(len(multipliers)):
            value = shingle * multipliers[function] + offsets[function]
            value = (value & MERSENNE_PRIME) + (value >> np.uint64(61))  # congruent, and below twice the prime
            value = value - MERSENNE_PRIME if value >= MERSENNE_PRIME else value
            minima[function] = min(minima[function], value)
    return minima
