"""Buckets: the documents that share a key, among those that may be duplicates at all.

A file of buckets holds the number of members (uint64), the members (uint64, numbers of documents over all parts), and
the size of each bucket (uint32), little-endian. Only buckets of two and more are there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.pipeline.dedup.entries import Bools, Entries, Uint64s, joined
from headrace.pipeline.errors import IntegrityError

Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Buckets:
    """Members bucket by bucket, in each by number, and how many each has."""

    members: Uint64s
    sizes: Uint32s

    @classmethod
    def find(cls, parts: Iterable[tuple[Entries, Bools]]) -> "Buckets":
        """Return the buckets of the entries of all parts, in the order of their keys.

        Args:
            parts: In row order, each part's entries (of one range of keys), and for each of its documents whether it
                may be a member.
        """
        keys, members, first_row = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], 0
        for entries, chosen in parts:
            rows = np.asarray(entries.rows)
            mine = chosen[rows]
            keys.append(np.asarray(entries.keys)[mine])
            members.append(rows[mine].astype(np.uint64) + np.uint64(first_row))
            first_row += len(chosen)
        return cls._group(keys, members)

    @classmethod
    def _group(cls, key_pieces: list[Uint64s], member_pieces: list[Uint64s]) -> "Buckets":
        """Group members by their keys, both in pieces, which are taken out of their lists."""
        keys = joined(key_pieces)
        if not len(keys):
            return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
        order = np.argsort(keys, kind="stable")  # members of one key stay in order
        keys = keys[order]
        same = keys[1:] == keys[:-1]
        del keys
        again = np.append(False, same)
        several = again | np.append(same, False)
        order, first = order[several], np.flatnonzero(~again[several])
        sizes = np.diff(np.append(first, len(order)))
        return cls(joined(member_pieces)[order], sizes.astype(np.uint32))

    @classmethod
    def open(cls, path: Path) -> "Buckets":
        """Map a file of buckets.

        Raises:
            IntegrityError: it is not one.
        """
        data = np.memmap(path, dtype=np.uint8, mode="r")
        number = int(data[:8].view("<u8")[0]) if len(data) >= 8 else -1
        if number < 0 or len(data) < 8 + 8 * number or (len(data) - 8 - 8 * number) % 4:
            raise IntegrityError(f"{path}: not a file of buckets, or cut short")
        return cls(data[8 : 8 + 8 * number].view("<u8"), data[8 + 8 * number :].view("<u4"))

    @classmethod
    def together(cls, pieces: Sequence["Buckets"]) -> "Buckets":
        """Return the buckets of all pieces, in order."""
        members = [np.zeros(0, np.uint64), *(piece.members for piece in pieces)]
        sizes = [np.zeros(0, np.uint32), *(piece.sizes for piece in pieces)]
        return cls(np.concatenate(members), np.concatenate(sizes))

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        number = np.array([len(self.members)], "<u8").tobytes()
        return number + self.members.astype("<u8", copy=False).tobytes() + self.sizes.astype("<u4").tobytes()

    def candidates(self) -> Int64s:
        """Return the documents that are in some bucket, ascending."""
        return np.unique(self.members).astype(np.int64)
