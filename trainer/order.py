"""Order as arithmetic: keyed permutations, and which source serves sample n.

Nothing here keeps a cursor. A permutation sorts indices by a keyed hash of each (splitmix64's finaliser, Steele et al.
2014), so it depends on its name and length alone and on no generator of a library. A mixture spreads each source evenly
over the samples by Beatty sequences: of the first n samples, floor(n w) belong to a source of share w.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

_UNIT = 1 << 32


def permutation(length: int, *name: str | int) -> NDArray[np.int64]:
    """Return a permutation of `range(length)` that its name alone determines."""
    text = "\n".join(map(str, ("headrace permutation 1", *name)))
    key = np.uint64(int.from_bytes(sha256(text.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):
        mixed = np.arange(1, length + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.argsort(mixed, kind="stable")


@dataclass(frozen=True)
class Mixture:
    """Shares of sources as integers, so that the choice is exact at any sample number."""

    shares: tuple[int, ...]

    @classmethod
    def of(cls, weights: Sequence[float]) -> "Mixture":
        """Make a mixture from weights, which need not add up to one."""
        total = sum(weights)
        return cls(tuple(max(1, round(weight / total * _UNIT)) for weight in weights))

    def locate(self, sample: int) -> tuple[int, int]:
        """Return which source serves a sample, and how many samples of that source come before it.

        One source after another is split off the rest: of `sample` samples among the sources from k on,
        floor(sample * share_k / sum of their shares) are source k's.
        """
        for source, share in enumerate(self.shares[:-1]):
            left = sum(self.shares[source:])
            before, after = sample * share // left, (sample + 1) * share // left
            if after > before:
                return source, before
            sample -= before
        return len(self.shares) - 1, sample
