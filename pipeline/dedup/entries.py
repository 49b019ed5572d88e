"""Band entries: which document has which band key, as raw arrays that are exchanged between tasks.

A file of entries holds n keys (uint64, ascending) and then n rows (uint32, numbers of documents within their part),
both little-endian. It is mapped, not read: a task that asks for a range of keys touches those pages alone. Keys are
hashes, so equal ranges of keys are equal shares of the work, and a bucket never lies in two of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.filters.lsh import band_keys, mix
from headrace.pipeline.errors import IntegrityError

Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.unsignedinteger[Any]]

ENTRY_BYTES = 12
_KEYS = 1 << 64


@dataclass(frozen=True)
class Entries:
    """Keys, ascending, and the row that has each."""

    keys: Uint64s
    rows: Uint32s

    @classmethod
    def of(cls, keys: Uint64s, rows: Uint32s) -> "Entries":
        """Sort entries by key; those of one key stay in order."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], rows[order])

    @classmethod
    def open(cls, path: Path) -> "Entries":
        """Map a file of entries.

        Raises:
            IntegrityError: its length is not that of whole entries.
        """
        size = path.stat().st_size
        number, rest = divmod(size, ENTRY_BYTES)
        if rest:
            raise IntegrityError(f"{path}: {size} bytes are no whole number of entries of {ENTRY_BYTES} bytes")
        if not number:
            return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
        data = np.memmap(path, dtype=np.uint8, mode="r")
        return cls(data[: 8 * number].view("<u8"), data[8 * number :].view("<u4"))

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return self.keys.astype("<u8", copy=False).tobytes() + self.rows.astype("<u4", copy=False).tobytes()

    def between(self, partition: int, partitions: int) -> "Entries":
        """Return the entries of one of `partitions` equal ranges of keys."""
        low, high = (number * _KEYS // partitions for number in (partition, partition + 1))
        start = np.searchsorted(self.keys, np.uint64(low))
        end = len(self.keys) if high == _KEYS else np.searchsorted(self.keys, np.uint64(high))
        return Entries(self.keys[start:end], self.rows[start:end])


def joined(pieces: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return arrays end to end; the list is empty afterwards, so that what follows has their memory."""
    together = np.concatenate(pieces)
    pieces.clear()
    return together


def fixed_hashes(column: pa.ChunkedArray | pa.Array, bits: int, where: Path) -> Hashes:
    """Return the hashes of a column without nulls as an array, a row each.

    Chunks are not put together before, because Arrow's offsets end at 2 GiB.

    Raises:
        IntegrityError: they are not all as long as the first.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    pieces = [_chunk_hashes(chunk, bits, where) for chunk in chunks if len(chunk)]
    if not pieces:
        return np.zeros((0, 0), f"<u{bits // 8}")
    if len({piece.shape[1] for piece in pieces}) > 1:
        raise _uneven(bits, where)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def take_hashes(column: pa.ChunkedArray, rows: npt.NDArray[np.int64], bits: int, where: Path) -> Hashes:
    """Return the hashes of some rows of a column, which are ascending; see `fixed_hashes`."""
    ends = np.cumsum([0, *map(len, column.chunks)])
    places = np.searchsorted(rows, ends)
    taken = [
        chunk.take(pa.array(rows[places[number] : places[number + 1]] - ends[number]))
        for number, chunk in enumerate(column.chunks)
        if places[number + 1] > places[number]
    ]
    return fixed_hashes(pa.chunked_array(taken, column.type), bits, where)


def _chunk_hashes(array: pa.Array, bits: int, where: Path) -> Hashes:
    dtype = np.dtype(f"<u{bits // 8}")
    large = array.cast(pa.large_binary())
    _, offsets, data = large.buffers()
    ends = np.frombuffer(offsets, np.int64, len(large) + 1, large.offset * 8)
    length = int(ends[1] - ends[0])
    if length % dtype.itemsize or not length or (np.diff(ends) != length).any():
        raise _uneven(bits, where)
    held = np.frombuffer(data, dtype, (ends[-1] - ends[0]) // dtype.itemsize, int(ends[0]))
    return held.reshape(len(large), -1)


def _uneven(bits: int, where: Path) -> IntegrityError:
    return IntegrityError(f"{where}: the hashes of a column must all be equally many, of {bits} bits each")


def make_entries(hashes: Hashes, rows: Uint32s, scopes: Uint64s | None, shape: tuple[int, int]) -> Entries:
    """Return the entries of signatures (one a row) cut into `shape` (bands, rows of a band).

    `scopes` has a number for each document: those of different numbers never share a key.
    """
    if not len(hashes):
        return Entries.of(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
    keys = band_keys(hashes, *shape)
    if scopes is not None:
        keys = mix((keys ^ mix(scopes)[:, np.newaxis]).ravel())
    return Entries.of(keys.ravel(), np.repeat(rows, shape[0]))
