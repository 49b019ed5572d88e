"""The index of a corpus: band keys in ranges, and the ids and hashes of its documents; files that are mapped.

Documents are numbered through all parts, those alone that the corpus holds and that have hashes. A file of keys holds n
keys (uint64, ascending) and then n numbers (uint64). A file of documents holds, for n documents, n ids of 16 bytes (two
uint64) and then n rows of hashes. All are little-endian.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.pipeline.dedup.candidates import Int64s
from headrace.pipeline.dedup.entries import Entries, Hashes, Uint64s
from headrace.pipeline.errors import IntegrityError

_ID_BYTES = 16
PAIRS_AT_ONCE = 1 << 22


def mapped(path: Path) -> npt.NDArray[np.uint8]:
    """Return the bytes of a file, mapped."""
    return np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)


def keys_to_bytes(keys: Uint64s, numbers: Uint64s) -> bytes:
    """Return the content of a file of keys."""
    order = np.argsort(keys, kind="stable")
    return keys[order].astype("<u8").tobytes() + numbers[order].astype("<u8").tobytes()


def documents_to_bytes(ids: Uint64s, hashes: Hashes) -> bytes:
    """Return the content of a file of documents."""
    return ids.astype("<u8").tobytes() + hashes.tobytes()


def _row_ranges(rows: Int64s, counts: Int64s, at_once: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that have about so many pairs together, the last row of each the one that reaches it."""
    totals = np.bincount(rows, weights=counts) if len(rows) else np.zeros(0)
    ends, first = np.cumsum(totals), 0
    while first < len(totals):
        before = ends[first - 1] if first else 0
        end = min(int(np.searchsorted(ends, before + at_once)) + 1, len(totals))
        yield first, end
        first = end


def _ranges(starts: Int64s, counts: Int64s) -> Int64s:
    """Return the numbers of all ranges, one range after the other."""
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else np.zeros(0, np.int64)
    places: Int64s = np.repeat(starts - begins, counts) + np.arange(counts.sum())
    return places


@dataclass(frozen=True)
class CorpusIndex:
    """An index by its files, those of keys in the order of their ranges, those of documents in row order."""

    key_files: Sequence[Path]
    document_files: Sequence[Path]
    num_hashes: int
    bits: int

    def pairs(
        self, entries: Entries, chosen: npt.NDArray[np.bool_], most: int, at_once: int = PAIRS_AT_ONCE
    ) -> Iterator[tuple[Int64s, Int64s]]:
        """Yield rows of a part and numbers of indexed documents that share a key, each pair once, by rows.

        Of the documents that have a key, the first `most` are looked at. Those of a row come together, and about
        `at_once` pairs are there at a time, however many documents share a key.
        """
        documents, starts, counts, rows = [], [], [], []
        for partition, path in enumerate(self.key_files):
            mine = entries.between(partition, len(self.key_files))
            kept = chosen[np.asarray(mine.rows)]
            own_keys = np.asarray(mine.keys)[kept]
            data = mapped(path)
            half = len(data) // 2
            keys = data[:half].view("<u8")
            start = np.searchsorted(keys, own_keys, side="left")
            count = np.minimum(np.searchsorted(keys, own_keys, side="right") - start, most)
            documents.append(data[half:].view("<u8"))
            starts.append(start[count > 0])
            counts.append(count[count > 0])
            rows.append(np.asarray(mine.rows)[kept][count > 0].astype(np.int64))
        for first, end in _row_ranges(np.concatenate(rows), np.concatenate(counts), at_once):
            found = []
            for numbers, start, count, own in zip(documents, starts, counts, rows, strict=True):
                some = (own >= first) & (own < end)
                places = _ranges(start[some], count[some])
                found.append(np.stack([np.repeat(own[some], count[some]), numbers[places].astype(np.int64)], axis=1))
            pairs = np.unique(np.concatenate(found), axis=0)
            yield pairs[:, 0], pairs[:, 1]

    def documents(self, numbers: Int64s) -> tuple[Uint64s, Hashes]:
        """Return ids and hashes of documents by number, which ascend."""
        ids, hashes = (
            np.zeros((len(numbers), 2), np.uint64),
            np.zeros((len(numbers), self.num_hashes), f"<u{self.bits // 8}"),
        )
        for start, own_ids, own_hashes in self._files():
            low, high = np.searchsorted(numbers, [start, start + len(own_ids)])
            ids[low:high] = own_ids[numbers[low:high] - start]
            hashes[low:high] = own_hashes[numbers[low:high] - start]
        return ids, hashes

    def _files(self) -> Iterator[tuple[int, Uint64s, Hashes]]:
        row_bytes = _ID_BYTES + self.num_hashes * self.bits // 8
        sizes = [path.stat().st_size for path in self.document_files]
        for path, size in zip(self.document_files, sizes, strict=True):
            if size % row_bytes:
                raise IntegrityError(f"{path}: {size} bytes are no whole number of documents of {row_bytes} bytes")
        counts = [size // row_bytes for size in sizes]
        for path, count, end in zip(self.document_files, counts, accumulate(counts), strict=True):
            data = mapped(path)
            ids = data[: _ID_BYTES * count].view("<u8").reshape(-1, 2)
            hashes = data[_ID_BYTES * count :].view(f"<u{self.bits // 8}").reshape(count, self.num_hashes)
            yield end - count, ids, hashes
