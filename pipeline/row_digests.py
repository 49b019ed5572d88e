"""Digests of many short rows at once: the same bytes as `hashing` defines, laid out by numpy instead of one by one.

Rows whose values have the same lengths in every column (a null has length 0) have one layout: they are the lines of a
matrix of bytes, filled column by column. Verdicts and side tables have a handful of layouts, so all that is left for
each row is its sha256. Where rows are long or nearly every one has a layout of its own (texts), there is nothing to
gain, and None says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from headrace.pipeline.errors import UnstableValueError

MIN_ROWS = 64
ROWS_OF_A_LAYOUT = 8
"""Fewer rows of a layout than this, on average, and the matrices cost more than they save."""

MAX_LAYOUTS = 1 << 16
MAX_ROW_BYTES = 2048

_FLAG, _WORD = 1, 8

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def digest_rows(columns: Sequence[pa.Array]) -> bytes | None:
    """Return the sha256 of each row, one after the other, or None where this is no way to make them.

    Raises:
        UnstableValueError: a column holds NaN or an infinity.
    """
    num_rows = len(columns[0]) if columns else 0
    layouts = [_column_layout(column) for column in columns] if num_rows >= MIN_ROWS else []
    if not layouts or any(layout is None for layout in layouts):
        return None
    known = [layout for layout in layouts if layout is not None]
    lengths = [layout.lengths for layout in known]
    groups = _group(lengths) if np.sum(lengths) <= num_rows * MAX_ROW_BYTES else None
    if groups is None:
        return None
    digests = np.empty((num_rows, 32), dtype=np.uint8)
    for rows in groups:
        data = np.concatenate([layout.block(rows) for layout in known], axis=1)
        size, flat = data.shape[1], data.tobytes()
        made = b"".join([sha256(flat[start : start + size]).digest() for start in range(0, len(flat), size)])
        digests[rows] = np.frombuffer(made, np.uint8).reshape(-1, 32)
    return digests.tobytes()


def _group(lengths: Sequence[Ints]) -> list[Ints] | None:
    """Return the rows of each layout, or None where there are too many layouts."""
    layout, num_layouts = np.zeros(len(lengths[0]), dtype=np.int64), 1
    for column in lengths:
        number, count = _numbered(column)
        layout, num_layouts = layout * count + number, num_layouts * count
        if num_layouts > MAX_LAYOUTS:
            return None
    order = np.argsort(layout.astype(np.uint16), kind="stable")  # of so few bits, a radix sort
    ends = np.flatnonzero(np.diff(layout[order])) + 1
    return np.split(order, ends) if (len(ends) + 1) * ROWS_OF_A_LAYOUT <= len(order) else None


def _numbered(lengths: Ints) -> tuple[Ints, int]:
    """Number the different lengths of a column; return each row's number, and how many there are."""
    lowest = lengths.min()
    occurs = np.zeros(lengths.max() - lowest + 1, dtype=bool)
    occurs[lengths - lowest] = True
    numbers = np.cumsum(occurs) - 1
    return numbers[lengths - lowest], int(numbers[-1]) + 1


@dataclass(frozen=True)
class _Layout:
    """A column: length in bytes of each row's value with its flag and prefix, and what the bytes are made of.

    `words` are values of 8 bytes each. Else `data` are the bytes of all items (of a text its bytes, of a list flagged
    numbers), `item_bytes` each, and `starts` says with which item a value begins.
    """

    lengths: Ints
    words: Bytes | None = None
    starts: Ints | None = None
    data: Bytes | None = None
    item_bytes: int = 1

    def block(self, rows: Ints) -> Bytes:
        """Return the bytes of some rows that all have one length, a line each."""
        size = int(self.lengths[rows[0]])
        block = np.zeros((len(rows), size), dtype=np.uint8)
        if size == _FLAG:  # null
            return block
        block[:, 0] = 1
        if self.words is not None:
            block[:, _FLAG:] = self.words[rows]
            return block
        assert self.starts is not None
        assert self.data is not None
        num_bytes = size - _FLAG - _WORD
        count = num_bytes // self.item_bytes
        block[:, _FLAG : _FLAG + _WORD] = np.frombuffer(count.to_bytes(_WORD, "little"), np.uint8)
        if count:
            windows = sliding_window_view(self.data, num_bytes)
            block[:, _FLAG + _WORD :] = windows[self.starts[rows] * self.item_bytes]
        return block


def _column_layout(column: pa.Array) -> _Layout | None:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _bytes_layout(column)
    if pa.types.is_list(kind):
        return _list_layout(column)
    words = _words(column)
    if words is None:
        return None
    lengths = np.full(len(column), _FLAG + _WORD, dtype=np.int64)
    return _Layout(_without_nulls(lengths, column), words=words)


def _words(column: pa.Array) -> Bytes | None:
    """Return numbers and flags as lines of 8 little-endian bytes, any bytes where undefined."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_float64(kind)):
        return None
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        if not np.isfinite(numbers).all():
            raise UnstableValueError("a column holds NaN or an infinity; undefined is null, never NaN or infinite")
        numbers = numbers + 0.0  # -0.0 and 0.0 compare equal and must hash alike
    target = "<f8" if pa.types.is_floating(kind) else "<u8" if pa.types.is_uint64(kind) else "<i8"
    return np.ascontiguousarray(numbers.astype(target)).view(np.uint8).reshape(-1, _WORD)


def _without_nulls(lengths: Ints, column: pa.Array) -> Ints:
    if column.null_count:
        lengths[~column.is_valid().to_numpy(zero_copy_only=False)] = _FLAG
    return lengths


def _bytes_layout(column: pa.Array) -> _Layout:
    column = column.cast(pa.binary())
    _, _, data = column.buffers()
    starts, sizes = _extents(column)
    flat = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return _Layout(_without_nulls(sizes + (_FLAG + _WORD), column), starts=starts, data=flat)


def _list_layout(column: pa.Array) -> _Layout | None:
    """Return the layout of a list of numbers; None for other lists."""
    items = column.values
    words = _words(items) if items.null_count == 0 else None
    if words is None:
        return None
    starts, sizes = _extents(column)
    flagged = np.concatenate([np.ones((len(words), _FLAG), np.uint8), words], axis=1)
    lengths = sizes * (_FLAG + _WORD) + (_FLAG + _WORD)
    return _Layout(_without_nulls(lengths, column), starts=starts, data=flagged.ravel(), item_bytes=_FLAG + _WORD)


def _extents(column: pa.Array) -> tuple[Ints, Ints]:
    """Return where each value starts, and how many items it has."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4).astype(np.int64)
    return offsets[:-1], np.diff(offsets)
