"""What the kernel must know by heart: exceptions, units of measure, and beginnings of sequences, in one hash table.

Keys are hashes of strings, salted by what they stand for. The table is open, a power of two large and at most a
quarter full; an empty slot has the key 0. Kernels are given it as arrays, because they can take nothing else fast.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.hashing import hash_bytes, join_hashes, scatter
from headrace.filters.kernels import kernel
from headrace.filters.words import EnglishTokenizer, english_tokenizer

ENTRY = np.dtype([("key", np.uint64), ("first", np.int32), ("count", np.int32)])
LONGEST_EXCEPTION, LONGEST_UNIT = 12, 5  # characters; the kernel looks no further
UNIT, PAIR = np.uint64(0x1B873593CC9E2D51), np.uint64(0x2545F4914F6CDD1D)  # salts; exceptions have none


class Lexicon(NamedTuple):
    """The table (of dtype ENTRY), and the bytes of each piece of each exception, from `first`, `count` of them."""

    entries: npt.NDArray[np.void]
    piece_bytes: npt.NDArray[np.int64]


@kernel(within=True)
def find_entry(entries, key):  # type: ignore[no-untyped-def]
    """Return the slot that holds a key, or -1."""
    mask = len(entries) - 1
    slot = scatter(key) & mask
    while entries[slot].key != 0:
        if entries[slot].key == key:
            return slot
        slot = (slot + 1) & mask
    return -1


@cache
def english_lexicon() -> Lexicon:
    """Return the process's lexicon."""
    return make_lexicon(english_tokenizer())


def make_lexicon(tokenizer: EnglishTokenizer) -> Lexicon:
    """Return the lexicon of a tokenizer.

    Raises:
        ValueError: the tokenizer's exceptions or units are longer than the kernel looks.
    """
    longest = max(map(len, tokenizer.exceptions)), max(map(len, tokenizer.units))
    if longest[0] > LONGEST_EXCEPTION or longest[1] > LONGEST_UNIT:
        raise ValueError(f"exceptions of {longest[0]} or units of {longest[1]} characters are longer than kernels see")
    lengths: list[int] = []
    found: dict[int, tuple[int, int]] = {}
    for text, pieces in tokenizer.exceptions.items():
        found[_hash(text)] = len(lengths), len(pieces)
        lengths += [len(piece.encode()) for piece in pieces]
    found |= dict.fromkeys(_other_keys(tokenizer), (0, 0))
    return Lexicon(_table(found), np.array(lengths, np.int64))


def _other_keys(tokenizer: EnglishTokenizer) -> Iterator[int]:
    for unit in tokenizer.units:
        yield _hash(unit) ^ int(UNIT)
    for first, second in tokenizer.sequence_beginnings:
        yield int(join_hashes(np.uint64(_hash(first)), np.uint64(_hash(second)))) ^ int(PAIR)


def _hash(text: str) -> int:
    data = np.frombuffer(text.encode(), np.uint8)
    return int(hash_bytes(data, 0, len(data)))


def _table(found: dict[int, tuple[int, int]]) -> npt.NDArray[np.void]:
    table = np.zeros(1 << (4 * len(found) + 1).bit_length(), ENTRY)
    for key, (first, count) in sorted(found.items()):
        slot = int(scatter(np.uint64(key))) % len(table)
        while table[slot]["key"]:
            slot = (slot + 1) % len(table)
        table[slot] = key, first, count
    return table


def number_words(words: Iterable[str]) -> npt.NDArray[np.void]:
    """Return a table (of dtype ENTRY) in which `first` of each word is its number."""
    return _table({_hash(word): (number, 1) for number, word in enumerate(words)})
