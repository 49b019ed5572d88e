"""Windows that are damaged: an error, or, where a run asks for it, replaced by others of the same corpus.

A window that cannot be read is *quarantined* from the step on that is being made. In its place stands the next window
of the corpus, in order of storage, that is not: row `j` of the one is row `j` modulo its number of rows of the other.
How many rows and positions it has in the arithmetic of the mixture stays what the index says, its positions spread
evenly over its rows. So the batch of a step depends on which windows are quarantined from it or an earlier one on, not
on who found the damage or how; a run keeps the list, and what it was trained on before stays what it was.
"""

import copy
import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.packing import Packed
from headrace.pipeline.remote.ranges import Range
from headrace.trainer.streaming.windows import LAYOUTS, Int64s, Layout, TokenTable, Window


class Quarantined(NamedTuple):
    """A window of a corpus, both by number, that is replaced since a step, and why."""

    step: int
    corpus: int
    window: int
    why: str


class DamagedWindowError(IntegrityError):
    """A window of a corpus, both by number, cannot be read."""

    def __init__(self, message: str, corpus: int = -1, window: int = -1) -> None:
        super().__init__(message)
        self.corpus, self.window = corpus, window


class MendingTable(TokenTable):
    """The windows of a token artifact, with others in place of those that are gone (`without`)."""

    corpus: int = 0
    """Its number in the plan, for errors."""
    gone: frozenset[int] = frozenset()

    def without(self, gone: Collection[int]) -> "MendingTable":
        """Return a table in which others stand in the place of these windows."""
        other = copy.copy(self)
        other.gone = frozenset(gone)
        other.layout = lru_cache(LAYOUTS)(other._read_layout)
        return other

    def _stand_in(self, number: int) -> int:
        """Return the window that stands in the place of one; most stand in their own.

        Raises:
            IntegrityError: none is left.
        """
        for step in range(len(self)):
            candidate = (number + step) % len(self)
            if candidate not in self.gone:
                return candidate
        raise IntegrityError(f"{self._folder}: all of its windows are damaged; restore it, or build the tokens again")

    @contextmanager
    def _named(self, number: int) -> Iterator[None]:
        """Have errors name the window."""
        try:
            yield
        except DamagedWindowError:
            raise
        except IntegrityError as error:
            raise DamagedWindowError(str(error), self.corpus, number) from None

    def _read_layout(self, number: int) -> Layout:
        there = self._stand_in(number)
        with self._named(there):
            return self._lent(super()._read_layout(there), number, there)

    def read(self, number: int) -> Window:
        """Read a window, or the one in its place.

        Raises:
            DamagedWindowError: its bytes are not those that the manifest names, or are gone.
        """
        there = self._stand_in(number)
        with self._named(there):
            window = super().read(there)
        if there == number:
            return window
        layout = self._lent(window.layout, number, there)
        lent = Window.of(layout, window.tokens, window.begins, window.masked, window.read_ids)
        return dataclasses.replace(lent, beside=window.beside)

    def fills(self, number: int) -> Int64s:
        """Return the positions of each row of a window that are no padding; spread evenly, where it is gone."""
        if number not in self.gone:
            return super().fills(number)
        rows, positions = (int(self._places[name][number]) for name in ("num_rows", "num_positions"))
        edges = np.arange(rows + 1, dtype=np.int64) * positions // rows
        return np.diff(edges)

    def ranges(self, number: int) -> list[Range]:
        """Return the ranges of files elsewhere that a window, or the one in its place, is read from."""
        return super().ranges(self._stand_in(number))

    def _ids(self, number: int) -> Any:
        there = self._stand_in(number)
        with self._named(there):
            return super()._ids(there)

    def _reaches(self, number: int, orders: Any) -> bool:
        return super()._reaches(self._stand_in(number), orders)

    def _lent(self, layout: Layout, number: int, there: int) -> Layout:
        """Return the layout of a window for as many rows as another has, over and over."""
        if there == number:
            return layout
        rows = np.arange(int(self._places["num_rows"][number])) % layout.packed.num_rows
        return Layout(layout.documents, layout.num_tokens, rows_of(layout.packed, rows), layout.prefixes)


def rows_of(packed: Packed, rows: Int64s) -> Packed:
    """Return some rows, in this order, some perhaps several times."""
    begins, counts = packed.first[rows], packed.first[rows + 1] - packed.first[rows]
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    pieces = np.arange(first[-1]) - np.repeat(first[:-1], counts) + np.repeat(begins, counts)
    return Packed(first, packed.document[pieces], packed.start[pieces], packed.length[pieces])
