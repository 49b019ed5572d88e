"""Many words looked for inside many short texts: a table of first letters tells where it is worth to look.

The first `k` letters of each word, `k` at most the shortest word's length and 8, are one integer; so are the `k`
letters that begin at each place of all texts laid end to end. A small table of hashes says which of those places may
begin a word, and only texts with such a place are searched (a q-gram filter). Time is linear in the texts, whatever
they hold.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

_TABLE_BITS = 18
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)
_WINDOW = 8


class Subwords:
    """Words of ASCII letters and digits; none of them is empty."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = tuple(sorted(set(words)))
        letters = min((len(word) for word in self._words), default=1)
        self._mask = np.uint64((1 << 8 * min(letters, _WINDOW)) - 1)
        starts = [int.from_bytes(word.encode("ascii")[:_WINDOW], "little") for word in self._words]
        self._table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self._table[self._slots(np.array(starts, dtype=np.uint64))] = True

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many distinct words each text of ASCII characters has in it."""
        counts = [0] * len(texts)
        for number in self._candidates(texts):
            counts[number] = sum(word in texts[number] for word in self._words)
        return counts

    def _candidates(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of the texts that may have a word in them."""
        data = "".join(texts).encode("ascii")
        if not data or not self._words:
            return []
        padded = data + bytes(_WINDOW)
        windows = np.ndarray(len(data), dtype="<u8", buffer=padded, strides=(1,))
        places = np.flatnonzero(self._table[self._slots(windows)])
        ends = np.cumsum([len(text) for text in texts])
        return [int(number) for number in np.unique(np.searchsorted(ends, places, side="right"))]

    def _slots(self, starts: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        return ((starts & self._mask) * _FIBONACCI) >> np.uint64(64 - _TABLE_BITS)
