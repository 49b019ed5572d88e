"""Rows of windows as arrays: the kernel that the stream spends its time in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.filters.kernels import kernel
from headrace.trainer.batch import IGNORE
from headrace.trainer.streaming.windows import Window

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]


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


@kernel()
def _fill(
    arrays: Any, places: Any, rows: Any, packed: Any, begins: Any, counts: Any, masked: Any, tokens: Any, options: Any
) -> None:
    """Write rows of a window to places; `options` are the token between documents, what is ignored, and whether
    documents are told apart. Of a masked document neither inputs nor targets are written, only its place.
    """
    inputs, targets, positions, documents = arrays
    first, document, start, length = packed
    end_of_text, ignore, apart = options
    for index in range(len(rows)):
        out, row = places[index], rows[index]
        at = np.int64(0)
        for piece in range(first[row], first[row + 1]):
            number, begin, taken = document[piece], start[piece], length[piece]
            source, left = begins[number] + begin, counts[number] - begin
            end = at + taken
            if masked[number]:
                _set(inputs[out, at:end], end_of_text)
                _set(targets[out, at:end], np.int32(ignore))
            elif begin:
                _copy(inputs[out, at:end], tokens[source - 1 : source - 1 + taken])
            else:
                inputs[out, at] = end_of_text
                _copy(inputs[out, at + 1 : end], tokens[source : source + taken - 1])
            if not masked[number]:
                inner = min(taken, left)
                _copy(targets[out, at : at + inner], tokens[source : source + inner])
                if inner < taken:
                    targets[out, at + inner] = end_of_text
            _count_from(positions[out, at:end], np.int32(0) if apart else np.int32(at))
            _set(documents[out, at:end], np.int32(piece - first[row]) if apart else np.int32(0))
            at = end
        _set(inputs[out, at:], np.int32(0))
        _set(targets[out, at:], np.int32(ignore))
        _set(positions[out, at:], np.int32(0))
        _set(documents[out, at:], np.int32(-1))


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
    """Number the pieces of rows anew, and their positions from 0 where `start`, after longer rows were cut."""
    for row in range(documents.shape[0]):
        number, before = np.int32(-1), np.int32(-1)
        base = np.int32(0)
        for place in range(documents.shape[1]):
            document = documents[row, place]
            if document < 0:
                before = np.int32(-1)
                continue
            if document != before:
                number += np.int32(1)
                base = positions[row, place] if start or number == 0 else base
            before = document
            documents[row, place] = number
            positions[row, place] -= base


class RowArrays:
    """Arrays of rows that windows are written into."""

    def __init__(self, num_rows: int, sequence_length: int) -> None:
        self.tokens, self.targets, self.positions, self.documents = (
            np.empty((num_rows, sequence_length), np.int32) for _ in range(4)
        )

    def part(self, rows: slice) -> "RowArrays":
        """Return some of the rows, as views."""
        part = RowArrays.__new__(RowArrays)
        for name in ("tokens", "targets", "positions", "documents"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def write(self, window: Window, rows: Int64s, places: Int64s, end_of_text: int, apart: bool) -> None:
        """Write rows of a window to places among these rows; `apart`: whether documents are told apart."""
        layout = window.layout
        _fill(
            (self.tokens, self.targets, self.positions, self.documents),
            places,
            rows,
            tuple(layout.packed),
            window.begins,
            layout.num_tokens,
            window.masked,
            window.tokens,
            (end_of_text, IGNORE, apart),
        )

    def cut(self, length: int, apart: bool) -> None:
        """Cut every row into rows of a length that divides its own."""
        for name in ("tokens", "targets", "positions", "documents"):
            setattr(self, name, getattr(self, name).reshape(-1, length))
        restart_pieces(self.positions, self.documents, apart)
