"""Hashes of byte strings that can be put together: `hash(a + b) = hash(a) * BASE^len(b) + hash(b)` modulo 2^64.

So the hash of a run of words follows from prefix sums, without reading its bytes again. Two different strings of one
document share a hash with a probability of about 2^-64, which is taken for equality; only strings built to collide
(Thue-Morse, of 1,024 characters or more) do more often.
"""

import numpy as np
import numpy.typing as npt

from headrace.filters.kernels import kernel

BASE = np.uint64(0x5851F42D4C957F2D)  # Knuth's multiplier for MMIX; odd, so that no byte is ever multiplied away
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)  # of rrmxmx by Evensen, for its avalanche with a shift by 32
_ONE = np.uint64(1)
_NUM_POWERS = 256


def _powers() -> npt.NDArray[np.uint64]:
    powers = [1]
    for _ in range(_NUM_POWERS - 1):
        powers.append(powers[-1] * int(BASE) % 2**64)
    return np.array(powers, np.uint64)


_POWERS = _powers()


@kernel(within=True)
def append_byte(value, byte):  # type: ignore[no-untyped-def]
    """Return the hash of a string with one more byte."""
    return value * BASE + np.uint64(byte) + _ONE


@kernel(within=True)
def read_number(data, position, num_bytes):  # type: ignore[no-untyped-def]
    """Return the little-endian number that some bytes hold."""
    value = np.uint64(0)
    for byte in range(num_bytes):
        value |= np.uint64(data[position + byte]) << np.uint64(8 * byte)
    return value


@kernel(within=True)
def read_eight(data, position):  # type: ignore[no-untyped-def]
    """Return eight bytes as a little-endian number, in one load: positions without a sign need no second look."""
    value, place = np.uint64(0), np.uint64(position)
    for byte in range(8):
        value |= np.uint64(data[place + np.uint64(byte)]) << np.uint64(8 * byte)
    return value


@kernel(within=True)
def write_eight(data, position, value):  # type: ignore[no-untyped-def]
    """Write a number as eight little-endian bytes, in one store."""
    place = np.uint64(position)
    for byte in range(8):
        data[place + np.uint64(byte)] = np.uint8(value >> np.uint64(8 * byte))


@kernel(within=True)
def write_number(data, position, value):  # type: ignore[no-untyped-def]
    """Write a number as eight little-endian bytes."""
    for byte in range(8):
        data[position + byte] = np.uint8(value >> np.uint64(8 * byte))


@kernel(within=True)
def digest_bytes(data, start, end):  # type: ignore[no-untyped-def]
    """Return a 64-bit digest of data[start:end], eight bytes at a time; digests cannot be put together."""
    value = np.uint64(end - start) * _GOLDEN
    while start + 8 <= end:
        value = (value ^ read_number(data, start, 8)) * _MULTIPLIER
        value ^= value >> np.uint64(32)
        start += 8
    return (value ^ read_number(data, start, end - start)) * _MULTIPLIER


@kernel(within=True)
def hash_bytes(data, start, end):  # type: ignore[no-untyped-def]
    """Return the hash of data[start:end]."""
    value = np.uint64(0)
    for position in range(start, end):
        value = append_byte(value, data[position])
    return value


@kernel(within=True)
def power(exponent):  # type: ignore[no-untyped-def]
    """Return BASE to a power, modulo 2^64."""
    if exponent < _NUM_POWERS:
        return _POWERS[exponent]
    result, factor, left = _ONE, BASE, exponent
    while left:
        if left & 1:
            result *= factor
        factor *= factor
        left >>= 1
    return result


@kernel(within=True)
def hash_between(before, until, num_bytes):  # type: ignore[no-untyped-def]
    """Return the hash of what lies between two prefixes of a string, by their hashes and the bytes between them."""
    return until - before * power(num_bytes)


@kernel(within=True)
def scatter(key):  # type: ignore[no-untyped-def]
    """Return a number whose low bits depend on all bits of a hash, for the choice of a slot."""
    mixed = (key ^ (key >> np.uint64(32))) * _GOLDEN
    return np.int64(mixed >> np.uint64(33))


@kernel(within=True)
def join_hashes(first, second):  # type: ignore[no-untyped-def]
    """Return one hash for two in order."""
    return ((first ^ (first >> np.uint64(29))) * _GOLDEN) + second


@kernel(within=True)
def as_key(value):  # type: ignore[no-untyped-def]
    """Return a hash as the key of a table, never 0.

    Short strings have hashes that differ in their lowest bits alone, so all bits are mixed (the finaliser of
    splitmix64, Steele et al. 2014) before one is given up.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (value ^ (value >> np.uint64(31))) | _ONE
