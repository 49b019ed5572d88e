"""MinHash signatures of n-grams (Broder 1997), equal bit for bit to datatrove 0.10.1's or to datasketch 2.0's.

A shingle is n words of the simplified text (`filters.normalize`) joined by one space, or n of its characters; the words
are those of the kernel, or with `words = "spacy"` spaCy's own. It is hashed by XXH64 (XXH32 with 32 bits) or by the
first bytes of SHA-1. The signature holds the minimum of each hash function over all shingles. Functions come in two
families:

- `datatrove`: `(a x + b mod 2^64) mod (2^61 - 1)`, of which 32 bits are the lower ones; as `MinhashDedupSignature`.
- `datasketch`: `a mix(x) + b mod 2^bits` with odd a, as `MinHash` in its schemes `affine32` and `affine64`.

Both draw a and b by numpy's RandomState from the seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import regex
from xxhash import xxh3_128_digest

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.normalize import normalize_resources, simplify_text
from headrace.filters.pieces import iter_pieces
from headrace.filters.utf8 import Utf8
from headrace.filters.words import Words, word_resources

if TYPE_CHECKING:
    from headrace.filters.analysis.simplified import JoinedWords

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.unsignedinteger[Any]]

Family = Literal["datatrove", "datasketch"]

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
    shingles: Literal["words", "characters"] = "words"
    bits: Literal[32, 64] = 64
    family: Family = "datatrove"
    hash_function: Literal["xxhash", "sha1"] = "xxhash"

    def __post_init__(self) -> None:
        """Refuse what makes no signature."""
        for option in ("n_grams", "num_buckets", "hashes_per_bucket"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} is {getattr(self, option)}; it must be 1 or more")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {(1 << 32) - 1}")

    @property
    def num_hashes(self) -> int:
        """The length of a signature."""
        return self.num_buckets * self.hashes_per_bucket

    @property
    def columns(self) -> tuple[Column, ...]:
        """The signature, and what tells whether two texts have the same shingles."""
        unit = self.shingles.removesuffix("s")
        return (
            Column("signature", "hashes", f"{self.num_hashes} uint{self.bits} minima over {unit} {self.n_grams}-grams"),
            Column("content", "hashes", "128 bits of the words, XXH3: equal where all words are"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides the simplified text and its words."""
        return {**word_resources(self.words), **normalize_resources()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return hashes as little-endian bytes; a text without a single n-gram has none."""
        signatures: list[bytes | None] = [None] * len(batch)
        contents: list[bytes | None] = [None] * len(batch)
        for texts, joined in self._joined(batch):
            shingles, first = self._hashed(joined)
            minima = self._minima(shingles, first).view(np.uint8)
            there = np.flatnonzero(np.diff(first))
            starts, ends = joined.starts[there].tolist(), joined.ends[joined.first[there + 1] - 1].tolist()
            lines, data = minima.tobytes(), joined.data.data
            size = minima.shape[1]
            for place, start, end in zip(there.tolist(), starts, ends, strict=True):
                text = texts[place]
                signatures[text] = lines[place * size : (place + 1) * size]
                contents[text] = xxh3_128_digest(data[start:end])
        return {"signature": signatures, "content": contents}

    def shingle_options(self) -> Mapping[str, Any]:
        """Return the options that decide what a text's shingles are."""
        names = ("n_grams", "words", "shingles", "bits", "hash_function")
        return {name: getattr(self, name) for name in names}

    def shingle_sets(self, batch: TextBatch) -> tuple[Uint64s, Int64s]:
        """Return each text's distinct shingles as ascending hashes, end to end, and where each text's begin."""
        sets = [np.zeros(0, np.uint64)] * len(batch)
        for texts, joined in self._joined(batch):
            shingles, first = self._hashed(joined)
            for place, text in enumerate(texts):
                if not joined.unsure[place]:
                    sets[text] = np.unique(shingles[first[place] : first[place + 1]]).astype(np.uint64)
        return np.concatenate([np.zeros(0, np.uint64), *sets]), np.cumsum([0, *map(len, sets)], dtype=np.int64)

    def _joined(self, batch: TextBatch) -> Iterator[tuple[Sequence[int], "JoinedWords"]]:
        """Yield the words of some texts, until they are those of all; a text that is unsure comes again."""
        from headrace.filters.analysis.simplified import joined_words, simplified_words

        if self.words == "spacy":
            yield range(len(batch)), joined_words([simplify_in_pieces(text) for text in batch.texts], self.words)
            return
        found = simplified_words(batch.utf8)
        yield range(len(batch)), found
        unsure = np.flatnonzero(found.unsure).tolist()
        if unsure:
            yield unsure, joined_words([simplify_in_pieces(text) for text in _texts(batch.utf8, unsure)], self.words)

    def _hashed(self, joined: "JoinedWords") -> tuple[Hashes, Int64s]:
        """Return the hash of each shingle of each text, in order, and where each text's begin."""
        from headrace.filters.analysis.shingles import (
            character_ends,
            hash_shingles_32,
            hash_shingles_64,
            num_shingles,
        )

        ends, first = joined.ends, joined.first
        if self.shingles == "characters":
            ends, first = character_ends(*joined[:4])
        units = joined.data, joined.starts, ends, first, self.n_grams, 1 if self.shingles == "words" else 0
        if self.hash_function == "sha1":
            return _hash_by_sha1(*units, self.bits), num_shingles(first, self.n_grams)
        hashed = hash_shingles_64 if self.bits == 64 else hash_shingles_32
        return hashed(*units), num_shingles(first, self.n_grams)

    def _minima(self, shingles: Hashes, first: Int64s) -> Hashes:
        from headrace.filters.analysis import minima

        functions: Mapping[tuple[Family, int], Any] = {
            ("datatrove", 64): minima.minima_mersenne,
            ("datatrove", 32): minima.minima_mersenne_32,
            ("datasketch", 64): minima.minima_affine_64,
            ("datasketch", 32): minima.minima_affine_32,
        }
        found: Hashes = functions[self.family, self.bits](shingles, first, *self._functions())
        return found

    def _functions(self) -> tuple[Hashes, Hashes]:
        if self.family == "datatrove":
            return permutations(self.num_hashes, self.seed)
        return affine_permutations(self.num_hashes, self.seed, self.bits)


def simplify_in_pieces(text: str) -> str:
    """Return a text whose words are those of the simplified text; a large one is made in pieces, to save memory.

    Pieces end where simplifying puts a space and looks across nothing: a number may go on behind a separator, and which
    sigma is a word's last is told from behind dots and apostrophes.
    """
    return " ".join(map(simplify_text, iter_pieces(text, _END_OF_PIECE)))


def permutations(num_hashes: int, seed: int) -> tuple[Uint64s, Uint64s]:
    """Return the multipliers and offsets of datatrove's hash functions, each of shape (num_hashes,)."""
    random = np.random.RandomState(seed)  # whose stream numpy has frozen
    multipliers = random.randint(1, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)
    return multipliers, random.randint(0, MERSENNE_PRIME, dtype=np.uint64, size=num_hashes)


def affine_permutations(num_hashes: int, seed: int, bits: int) -> tuple[Hashes, Hashes]:
    """Return the multipliers, all odd, and offsets of datasketch's hash functions, each of shape (num_hashes,)."""
    random, dtype = np.random.RandomState(seed), np.uint32 if bits == 32 else np.uint64
    multipliers = random.randint(0, 1 << (bits - 1), num_hashes, dtype=dtype) * dtype(2) + dtype(1)
    return multipliers, random.randint(0, 1 << bits, num_hashes, dtype=dtype)


def _hash_by_sha1(  # as the compatible modes of both libraries do
    data: npt.NDArray[np.uint8], starts: Int64s, ends: Int64s, first: Int64s, n: int, gap: int, bits: int
) -> Hashes:
    """Return the first bytes of the SHA-1 of each shingle of each text, as a little-endian number."""
    held, num_bytes, hashes = data.tobytes(), bits // 8, []
    for text, start in enumerate(starts.tolist()):
        for unit in range(int(first[text]), int(first[text + 1]) - n + 1):
            hashes.append(sha1(held[start : int(ends[unit + n - 1])], usedforsecurity=False).digest()[:num_bytes])
            start = int(ends[unit]) + gap
    return np.frombuffer(b"".join(hashes), f"<u{num_bytes}")


def _texts(utf8: Utf8, numbers: Sequence[int]) -> Iterator[str]:
    for number in numbers:
        yield utf8.data[utf8.offsets[number] : utf8.offsets[number + 1]].tobytes().decode()
