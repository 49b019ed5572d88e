"""Digests of many rows at once: the same bytes as `hashing` defines, laid out by columns, not value by value.

Each row's bytes begin where those of the rows before end, and each value where those of the columns before end; so all
that is left for each row is its sha256. Columns of other types than numbers, flags, bytes and lists of numbers have no
such layout, and None says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.pipeline.errors import UnstableValueError

MIN_ROWS = 64
"""Fewer rows are not worth loading the kernels for."""

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
    known = [layout for layout in layouts if layout is not None]
    if not known or len(known) < len(layouts):
        return None
    ends = np.cumsum(np.sum([layout.lengths for layout in known], axis=0, dtype=np.int64))
    out, at = np.empty(ends[-1], np.uint8), np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    edges = [0, *ends.tolist()]
    for layout in known:
        layout.write(out, at)
        at += layout.lengths
    return b"".join([sha256(out.data[start:end]).digest() for start, end in pairwise(edges)])


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

    def write(self, out: Bytes, at: Ints) -> None:
        """Write the values into the bytes of all rows, each where `at` says."""
        from headrace.filters.analysis.row_bytes import write_items, write_words

        if self.words is not None:
            write_words(out, at, self.lengths, self.words)
        else:
            write_items(out, at, self.lengths, self.starts, self.data, np.int64(self.item_bytes))


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
    items = column.flatten()  # those of its rows alone, and none of lists that are null
    words = _words(items) if items.null_count == 0 else None
    if words is None:
        return None
    sizes = _extents(column)[1]
    if column.null_count:
        sizes[~column.is_valid().to_numpy(zero_copy_only=False)] = 0
    starts = np.cumsum(sizes) - sizes
    flagged = np.concatenate([np.ones((len(words), _FLAG), np.uint8), words], axis=1)
    lengths = sizes * (_FLAG + _WORD) + (_FLAG + _WORD)
    return _Layout(_without_nulls(lengths, column), starts=starts, data=flagged.ravel(), item_bytes=_FLAG + _WORD)


def _extents(column: pa.Array) -> tuple[Ints, Ints]:
    """Return where each value starts, and how many items it has."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4).astype(np.int64)
    return offsets[:-1], np.diff(offsets)
