"""Windows that are damaged: an error, or, where a run asks for it, replaced by others of the same corpus.

A window that cannot be read is *quarantined*. In its place stands the next window of the corpus, in order of storage,
that is not: row `j` of the one is row `j` modulo its number of rows of the other. How many rows and positions it has in
the arithmetic of the mixture stays what the index says, its positions spread evenly over its rows. So what follows does
not depend on who found the damage, or how, but on which windows are quarantined; a run keeps the list.
"""

import dataclasses
import logging
from typing import Any, NamedTuple

import numpy as np

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.packing import Packed
from headrace.trainer.streaming.windows import Int64s, Layout, TokenTable, Window

log = logging.getLogger(__name__)


class Quarantined(NamedTuple):
    """A window of a corpus, both by number, that is replaced since a step, and why."""

    step: int
    corpus: int
    window: int
    why: str


class MendingTable(TokenTable):
    """The windows of a token artifact, with others in place of those that are quarantined.

    With `replace` windows that turn out to be damaged are quarantined; else that is an error.
    """

    replace: bool = False
    step: int = 0
    """The step that batches are made of now."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.quarantined: dict[int, tuple[int, str]] = {}
        """Since which step a window is replaced, and why."""

    def quarantine(self, number: int, step: int, why: str) -> None:
        """Replace a window from now on."""
        if number not in self.quarantined:
            self.quarantined[number] = step, why
            self.layout.cache_clear()

    def _found(self, number: int, error: IntegrityError) -> None:
        if not self.replace:
            raise error
        if number not in self.quarantined:
            log.error("%s; other documents are served in place of its window %d from now on", error, number)
        self.quarantine(number, self.step, str(error))

    def _stand_in(self, number: int) -> int:
        """Return the window that stands in the place of one; most stand in their own.

        Raises:
            IntegrityError: none is left.
        """
        for step in range(len(self)):
            candidate = (number + step) % len(self)
            if candidate not in self.quarantined:
                return candidate
        raise IntegrityError(f"{self._folder}: all of its windows are damaged; restore it, or build the tokens again")

    def _read_layout(self, number: int) -> Layout:
        while True:
            there = self._stand_in(number)
            try:
                return self._lent(super()._read_layout(there), number, there)
            except IntegrityError as error:
                self._found(there, error)

    def read(self, number: int) -> Window:
        """Read a window, or the one in its place."""
        while True:
            there = self._stand_in(number)
            try:
                window = super().read(there)
            except IntegrityError as error:
                self._found(there, error)
                continue
            if there == number:
                return window
            layout = self._lent(window.layout, number, there)
            lent = Window.of(layout, window.tokens, window.begins, window.masked, window.read_ids)
            return dataclasses.replace(lent, beside=window.beside)

    def fills(self, number: int) -> Int64s:
        """Return the positions of each row of a window that are no padding."""
        fills = super().fills(number)  # finds out whether it is damaged
        if number not in self.quarantined:
            return fills
        rows, positions = (int(self._places[name][number]) for name in ("num_rows", "num_positions"))
        edges = np.arange(rows + 1, dtype=np.int64) * positions // rows
        return np.diff(edges)

    def _ids(self, number: int) -> Any:
        return super()._ids(self._stand_in(number))

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
