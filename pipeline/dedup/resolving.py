"""Resolving: from buckets to who survives, in one of the ways that a recipe can ask for."""

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from headrace.filters.lsh import band_keys, estimate_jaccard, mix
from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.candidates import Arranged, Int64s, ranks_of
from headrace.pipeline.dedup.entries import Hashes
from headrace.pipeline.dedup.pairs import Compared

Float64s = npt.NDArray[np.float64]
Uint64s = npt.NDArray[np.uint64]

Verify = Literal["none", "estimate", "jaccard"]

_AT_ONCE = 1 << 16
STANDARD_DEVIATIONS = 4
"""How far an estimate may be off before a pair is taken for what it looks like: 6 pairs in 100,000 are off by more."""


@dataclass(frozen=True)
class Resolved:
    """For each document, by its rank: the survivor that it is removed for (-1 if it survives) and their similarity.

    `num_crowded` documents survived that met a bucket with more survivors than are compared; `compared` are the pairs
    that were compared by their texts.
    """

    survivors: Int64s
    similarities: Float64s
    num_crowded: int = 0
    compared: Compared = field(default_factory=Compared.none)


class Similarities(Protocol):
    """Tells how similar pairs of documents are; `compared` are those that it was asked about, by content.

    `contents` are numbers by rank: documents of the same have the similarity 1.
    """

    contents: Int64s

    @property
    def compared(self) -> Compared:
        """Pairs of contents."""
        ...

    def of(self, pairs: Uint64s) -> Float64s:
        """Return the similarity of each pair, given as `rank of one << 32 | rank of the other`."""
        ...


def resolve_components(found: Buckets, candidates: Int64s, order: Int64s, signatures: Hashes) -> Resolved:
    """Keep the preferred document of each connected component, however unlike it the others are."""
    from headrace.filters.analysis.survivors import choose_by_components

    members = ranks_of(order)[np.searchsorted(candidates, found.members.astype(np.int64))]
    starts = np.concatenate([[0], np.cumsum(found.sizes, dtype=np.int64)])
    survivors = choose_by_components(members, starts, len(candidates))
    removed = np.flatnonzero(survivors >= 0)
    similarities = np.zeros(len(survivors))
    for some in np.array_split(removed, len(removed) // _AT_ONCE + 1):
        similarities[some] = estimate_jaccard(signatures[survivors[some]], signatures[some])
    return Resolved(survivors, similarities)


@dataclass(frozen=True)
class Resolver:
    """Keeps each document that resembles no preferred one.

    Args:
        arranged: The documents and their buckets.
        signatures: A row of hashes for each document, by rank.
        threshold: The least similarity of a document to the one that it is removed for.
        most: How many survivors of a bucket a document is compared with.
        num_down: The first so many documents survive nothing and are removed for nothing: they were taken down. Others
            are compared with all of them in their buckets, and found by a look-up if they are equal to one.
    """

    arranged: Arranged
    signatures: Hashes
    threshold: float
    most: int
    num_down: int

    def by_estimate(self) -> Resolved:
        """Resolve by the shares of equal hashes."""
        num_hashes, nothing = self.signatures.shape[1], (np.zeros(0, np.uint64), np.zeros(0))
        least = math.ceil(self.threshold * num_hashes - 1e-9)
        whole = band_keys(np.asarray(self.signatures), 1, num_hashes)[:, 0] if self.num_down else nothing[0]
        survivors, similarities, crowded, _ = self._choose((least, least), self._same_as_down(whole), nothing, True)
        return Resolved(survivors, similarities, crowded)

    def by_similarity(self, similarities: Similarities) -> Resolved:
        """Resolve as `similarities` tells of the pairs in question, each of which it is asked about once.

        A pair is in question if its estimate is not more than four standard deviations below the threshold. The
        documents are walked through until all pairs that have a say are known; each walk asks for those that it met.
        """
        num_hashes = self.signatures.shape[1]
        margin = STANDARD_DEVIATIONS * math.sqrt(self.threshold * (1 - self.threshold) / num_hashes)
        low, high = (self.threshold + sign * margin for sign in (-1, 1))
        likely = math.floor(low * num_hashes), math.ceil(high * num_hashes)
        known = np.zeros(0, np.uint64), np.zeros(0)
        same = self._same_as_down(similarities.contents.astype(np.uint64))
        while True:
            survivors, found, crowded, unknown = self._choose(likely, same, known, False)
            if not len(unknown):
                return Resolved(survivors, found, crowded, similarities.compared)
            keys, values = np.append(known[0], unknown), np.append(known[1], similarities.of(unknown))
            order = np.argsort(keys)
            known = keys[order], values[order]

    def _same_as_down(self, keys: Uint64s) -> Int64s:
        """Return for each document the first that was taken down of the same key and buckets, -1 where none was.

        Equal documents of one scope share all of their buckets, those of different scopes none.
        """
        if not self.num_down:
            return np.full(len(self.signatures), -1, np.int64)
        keys = mix(keys ^ mix(self.arranged.buckets[self.arranged.first[:-1]].astype(np.uint64)))
        down, first = np.unique(keys[: self.num_down], return_index=True)
        places = np.minimum(np.searchsorted(down, keys), len(down) - 1)
        return np.where(down[places] == keys, first[places], -1)

    def _choose(
        self, likely: tuple[int, int], same: Int64s, known: tuple[Uint64s, Float64s], estimate: bool
    ) -> tuple[Int64s, Float64s, int, Uint64s]:
        from headrace.filters.analysis.survivors import choose_survivors

        one, signatures = self.arranged, np.asarray(self.signatures)
        asked = likely, self.most, self.num_down, same, self.threshold if not estimate else 0.0
        survivors, similarities, crowded, unknown = choose_survivors(
            one.first, one.buckets, one.slots, signatures, *asked, *known, estimate
        )
        return survivors, similarities, int(crowded), unknown
