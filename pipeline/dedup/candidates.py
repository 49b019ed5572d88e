"""Candidates: the documents that share a bucket with another, and what decides among them."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.entries import Hashes, fixed_hashes
from headrace.pipeline.tables import read_batches

Int64s = npt.NDArray[np.int64]

IN_MEMORY_BYTES = 512 << 20
"""Of signatures; more are mapped from an unnamed file."""

BATCH_ROWS = 8192


@dataclass(frozen=True)
class Arranged:
    """The buckets of documents in the order in which these are preferred; `slots` as `choose_survivors` asks.

    Document i is in `buckets[first[i]:first[i + 1]]`.
    """

    first: Int64s
    buckets: npt.NDArray[np.uint32]
    slots: Int64s

    @classmethod
    def of(cls, found: Buckets, candidates: Int64s, order: Int64s, most: int, num_down: int) -> "Arranged":
        """Arrange buckets whose members are `candidates` (ascending), preferred in this order, those taken down first.

        Args:
            found: The buckets.
            candidates: Their members.
            order: Numbers of candidates as they are preferred.
            most: How many survivors of a bucket are compared.
            num_down: How many were taken down, all of which are compared.
        """
        ranks = ranks_of(order)[np.searchsorted(candidates, found.members.astype(np.int64))]
        numbers = np.repeat(np.arange(len(found.sizes), dtype=np.uint32), found.sizes)
        by_document = np.argsort(ranks, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(ranks, minlength=len(candidates)))])
        down = np.bincount(numbers[ranks < num_down], minlength=len(found.sizes))
        slots = np.concatenate([[0], np.cumsum(down + np.minimum(found.sizes - down, most))])
        return cls(first, numbers[by_document], slots)


def ranks_of(order: Int64s) -> Int64s:
    """Return the place of each number in an order."""
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def split_rows(rows: Int64s, num_rows: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield for each part where its rows begin among those of all, and which of `rows` (ascending) it has."""
    ends = np.cumsum([0, *num_rows])
    places = np.searchsorted(rows, ends)
    for part in range(len(num_rows)):
        yield int(ends[part]), slice(int(places[part]), int(places[part + 1]))


def gather_hashes(
    paths: Sequence[Path],
    column: str,
    bits: int,
    rows: Int64s,
    num_rows: Sequence[int],
    places: Int64s,
    folder: Path | None,
) -> Hashes:
    """Return the hashes of some documents, each at its place.

    Args:
        paths: The side tables of all parts.
        column: The column with the hashes.
        bits: Of a hash.
        rows: Numbers of the documents among those of all parts, ascending.
        num_rows: How many documents each part has.
        places: The place of each in the result.
        folder: Where an unnamed file may lie for what is too much for memory.
    """
    gathered: Hashes | None = None
    for path, (start, mine) in zip(paths, split_rows(rows, num_rows), strict=True):
        wanted, to = rows[mine] - start, places[mine]
        first = 0
        for batch in read_batches(path, [column], batch_rows=BATCH_ROWS) if len(wanted) else ():
            low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
            if high > low:
                found = fixed_hashes(batch.column(column).take(pa.array(wanted[low:high] - first)), bits, path)
                gathered = _room(len(rows), found, folder) if gathered is None else gathered
                gathered[to[low:high]] = found
            first += batch.num_rows
    return np.zeros((0, 1), f"<u{bits // 8}") if gathered is None else gathered


def _room(num_rows: int, example: Hashes, folder: Path | None) -> Hashes:
    shape = num_rows, example.shape[1]
    if num_rows * example.shape[1] * example.itemsize <= IN_MEMORY_BYTES:
        return np.empty(shape, example.dtype)
    with tempfile.TemporaryFile(dir=folder) as file:  # the mapping holds what has no name any more
        return np.memmap(file, example.dtype, mode="w+", shape=shape)
