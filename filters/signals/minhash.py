"""MinHash signatures of word n-grams (Broder 1997), equal bit for bit to datatrove 0.10.1's `MinhashDedupSignature`.

A shingle is the xxh64 of n words of the simplified text, joined by spaces. Hash function i maps a shingle x to
`(a_i x + b_i mod 2^64) mod (2^61 - 1)`, with a and b drawn by numpy's RandomState from the seed; the signature holds
each function's minimum over all shingles. The words are those of the kernel, or with `words = "spacy"` spaCy's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import regex
from xxhash import xxh3_128_digest

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.normalize import normalize_resources, simplify_text
from headrace.filters.pieces import iter_pieces
from headrace.filters.utf8 import Utf8
from headrace.filters.words import Words, word_resources

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

MERSENNE_PRIME = (1 << 61) - 1
_END_OF_PIECE = regex.compile(r'\s|(?<!\p{Nd})[,;!?()/+*=<>|"\uff0c\u3002\u3001\uff1b\uff01\uff1f]')


@register
@dataclass(frozen=True)
class MinHash:
    """A text's MinHash signature; the defaults are FineWeb's."""

    name: ClassVar[str] = "minhash"
    version: ClassVar[int] = 2

    n_grams: int = 5
    num_buckets: int = 14
    hashes_per_bucket: int = 8
    seed: int = 1
    words: Words = "english"

    @property
    def num_hashes(self) -> int:
        """The length of a signature."""
        return self.num_buckets * self.hashes_per_bucket

    @property
    def columns(self) -> tuple[Column, ...]:
        """The signature, and what tells whether two texts have the same shingles."""
        return (
            Column("signature", "hashes", f"{self.num_hashes} uint64 minima over word {self.n_grams}-grams"),
            Column("content", "hashes", "two uint64, equal where the words are: 128 bits of the shingles in order"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides the simplified text and its words."""
        return {**word_resources(self.words), **normalize_resources()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return hashes as little-endian bytes; a text of fewer words than an n-gram has none."""
        from headrace.filters.analysis.shingles import minimum_hashes

        functions = permutations(self.num_hashes, self.seed)
        signatures: list[bytes | None] = []
        contents: list[bytes | None] = []
        for shingles in self._shingles(batch):
            minima = minimum_hashes(shingles, *functions)
            signatures.append(minima.astype("<u8").tobytes() if len(shingles) else None)
            contents.append(xxh3_128_digest(shingles.tobytes()) if len(shingles) else None)
        return {"signature": signatures, "content": contents}

    def shingle_options(self) -> Mapping[str, Any]:
        """Return the options that decide what a text's shingles are."""
        return {"n_grams": self.n_grams, "words": self.words}

    def shingle_sets(self, batch: TextBatch) -> tuple[Uint64s, Int64s]:
        """Return each text's distinct shingles as ascending hashes, end to end, and where each text's begin."""
        sets = [np.unique(shingles) for shingles in self._shingles(batch)]
        offsets = np.cumsum([0, *map(len, sets)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.uint64), *sets]), offsets

    def _shingles(self, batch: TextBatch) -> Iterator[Uint64s]:
        """Yield the hashes of each text's shingles, in order."""
        from headrace.filters.analysis.shingles import hash_shingles
        from headrace.filters.analysis.splitters import cut_by

        utf8 = Utf8.of([simplify_in_pieces(text) for text in batch.texts])
        words, first = cut_by(self.words, *utf8)
        for start, end in pairwise(first.tolist()):
            yield hash_shingles(utf8.data, words, start, end, self.n_grams)


def simplify_in_pieces(text: str) -> str:
    """Return a text whose words are those of the simplified text; a large one is made in pieces, to save memory.

    Pieces end where simplifying puts a space and looks across nothing: a number may go on behind a separator, and which
    sigma is a word's last is told from behind dots and apostrophes.
    """
    return " ".join(map(simplify_text, iter_pieces(text, _END_OF_PIECE)))


def permutations(num_hashes: int, seed: int) -> tuple[Uint64s, Uint64s]:
    """Return the multipliers and offsets of the hash functions, each of shape (num_hashes,)."""
    random = np.random.RandomState(seed)  # whose stream numpy has frozen
    multipliers = random.randint(1, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)
    return multipliers, random.randint(0, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)
