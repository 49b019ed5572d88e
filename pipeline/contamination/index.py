"""The index of evaluation sets: their n-grams as hashes, and which items have each; as one file of arrays.

Items of fewer than `n` words are looked for whole if they have at least `min_words`; those with fewer cannot be looked
for, and are counted.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.filters.utf8 import Int64s, Uint8s, Utf8
from headrace.pipeline.contamination.items import Item

Uint64s = npt.NDArray[np.uint64]

_FILTER_BITS_PER_NGRAM = 16


@dataclass(frozen=True)
class Found:
    """N-grams in texts: number in the index, and the bytes of each text that they stand in; text i has some of them.

    Those of text i are `ngrams[first[i]:first[i + 1]]`.
    """

    ngrams: Int64s
    starts: Int64s
    ends: Int64s
    first: Int64s


@dataclass(frozen=True)
class EvaluationIndex:
    """N-grams by number, ascending by hash, and the items that have them.

    The items of n-gram i are `items[first[i]:first[i + 1]]`; `num_ngrams` is how many different ones each item has, 0
    if it cannot be looked for. Item numbers count through all sets; `benchmarks` and `names` say which one each is.
    """

    keys: Uint64s
    first: Int64s
    items: Int64s
    num_ngrams: Int64s
    benchmark: Int64s
    benchmarks: tuple[str, ...]
    names: tuple[str, ...]
    lengths: Int64s

    @classmethod
    def build(cls, items: Iterable[Item], n: int, min_words: int) -> "EvaluationIndex":
        """Index the items of all sets, in order."""
        benchmarks: dict[str, int] = {}
        names, numbers, owners, hashes, lengths = [], [], [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], {n}
        for number, item in enumerate(items):
            numbers.append(benchmarks.setdefault(item.benchmark, len(benchmarks)))
            names.append(item.name)
            found = [one for text in item.texts for one in _ngrams(text, n, min_words)]
            lengths.update(length for length, _ in found)
            own = np.unique(np.concatenate([np.zeros(0, np.uint64), *(ngrams for _, ngrams in found)]))
            hashes.append(own)
            owners.append(np.full(len(own), number))
        keys, inverse = np.unique(np.concatenate(hashes), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(inverse, minlength=len(keys)))])
        return cls(
            keys=keys,
            first=first.astype(np.int64),
            items=np.concatenate(owners)[order],
            num_ngrams=np.array([len(own) for own in hashes[1:]], np.int64),
            benchmark=np.array(numbers, np.int64),
            benchmarks=tuple(benchmarks),
            names=tuple(names),
            lengths=np.array(sorted(lengths), np.int64),
        )

    def to_bytes(self) -> bytes:
        """Return the index as a file of arrays, without pickles."""
        file = io.BytesIO()
        texts = {"benchmarks": np.array(self.benchmarks, np.str_), "names": np.array(self.names, np.str_)}
        numbers = ("keys", "first", "items", "num_ngrams", "benchmark", "lengths")
        np.savez(file, allow_pickle=False, **texts, **{name: getattr(self, name) for name in numbers})
        return file.getvalue()

    @classmethod
    def open(cls, path: Path) -> "EvaluationIndex":
        """Read the index from its file, once in a process."""
        return _open(path, path.stat().st_mtime_ns)

    @cached_property
    def _filter(self) -> Uint8s:
        """Bits by the lower bits of hashes, eight a byte, of which few are set."""
        size = 1 << max(10, int(_FILTER_BITS_PER_NGRAM * max(1, len(self.keys)) - 1).bit_length())
        flags = np.zeros(size, np.bool_)
        flags[self.keys & np.uint64(size - 1)] = True
        return np.packbits(flags, bitorder="little")

    def find(self, utf8: Utf8) -> Found:
        """Return the n-grams of the index that stand in some texts."""
        from headrace.filters.analysis.becoming import becoming
        from headrace.filters.analysis.ngrams import find_ngrams

        tables = becoming(utf8.data)
        found, until = find_ngrams(*utf8, self.lengths, self.keys, self._filter, *tables)
        return Found(found["ngram"], found["start"], found["end"], until)

    def items_of(self, ngram: int) -> Int64s:
        """Return the items that have an n-gram, ascending."""
        return self.items[self.first[ngram] : self.first[ngram + 1]]

    def items_with(self, ngrams: Int64s, weights: Int64s | None = None) -> tuple[Int64s, Int64s, Int64s]:
        """Return the items that have some of the n-grams (each given once), and what of each: found, and in all.

        Without weights every n-gram counts 1.
        """
        counts = self.first[ngrams + 1] - self.first[ngrams]
        places = np.repeat(self.first[ngrams] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        owners = self.items[places + np.arange(len(places))]
        worth = np.ones(len(ngrams), np.int64) if weights is None else weights[ngrams]
        items, inverse = np.unique(owners, return_inverse=True)
        found = np.zeros(len(items), np.int64)
        np.add.at(found, inverse, np.repeat(worth, counts))
        total = self.num_ngrams if weights is None else self.totals(weights)
        return items, found, total[items]

    def totals(self, weights: Int64s) -> Int64s:
        """Return the sum of the weights of each item's n-grams."""
        totals = np.zeros(len(self.names), np.int64)
        np.add.at(totals, self.items, np.repeat(weights, np.diff(self.first)))
        return totals


def _ngrams(text: str, n: int, min_words: int) -> list[tuple[int, Uint64s]]:
    """Return the n-grams of a text, or all of a shorter one, with their length; none if it is too short."""
    from headrace.filters.analysis.becoming import becoming
    from headrace.filters.analysis.ngrams import hash_ngrams, word_hashes

    data = np.frombuffer(text.encode(errors="replace"), np.uint8)
    tables = becoming(data)
    hashes, _, _ = word_hashes(data, np.int64(0), np.int64(len(data)), *tables)
    length = min(n, len(hashes))
    return [] if length < min(n, min_words) else [(length, hash_ngrams(hashes, length))]


@lru_cache(4)
def _open(path: Path, _: int) -> EvaluationIndex:
    with np.load(path, allow_pickle=False) as held:
        texts: dict[str, Sequence[str]] = {name: tuple(held[name].tolist()) for name in ("benchmarks", "names")}
        numbers = {name: held[name] for name in held.files if name not in texts}
    return EvaluationIndex(**numbers, **texts)  # type: ignore[arg-type]
