"""The index of a corpus: band keys in ranges, and the ids and hashes of its documents; files that are mapped.

Documents are numbered through all parts, those alone that the corpus holds and that have hashes. A file of keys holds n
keys (uint64, ascending) and then n numbers (uint64). A file of documents holds, for n documents, n ids of 16 bytes (two
uint64) and then n rows of hashes. All are little-endian.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
class Shared:
    """The keys that documents of a part share with an index; `num_crowded` had more documents than are looked at.

    Pieces have numbers of indexed documents, where those of a key begin in them, how many they are, and the row of the
    part's document that has the key.
    """

    pieces: Sequence[tuple[Uint64s, Int64s, Int64s, Int64s]]
    num_crowded: int

    def pairs(self, at_once: int = PAIRS_AT_ONCE) -> Iterator[tuple[Int64s, Int64s]]:
        """Yield rows of a part and numbers of indexed documents that share a key, each pair once, by rows.

        Those of a row come together, and about `at_once` pairs are there at a time, however many share a key.
        """
        nothing = [np.zeros(0, np.int64)]
        counts, rows = (np.concatenate([*nothing, *(piece[place] for piece in self.pieces)]) for place in (2, 3))
        for first, end in _row_ranges(rows, counts, at_once):
            found = []
            for numbers, start, count, own in self.pieces:
                some = (own >= first) & (own < end)
                places = _ranges(start[some], count[some])
                found.append(np.stack([np.repeat(own[some], count[some]), numbers[places].astype(np.int64)], axis=1))
            pairs = np.unique(np.concatenate(found), axis=0)
            yield pairs[:, 0], pairs[:, 1]


@dataclass(frozen=True)
class CorpusIndex:
    """An index by its files, those of keys in the order of their ranges, those of documents in row order."""

    key_files: Sequence[Path]
    document_files: Sequence[Path]
    num_hashes: int
    bits: int

    def shared(self, entries: Entries, chosen: npt.NDArray[np.bool_], most: int) -> Shared:
        """Return what the chosen documents of a part share with the index.

        Of the documents that have a key, `most` are looked at: those with the smallest ids, so that it does not matter
        in which order the corpus was read.
        """
        pieces, num_crowded = [], 0
        for partition, path in enumerate(self.key_files):
            mine = entries.between(partition, len(self.key_files))
            kept = chosen[np.asarray(mine.rows)]
            own_keys, rows = np.asarray(mine.keys)[kept], np.asarray(mine.rows)[kept].astype(np.int64)
            data = mapped(path)
            half = len(data) // 2
            keys, numbers = data[:half].view("<u8"), data[half:].view("<u8")
            start = np.searchsorted(keys, own_keys, side="left")
            count = np.searchsorted(keys, own_keys, side="right") - start
            few, many = (count > 0) & (count <= most), count > most
            pieces.append((numbers, start[few], count[few], rows[few]))
            crowded, first, places = np.unique(start[many], return_index=True, return_inverse=True)
            smallest = [np.zeros(0, np.uint64), *self._smallest(numbers, crowded, count[many][first], most)]
            pieces.append((np.concatenate(smallest), most * places, np.full(len(places), most), rows[many]))
            num_crowded += len(crowded)
        return Shared(pieces, num_crowded)

    def _smallest(self, numbers: Uint64s, starts: Int64s, counts: Int64s, most: int) -> Iterator[Uint64s]:
        """Yield the documents of keys, `most` each of those with more: the ones with the smallest ids."""
        for first, end in _row_ranges(np.arange(len(counts)), counts, PAIRS_AT_ONCE):
            own = numbers[_ranges(starts[first:end], counts[first:end])]
            order = np.argsort(own, kind="stable")
            ids = np.zeros((len(own), 2), np.uint64)
            for mine, places, held, _ in self._held(own[order].astype(np.int64)):
                ids[order[mine]] = held[places]
            keys = np.repeat(np.arange(end - first), counts[first:end])
            begins = np.cumsum(counts[first:end]) - counts[first:end]
            yield own[np.lexsort((ids[:, 1], ids[:, 0], keys))[(begins[:, np.newaxis] + np.arange(most)).ravel()]]

    def documents(self, numbers: Int64s) -> tuple[Uint64s, Hashes]:
        """Return ids and hashes of documents by number, which ascend."""
        ids = np.zeros((len(numbers), 2), np.uint64)
        hashes: Hashes = np.zeros((len(numbers), self.num_hashes), f"<u{self.bits // 8}")
        for mine, places, own_ids, own_hashes in self._held(numbers):
            ids[mine], hashes[mine] = own_ids[places], own_hashes[places]
        return ids, hashes

    @cached_property
    def _ends(self) -> Int64s:
        """Where the documents of each file end among those of all."""
        row_bytes = _ID_BYTES + self.num_hashes * self.bits // 8
        sizes = [path.stat().st_size for path in self.document_files]
        for path, size in zip(self.document_files, sizes, strict=True):
            if size % row_bytes:
                raise IntegrityError(f"{path}: {size} bytes are no whole number of documents of {row_bytes} bytes")
        ends: Int64s = np.cumsum([size // row_bytes for size in sizes], dtype=np.int64)
        return ends

    def _held(self, numbers: Int64s) -> Iterator[tuple[slice, Int64s, Uint64s, Hashes]]:
        """Yield for each file with some of these documents which they are, where they stand in it, and its arrays."""
        places = np.concatenate([[0], np.searchsorted(numbers, self._ends)])
        for file in np.flatnonzero(np.diff(places)).tolist():
            mine = slice(int(places[file]), int(places[file + 1]))
            first = int(self._ends[file - 1]) if file else 0
            count = int(self._ends[file]) - first
            data = mapped(self.document_files[file])
            ids = data[: _ID_BYTES * count].view("<u8").reshape(-1, 2)
            hashes = data[_ID_BYTES * count :].view(f"<u{self.bits // 8}").reshape(count, self.num_hashes)
            yield mine, numbers[mine] - first, ids, hashes
