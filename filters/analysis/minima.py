"""Minima of hash functions over the shingles of each text, one row a text; without shingles the largest value there is.

The functions are those of two libraries. Four shingles are done at once, so that a function's parameters are loaded
once for four; the loop over functions has no branch, and is compiled to vector instructions.
"""

import numpy as np

from headrace.filters.kernels import kernel

MERSENNE_PRIME = np.uint64((1 << 61) - 1)
_SHIFT, _LOW_32 = np.uint64(61), np.uint64(0xFFFFFFFF)
_LARGEST_32, _LARGEST_64 = np.uint32(0xFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel(within=True)
def _modulo_prime(value):  # type: ignore[no-untyped-def]
    value = (value & MERSENNE_PRIME) + (value >> _SHIFT)  # congruent, and below twice the prime
    return min(value, value - MERSENNE_PRIME)  # which wraps to a large number where there is nothing to take off


@kernel()
def minima_mersenne(shingles, first, multipliers, offsets):  # type: ignore[no-untyped-def]
    """Return minima of `(a x + b mod 2^64) mod (2^61 - 1)`, as datatrove 0.10.1 has them."""
    minima = np.full((len(first) - 1, len(multipliers)), MERSENNE_PRIME, np.uint64)
    for text in range(len(minima)):
        row = minima[text]
        whole = first[text] + (first[text + 1] - first[text]) // 4 * 4
        for number in range(first[text], whole, 4):
            w, x, y, z = shingles[number], shingles[number + 1], shingles[number + 2], shingles[number + 3]
            for function in range(len(multipliers)):
                a, b = multipliers[function], offsets[function]
                one = min(_modulo_prime(w * a + b), _modulo_prime(x * a + b))
                other = min(_modulo_prime(y * a + b), _modulo_prime(z * a + b))
                row[function] = min(row[function], min(one, other))
        for number in range(whole, first[text + 1]):
            for function in range(len(multipliers)):
                value = _modulo_prime(shingles[number] * multipliers[function] + offsets[function])
                row[function] = min(row[function], value)
    return minima


@kernel()
def minima_mersenne_32(shingles, first, multipliers, offsets):  # type: ignore[no-untyped-def]
    """Return minima of the lower 32 bits of the same values, for shingles of 32 bits."""
    minima = np.full((len(first) - 1, len(multipliers)), _LARGEST_32, np.uint32)
    for text in range(len(minima)):
        for number in range(first[text], first[text + 1]):
            shingle = np.uint64(shingles[number])
            for function in range(len(multipliers)):
                value = _modulo_prime(shingle * multipliers[function] + offsets[function]) & _LOW_32
                minima[text, function] = min(minima[text, function], np.uint32(value))
    return minima


@kernel(within=True)
def _affine_32(shingle, multiplier, offset):  # type: ignore[no-untyped-def]
    return np.uint32(shingle * multiplier + offset)


@kernel()
def minima_affine_32(shingles, first, multipliers, offsets):  # type: ignore[no-untyped-def]
    """Return minima of `a mix(x) + b mod 2^32`, as datasketch's `affine32` has them; mix is MurmurHash3's last step."""
    minima = np.full((len(first) - 1, len(multipliers)), _LARGEST_32, np.uint32)
    mixed = np.empty(len(shingles), np.uint32)
    for number in range(len(shingles)):
        value = np.uint64(shingles[number])
        value = ((value ^ (value >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & _LOW_32
        value = ((value ^ (value >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & _LOW_32
        mixed[number] = value ^ (value >> np.uint64(16))
    for text in range(len(minima)):
        row = minima[text]
        whole = first[text] + (first[text + 1] - first[text]) // 4 * 4
        for number in range(first[text], whole, 4):
            w, x, y, z = mixed[number], mixed[number + 1], mixed[number + 2], mixed[number + 3]
            for function in range(len(multipliers)):
                a, b = multipliers[function], offsets[function]
                one, two = _affine_32(w, a, b), _affine_32(x, a, b)
                three, four = _affine_32(y, a, b), _affine_32(z, a, b)
                one, three = (min(two, one)), (min(four, three))
                one = min(three, one)
                row[function] = min(row[function], one)
        for number in range(whole, first[text + 1]):
            for function in range(len(multipliers)):
                value = _affine_32(mixed[number], multipliers[function], offsets[function])
                row[function] = min(row[function], value)
    return minima


@kernel()
def minima_affine_64(shingles, first, multipliers, offsets):  # type: ignore[no-untyped-def]
    """Return minima of `a mix(x) + b mod 2^64`, as datasketch's `affine64` has them; mix is MurmurHash3's last step."""
    minima = np.full((len(first) - 1, len(multipliers)), _LARGEST_64, np.uint64)
    for text in range(len(minima)):
        row = minima[text]
        for number in range(first[text], first[text + 1]):
            value = shingles[number]
            value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
            value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
            value ^= value >> np.uint64(33)
            for function in range(len(multipliers)):
                row[function] = min(row[function], value * multipliers[function] + offsets[function])
    return minima
