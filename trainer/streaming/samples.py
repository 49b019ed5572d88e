"""Samples by number: which row of which window of which source each is."""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from heapq import merge
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.errors import InputError
from headrace.trainer.streaming.fair import FairOrder
from headrace.trainer.streaming.source import Source

Int64s = NDArray[np.int64]

BLOCK = 4096
"""Samples that are found together."""


class Located(NamedTuple):
    """Some samples in order: of each the source, the number among `windows` of (source, window), and the row there."""

    sources: NDArray[np.int16]
    slots: Int64s
    rows: Int64s
    windows: Sequence[tuple[int, int]]


class Samples:
    """Finds samples of a plan, in blocks."""

    def __init__(self, order: FairOrder, sources: Sequence[Source]) -> None:
        self.order, self._sources = order, tuple(sources)
        self._block = lru_cache(4)(self._find_block)
        self._last: tuple[int, tuple[int, ...]] = (0, (0,) * len(self._sources))

    @property
    def end(self) -> int | None:
        """The number of samples, or None where there is no end."""
        return self.order.end

    def find(self, first: int, count: int) -> Located:
        """Return `count` samples from one on.

        Raises:
            InputError: the corpora may not be served so often.
        """
        number, begin = divmod(first, BLOCK)
        located = self._block(number)
        if begin + count <= len(located.rows):
            return _part(located, begin, begin + count)
        pieces = []
        while count:
            located = self._block(number)
            end = min(len(located.rows), begin + count)
            if end <= begin:
                raise InputError(
                    f"the corpora are used up after {self.end} rows: their max_epochs allow no more; raise them, or "
                    "train fewer steps"
                )
            pieces.append(_part(located, begin, end))
            count, number, begin = count - (end - begin), number + 1, 0
        return joined(pieces)

    def _find_block(self, number: int) -> Located:
        first = number * BLOCK
        known, served = self._last
        if known != number:
            served = self.order.rows_before(first)
        sources = self.order.next_samples(first, served, BLOCK)
        slots, rows = np.zeros(len(sources), np.int64), np.zeros(len(sources), np.int64)
        windows: list[tuple[int, int]] = []
        after = list(served)
        for source in range(len(self._sources)):
            places = np.flatnonzero(sources == source)
            begin = 0
            for stretch in self._sources[source].stretches(served[source], len(places)):
                mine = places[begin : begin + len(stretch.rows)]
                slots[mine], rows[mine] = len(windows), stretch.rows
                windows.append((source, stretch.window))
                begin += len(stretch.rows)
            after[source] += len(places)
        self._last = number + 1, tuple(after)
        return Located(sources, slots, rows, windows)

    def upcoming(self, number: int, among: Collection[int]) -> Iterator[tuple[int, int]]:
        """Yield the windows of some sources from a block on, without end, in the order that the block's shares lead to.

        Sources that do not serve in the block are left out.
        """
        counts = np.bincount(self._block(number).sources, minlength=len(self._sources))
        served = self.order.rows_before(number * BLOCK)

        def of(k: int) -> Iterator[tuple[float, int, int]]:
            return ((before / counts[k], k, window) for window, before in self._sources[k].windows_from(served[k]))

        yield from ((k, window) for _, k, window in merge(*(of(k) for k in among if counts[k])))

    def windows(self, number: int) -> list[tuple[int, int]]:
        """Return the windows that a block needs, in the order of their first use."""
        located = self._block(number)
        slots, places = np.unique(located.slots, return_index=True)
        return [located.windows[slot] for slot in slots[np.argsort(places)]]


def _part(located: Located, begin: int, end: int) -> Located:
    some = slice(begin, end)
    return Located(located.sources[some], located.slots[some], located.rows[some], located.windows)


def joined(pieces: Sequence[Located]) -> Located:
    """Return samples one after another."""
    if all(piece.windows is pieces[0].windows for piece in pieces):
        same = pieces[0].windows
        sources, slots, rows = (np.concatenate([piece[part] for piece in pieces]) for part in range(3))
        return Located(sources, slots, rows, same)
    windows: list[tuple[int, int]] = []
    moved: list[Int64s] = []
    for piece in pieces:
        moved.append(piece.slots + len(windows))
        windows += piece.windows
    sources, rows = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("sources", "rows"))
    return Located(sources, np.concatenate(moved), rows, windows)
