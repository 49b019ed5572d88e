"""Order as arithmetic: permutations that their names alone determine; nothing here keeps a cursor."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray


def permutation(length: int, *name: str | int) -> NDArray[np.int64]:
    """Return a permutation of `range(length)` that its name alone determines.

    It sorts indices by a keyed hash of each (splitmix64's finaliser, Steele et al. 2014), so it depends on no generator
    of a library.
    """
    text = "\n".join(map(str, ("headrace permutation 1", *name)))
    key = np.uint64(int.from_bytes(sha256(text.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):
        mixed = np.arange(1, length + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.argsort(mixed, kind="stable")
