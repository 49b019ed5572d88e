"""How documents become rows of a fixed length: packings by name, each a pure function of the documents' lengths.

A document is a line of positions (`docs/stream.md`). A row holds pieces of lines one after another; what no piece fills
is padding. No position is dropped: a line that is longer than a row is cut in pieces, of which all are served.

- `concat`: lines are laid end to end and cut every `sequence_length` positions; the last row alone is padded.
- `best_fit`: a line that fits is never cut. A longer one is cut into whole rows and a rest; rests and lines go, the
  longest first, each into the row with the least room that is enough (Ding et al. 2024, arXiv:2404.10830).
- `pad`: each line has rows of its own.
- `document`: each line is a row, however long it is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.kernels import kernel

Int64s = npt.NDArray[np.int64]
Packing = Literal["concat", "best_fit", "pad", "document"]


class Packed(NamedTuple):
    """Rows of pieces: row `r` holds the pieces from `first[r]` to `first[r + 1]`, in that order.

    Attributes:
        first: int64 (rows + 1,), numbers of pieces.
        document: int64 (pieces,), number of the document among those that were packed.
        start: int64 (pieces,), where the piece begins in its document's line.
        length: int64 (pieces,), positions.
    """

    first: Int64s
    document: Int64s
    start: Int64s
    length: Int64s

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.first) - 1

    def fills(self) -> Int64s:
        """Return the positions of each row that are no padding."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.length)])
        filled: Int64s = ends[self.first[1:]] - ends[self.first[:-1]]
        return filled


@kernel()
def _pack_concat(lengths: Any, size: int) -> Any:
    total = np.int64(0)
    for length in lengths:
        total += length
    num_rows = (total + size - 1) // size
    first = np.empty(num_rows + 1, np.int64)
    room = len(lengths) + num_rows
    document, start, piece = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    count, row, filled = np.int64(0), np.int64(0), np.int64(size)
    for number in range(len(lengths)):
        begin = np.int64(0)
        while begin < lengths[number]:
            if filled == size:
                first[row] = count
                row += 1
                filled = np.int64(0)
            taken = min(lengths[number] - begin, size - filled)
            document[count], start[count], piece[count] = number, begin, taken
            count += 1
            begin += taken
            filled += taken
    first[row] = count
    return first, document[:count], start[:count], piece[:count]


@kernel()
def _chunks(lengths: Any, size: int) -> Any:
    """Return documents, starts and lengths of pieces: lines cut every `size` positions."""
    room = np.int64(0)
    for length in lengths:
        room += (length + size - 1) // size
    document, start, piece = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = np.int64(0)
    for number in range(len(lengths)):
        for begin in range(0, lengths[number], size):
            document[count], start[count] = number, begin
            piece[count] = min(lengths[number] - begin, size)
            count += 1
    return document, start, piece


@kernel()
def _longest_first(lengths: Any, size: int) -> Any:
    """Return the order of pieces by length, the longest first; equal ones stay in order."""
    counts = np.zeros(size + 2, np.int64)
    for length in lengths:
        counts[size - length + 1] += 1
    places = np.cumsum(counts)
    order = np.empty(len(lengths), np.int64)
    for number in range(len(lengths)):
        place = size - lengths[number]
        order[places[place]] = number
        places[place] += 1
    return order


@kernel()
def _least_room(tree: Any, half: int, needed: int) -> int:
    """Return the smallest number of at least `needed` whose leaf is set, or -1; leaf `i` is `tree[half + i]`."""
    node = half + needed
    if tree[node]:
        return needed
    while node > 1:
        if node % 2 == 0 and tree[node + 1]:
            node += 1
            while node < half:
                node = 2 * node if tree[2 * node] else 2 * node + 1
            return node - half
        node //= 2
    return -1


@kernel()
def _mark(tree: Any, leaf: int, state: bool) -> None:
    node = leaf
    tree[node] = state
    while node > 1:
        node //= 2
        tree[node] = tree[2 * node] or tree[2 * node + 1]


@kernel()
def _best_rows(lengths: Any, order: Any, size: int) -> Any:
    """Return the row of each piece, and how many rows there are.

    Rows with equal room form a chain from `newest[room]` on; the newest of them is taken.
    """
    half = 1
    while half < size + 1:
        half *= 2
    tree = np.zeros(2 * half, np.bool_)
    newest, before = np.full(size + 1, -1, np.int64), np.empty(len(lengths), np.int64)
    rows = np.empty(len(lengths), np.int64)
    num_rows = np.int64(0)
    for number in order:
        length = lengths[number]
        room = _least_room(tree, half, length)
        if room < 0:
            row, room = num_rows, size
            num_rows += 1
        else:
            row = newest[room]
            newest[room] = before[row]
            if newest[room] < 0:
                _mark(tree, half + room, False)
        rows[number] = row
        left = room - length
        if left > 0:
            if newest[left] < 0:
                _mark(tree, half + left, True)
            before[row] = newest[left]
            newest[left] = row
    return rows, num_rows


@kernel()
def _gathered(rows: Any, num_rows: int, order: Any) -> Any:
    """Return where the pieces of each row begin, and the pieces' numbers row by row, in the given order within one."""
    first = np.zeros(num_rows + 1, np.int64)
    for row in rows:
        first[row + 1] += 1
    for row in range(num_rows):
        first[row + 1] += first[row]
    places, pieces = first.copy(), np.empty(len(rows), np.int64)
    for number in order:
        pieces[places[rows[number]]] = number
        places[rows[number]] += 1
    return first, pieces


def _concat(lengths: Int64s, size: int) -> Packed:
    return Packed(*_pack_concat(lengths, size))


def _best_fit(lengths: Int64s, size: int) -> Packed:
    document, start, length = _chunks(lengths, size)
    order = _longest_first(length, size)
    first, pieces = _gathered(*_best_rows(length, order, size), order)
    return Packed(first, document[pieces], start[pieces], length[pieces])


def _pad(lengths: Int64s, size: int) -> Packed:
    document, start, length = _chunks(lengths, size)
    return Packed(np.arange(len(length) + 1, dtype=np.int64), document, start, length)


def _document(lengths: Int64s, size: int) -> Packed:
    numbers = np.arange(len(lengths) + 1, dtype=np.int64)
    return Packed(numbers, numbers[:-1], np.zeros(len(lengths), np.int64), lengths)


PACKINGS: Mapping[Packing, Callable[[Int64s, int], Packed]] = MappingProxyType(
    {"concat": _concat, "best_fit": _best_fit, "pad": _pad, "document": _document}
)


def pack(packing: Packing, lengths: Int64s, sequence_length: int) -> Packed:
    """Pack lines of some lengths (each at least one position) into rows."""
    return PACKINGS[packing](np.ascontiguousarray(lengths, np.int64), sequence_length)
