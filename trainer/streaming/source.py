"""A source: one corpus as an endless, permuted line of rows."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.streaming.permutation import permutation

Int64s = NDArray[np.int64]


class Windows(Protocol):
    """The storage windows of a corpus, by number."""

    @property
    def num_rows(self) -> Int64s:
        """Rows of each window."""
        ...

    @property
    def num_positions(self) -> Int64s:
        """Positions of each window that are no padding."""
        ...

    def fills(self, number: int) -> Int64s:
        """Return the positions of each row of a window that are no padding."""
        ...


class _Epoch(NamedTuple):
    """Windows in their order, and how many rows and positions end with each."""

    windows: Int64s
    row_ends: Int64s
    position_ends: Int64s


class Stretch(NamedTuple):
    """Rows of one window, in the order in which they are served."""

    window: int
    rows: Int64s


class Source:
    """The rows of all windows, epoch after epoch, each in an order of its own (`fair.Clock`).

    In epoch `e` the windows, and the rows within each, are permuted by name: (seed, source, epoch, window).
    """

    def __init__(self, number: int, windows: Windows, seed: int) -> None:
        self._name, self._windows = (seed, number), windows
        self.num_rows, self.num_positions = int(windows.num_rows.sum()), int(windows.num_positions.sum())
        self._epoch = lru_cache(2)(self._epoch_order)
        self._permuted = lru_cache(8)(self._permuted_rows)
        self._rows = lru_cache(8)(self._row_order)

    def _epoch_order(self, epoch: int) -> _Epoch:
        windows = permutation(len(self._windows.num_rows), "windows", *self._name, epoch)
        ends = (np.cumsum(counts[windows]) for counts in (self._windows.num_rows, self._windows.num_positions))
        return _Epoch(windows, *ends)

    def _permuted_rows(self, epoch: int, window: int) -> Int64s:
        return permutation(int(self._windows.num_rows[window]), "rows", *self._name, epoch, window)

    def _row_order(self, epoch: int, window: int) -> tuple[Int64s, Int64s]:
        """Return the rows of a window as they are served, and how many positions come before each, and in all."""
        rows = self._permuted(epoch, window)
        return rows, np.concatenate([np.zeros(1, np.int64), np.cumsum(self._windows.fills(window)[rows])])

    def clock(self, row: int) -> int:
        """Return how many positions come before a row."""
        epoch, inside = divmod(row, self.num_rows)
        order = self._epoch(epoch)
        place = int(np.searchsorted(order.row_ends, inside, side="right"))
        first_row, first_position = _before(order.row_ends, place), _before(order.position_ends, place)
        within = 0
        if inside > first_row:
            within = int(self._row_order_of(order, epoch, place)[1][inside - first_row])
        return epoch * self.num_positions + first_position + within

    def starts(self, first: int, count: int) -> Int64s:
        """Return the positions before each of `count` rows, counted from the first of them."""
        pieces, base = [], 0
        epoch, inside = divmod(first, self.num_rows)
        while count:
            order = self._epoch(epoch)
            place = int(np.searchsorted(order.row_ends, inside, side="right"))
            begin = inside - _before(order.row_ends, place)
            ends = self._row_order_of(order, epoch, place)[1]
            taken = min(count, len(ends) - 1 - begin)
            pieces.append(ends[begin : begin + taken] - ends[begin] + base)
            base += int(ends[begin + taken] - ends[begin])
            count, inside = count - taken, inside + taken
            if inside == self.num_rows:
                epoch, inside = epoch + 1, 0
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def rank(self, position: int) -> int:
        """Return how many rows begin at a position or before it."""
        epoch, inside = divmod(position, self.num_positions)
        order = self._epoch(epoch)
        place = int(np.searchsorted(order.position_ends, inside, side="right"))
        ends = self._row_order_of(order, epoch, place)[1]
        within = np.searchsorted(ends[:-1], inside - _before(order.position_ends, place), side="right")
        return epoch * self.num_rows + _before(order.row_ends, place) + int(within)

    def rank_bounds(self, position: int) -> tuple[int, int]:
        """Return numbers between which `rank` is: the rows before the window that a position is in, and with it."""
        epoch, inside = divmod(position, self.num_positions)
        order = self._epoch(epoch)
        place = int(np.searchsorted(order.position_ends, inside, side="right"))
        before = epoch * self.num_rows
        return before + _before(order.row_ends, place) + 1, before + int(order.row_ends[place])

    def stretches(self, first: int, count: int) -> list[Stretch]:
        """Return which rows of which windows are served as `count` rows from one on."""
        found = []
        epoch, inside = divmod(first, self.num_rows)
        while count:
            order = self._epoch(epoch)
            place = int(np.searchsorted(order.row_ends, inside, side="right"))
            begin = inside - _before(order.row_ends, place)
            window = int(order.windows[place])
            rows = self._permuted(epoch, window)
            taken = min(count, len(rows) - begin)
            found.append(Stretch(window, rows[begin : begin + taken]))
            count, inside = count - taken, inside + taken
            if inside == self.num_rows:
                epoch, inside = epoch + 1, 0
        return found

    def windows_from(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield the windows that are served from a row on, without end, each with how many rows come before it."""
        epoch, inside = divmod(row, self.num_rows)
        while True:
            order = self._epoch(epoch)
            for place in range(int(np.searchsorted(order.row_ends, inside, side="right")), len(order.windows)):
                yield int(order.windows[place]), max(0, epoch * self.num_rows + _before(order.row_ends, place) - row)
            epoch, inside = epoch + 1, 0

    def row_of(self, epoch: int, window: int, row: int) -> int:
        """Return which row of the source a row of a window is in an epoch: the inverse of `stretches`."""
        order = self._epoch(epoch)
        place = int(np.flatnonzero(order.windows == window)[0])
        within = int(np.flatnonzero(self._permuted(epoch, window) == row)[0])
        return epoch * self.num_rows + _before(order.row_ends, place) + within

    def _row_order_of(self, order: _Epoch, epoch: int, place: int) -> tuple[Int64s, Int64s]:
        return self._rows(epoch, int(order.windows[place]))


def _before(ends: Int64s, place: int) -> int:
    return int(ends[place - 1]) if place else 0
