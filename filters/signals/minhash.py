"""MinHash signatures of word n-grams (Broder 1997), equal bit for bit to datatrove 0.10.1's `MinhashDedupSignature`.

A shingle is the xxh64 of n words of the simplified text, joined by spaces. Hash function i maps a shingle x to
`(a_i x + b_i mod 2^64) mod (2^61 - 1)`, with a and b drawn by numpy's RandomState from the seed; the signature holds
each function's minimum over all shingles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.normalize import normalize_resources, simplify_text
from headrace.filters.words import split_words, word_resources

Uint64s = npt.NDArray[np.uint64]

MERSENNE_PRIME = (1 << 61) - 1
_SHINGLES_AT_ONCE = 1024  # times 112 hashes of 8 bytes: small enough to stay in the cache


@register
@dataclass(frozen=True)
class MinHash:
    """A text's MinHash signature; the defaults are FineWeb's."""

    name: ClassVar[str] = "minhash"
    version: ClassVar[int] = 1

    n_grams: int = 5
    num_buckets: int = 14
    hashes_per_bucket: int = 8
    seed: int = 1

    @property
    def num_hashes(self) -> int:
        """The length of a signature."""
        return self.num_buckets * self.hashes_per_bucket

    @property
    def columns(self) -> tuple[Column, ...]:
        """The signature alone."""
        return (Column("signature", "hashes", f"{self.num_hashes} uint64 minima over word {self.n_grams}-grams"),)

    def resources(self) -> Mapping[str, str]:
        """Return what decides the simplified text and its words."""
        return {**word_resources(), **normalize_resources()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return signatures as little-endian bytes; a text of fewer words than an n-gram has none."""
        multipliers, offsets = permutations(self.num_hashes, self.seed)
        return by_column(self.columns, ((self._signature(text, multipliers, offsets),) for text in batch.texts))

    def _signature(self, text: str, multipliers: Uint64s, offsets: Uint64s) -> bytes | None:
        shingles = hash_shingles(split_words(simplify_text(text)), self.n_grams)
        if not len(shingles):
            return None
        return minimum_hashes(shingles, multipliers, offsets).astype("<u8").tobytes()


def permutations(num_hashes: int, seed: int) -> tuple[Uint64s, Uint64s]:
    """Return the multipliers and offsets of the hash functions, each of shape (num_hashes,)."""
    random = np.random.RandomState(seed)  # whose stream numpy has frozen
    multipliers = random.randint(1, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)
    return multipliers, random.randint(0, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)


def hash_shingles(words: Sequence[str], n: int) -> Uint64s:
    """Return the hashes of all runs of n words, in order."""
    from xxhash import xxh64_intdigest

    encoded = [word.encode() for word in words]
    runs = zip(*(encoded[start:] for start in range(n)), strict=False)
    return np.fromiter((xxh64_intdigest(b" ".join(run)) for run in runs), np.uint64)


def minimum_hashes(shingles: Uint64s, multipliers: Uint64s, offsets: Uint64s) -> Uint64s:
    """Return each hash function's minimum over the shingles (at least one)."""
    prime, bits = np.uint64(MERSENNE_PRIME), np.uint64(61)
    minima = np.full(len(multipliers), prime, dtype=np.uint64)
    shingles = np.unique(shingles)
    for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
        hashes = shingles[start : start + _SHINGLES_AT_ONCE, None] * multipliers + offsets
        hashes = (hashes & prime) + (hashes >> bits)  # congruent modulo the prime, and below twice the prime
        hashes = np.where(hashes >= prime, hashes - prime, hashes)
        minima = np.minimum(minima, hashes.min(axis=0))
    return minima
