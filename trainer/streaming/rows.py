"""Rows of windows as arrays: the kernel that the stream spends its time in."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.filters.kernels import kernel, prefetch
from headrace.pipeline.packing import Packing, pack
from headrace.pipeline.vocabulary import token_dtype
from headrace.trainer.batch import IGNORE
from headrace.trainer.streaming.windows import Layout, Window

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

_LINES_AHEAD, _TOKENS_A_LINE = 8, 32
"""Cache lines at the beginning of a piece that are fetched ahead, and tokens of two bytes in one."""


@kernel(within=True)
def _copy(into: Any, values: Any) -> None:
    for place in range(len(into)):
        into[place] = values[place]


@kernel(within=True)
def _set(into: Any, value: Any) -> None:
    for place in range(len(into)):
        into[place] = value


@kernel(within=True)
def _count_from(into: Any, first: Any) -> None:
    for place in range(len(into)):
        into[place] = first + np.int32(place)


@kernel(within=True)
def _pad(arrays: Any, out: Any, begin: Any, end: Any, ignore: Any) -> None:
    _set(arrays[0, out, begin:end], np.int32(0))
    _set(arrays[1, out, begin:end], np.int32(ignore))
    _set(arrays[2, out, begin:end], np.int32(0))
    _set(arrays[3, out, begin:end], np.int32(-1))


@kernel(within=True)
def _look_ahead(rows: Any, index: Any, first: Any, pieces: Any, lines: Any, tokens: Any) -> None:
    """Fetch what the next rows need, as windows are larger than a processor's cache: pieces, lines, then tokens."""
    if index + 3 < len(rows):
        prefetch(pieces, first[rows[index + 3]])
    if index + 2 < len(rows):
        row = rows[index + 2]
        for piece in range(first[row], first[row + 1]):
            prefetch(lines, pieces[piece, 0])
    if index + 1 < len(rows):
        row = rows[index + 1]
        for piece in range(first[row], first[row + 1]):
            place = lines[pieces[piece, 0], 0] + pieces[piece, 1]
            for line in range(_LINES_AHEAD):
                prefetch(tokens, place + line * _TOKENS_A_LINE)


@kernel()
def _fill(arrays: Any, places: Any, rows: Any, first: Any, pieces: Any, lines: Any, tokens: Any, options: Any) -> None:
    """Write rows of a window to places; `options` are the token between documents, what is ignored, whether documents
    are told apart, and whether prefixes are left out, which leaves padding in their place. A prefix is no target. Of a
    masked document neither inputs nor targets are written, only its place.
    """
    inputs, targets, positions, documents = arrays[0], arrays[1], arrays[2], arrays[3]
    end_of_text, ignore, apart, bare = options
    for index in range(len(rows)):
        out, row = places[index], rows[index]
        _look_ahead(rows, index, first, pieces, lines, tokens)
        at = np.int64(0)
        for piece in range(first[row], first[row + 1]):
            number, begin, taken = pieces[piece, 0], pieces[piece, 1], pieces[piece, 2]
            masked = lines[number, 2] != 0
            prefix = min(taken, max(np.int64(0), lines[number, 3] - begin))
            if bare and prefix > 0:
                _pad(arrays, out, at, at + prefix, ignore)
                at, begin, taken = at + prefix, begin + prefix, taken - prefix
            if taken == 0:
                continue
            source, left = lines[number, 0] + begin, lines[number, 1] - begin
            first_of_line = begin == 0 or (bare and begin == lines[number, 3])
            end = at + taken
            if masked:
                _set(inputs[out, at:end], end_of_text)
                _set(targets[out, at:end], np.int32(ignore))
            elif not first_of_line:
                _copy(inputs[out, at:end], tokens[source - 1 : source - 1 + taken])
            else:
                inputs[out, at] = end_of_text
                _copy(inputs[out, at + 1 : end], tokens[source : source + taken - 1])
            if not masked:
                inner = min(taken, left)
                _copy(targets[out, at : at + inner], tokens[source : source + inner])
                if inner < taken:
                    targets[out, at + inner] = end_of_text
                if not bare:
                    _set(targets[out, at : at + prefix], np.int32(ignore))
            _count_from(positions[out, at:end], np.int32(0) if apart else np.int32(at))
            _set(documents[out, at:end], np.int32(piece - first[row]) if apart else np.int32(0))
            at = end
        _pad(arrays, out, at, inputs.shape[1], ignore)


@kernel()
def gather_slots(slots: Any, rows: Any, num_slots: int) -> Any:
    """Return the places of rows slot by slot, where each slot's end, and the rows at those places."""
    ends = np.zeros(num_slots + 1, np.int64)
    for slot in slots:
        ends[slot + 1] += 1
    for slot in range(num_slots):
        ends[slot + 1] += ends[slot]
    places, gathered = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
    for place in range(len(slots)):
        index = ends[slots[place]]
        places[index], gathered[index] = place, rows[place]
        ends[slots[place]] += 1
    return places, ends[:num_slots], gathered


@kernel()
def restart_pieces(positions: Any, documents: Any, start: Any) -> None:
    """Number the pieces of rows anew, and their positions from 0 where `start`, after longer rows were cut.

    Padding, which may stand in the place of a prefix, ends no piece.
    """
    for row in range(documents.shape[0]):
        number, before = np.int32(-1), np.int32(-1)
        base = np.int32(0)
        for place in range(documents.shape[1]):
            document = documents[row, place]
            if document < 0:
                continue
            if document != before:
                number += np.int32(1)
                base = positions[row, place] if start or number == 0 else base
            before = document
            documents[row, place] = number
            positions[row, place] -= base


class RowArrays:
    """Arrays of rows that windows are written into: tokens, targets, positions, documents."""

    def __init__(self, arrays: Int32s) -> None:
        self._arrays = arrays

    @classmethod
    def empty(cls, num_rows: int, sequence_length: int) -> "RowArrays":
        """Return arrays of so many rows that hold nothing yet."""
        return cls(np.empty((4, num_rows, sequence_length), np.int32))

    def __iter__(self) -> Iterator[Int32s]:
        """Yield the four arrays, each (rows, sequence_length)."""
        return iter(self._arrays)

    def part(self, rows: slice) -> "RowArrays":
        """Return some of the rows, as views."""
        return RowArrays(self._arrays[:, rows])

    def write(self, window: Window, rows: Int64s, places: Int64s, end_of_text: int, *, apart: bool, bare: bool) -> None:
        """Write rows of a window to places among these rows.

        Args:
            window: The window.
            rows: Numbers of its rows.
            places: Where each goes.
            end_of_text: What stands before a document and is its last target.
            apart: Whether documents are told apart.
            bare: Whether prefixes are left out, with padding in their place.
        """
        first, options = window.layout.packed.first, (end_of_text, IGNORE, apart, bare)
        _fill(self._arrays, places, rows, first, window.pieces_table, window.lines, window.tokens, options)

    def cut(self, length: int, apart: bool) -> "RowArrays":
        """Return every row cut into rows of a length that divides its own."""
        arrays = self._arrays.reshape(4, -1, length)
        restart_pieces(arrays[2], arrays[3], apart)
        return RowArrays(arrays)


def load_kernels(packing: Packing, token_bytes: int) -> None:
    """Load compiled kernels, while a first window is waited for."""
    packed = pack(packing, np.ones(1, np.int64), 1)
    layout = Layout(np.zeros(1, np.int64), np.zeros(1, np.int64), packed)
    tokens, nothing = np.zeros(1, token_dtype(token_bytes)), np.zeros(1, np.int64)
    window = Window.of(layout, tokens, nothing, np.zeros(1, np.bool_), list)
    places, _, rows = gather_slots(nothing, nothing, 1)
    RowArrays.empty(1, 1).write(window, rows, places, 0, apart=True, bare=False)
