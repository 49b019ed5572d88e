"""Occurrences of units (windows, lines, paragraphs): exchanged by hash, and found again by document.

A file of occurrences holds them as `UNIT` has them, by hash; one of repeats holds, by row, those that are to go: the
row over all parts (uint64) and the number of the unit in its text (uint32).
"""

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headrace.pipeline.dedup.entries import Bools, Uint64s, joined
from headrace.pipeline.errors import IntegrityError

Units = npt.NDArray[Any]
Keep = Literal["first", "none"]

STORED = np.dtype([("hash", "<u8"), ("check", "<u4"), ("row", "<u4"), ("number", "<u4")])
REPEAT = np.dtype([("row", "<u8"), ("number", "<u4")])
_HASHES = 1 << 64


def open_array(path: Path, dtype: np.dtype[Any]) -> Units:
    """Map a file of records; raises IntegrityError where it holds no whole number of them."""
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise IntegrityError(f"{path}: {size} bytes are no whole number of records of {dtype.itemsize} bytes")
    return np.memmap(path, dtype, mode="r") if size else np.zeros(0, dtype)


def by_hash(units: Units) -> Units:
    """Return occurrences as they are stored: by hash, those of one hash in order."""
    stored = np.empty(len(units), STORED)
    order = np.argsort(units["hash"], kind="stable")
    for name in STORED.names or ():
        stored[name] = units[name][order]
    return stored


def between(units: Units, partition: int, partitions: int) -> Units:
    """Return the occurrences of one of `partitions` equal ranges of hashes."""
    low, high = (number * _HASHES // partitions for number in (partition, partition + 1))
    return units[first_at_least(units, "hash", low) : first_at_least(units, "hash", high)]


def first_at_least(records: Units, field: str, value: int) -> int:
    """Return where the first record stands that has so much in a field by which they ascend, their number if none has.

    A few records are read. To search the field as an array would copy it, because what lies between has other fields.
    """
    return bisect_left(range(len(records)), value, key=lambda place: int(records[place][field]))


def find_repeats(parts: Iterable[tuple[Units, Bools, Uint64s]], keep: Keep) -> Units:
    """Return the occurrences that are to go: of each unit that occurs twice or more all but the first, or all.

    The first is the one in the document with the smallest id, and in that the one with the smallest number.

    Args:
        parts: In row order, each part's occurrences of one range, which documents count, and their ids.
        keep: Whether the first one stays.
    """
    hashes, checks, rows, numbers, ids = ([np.zeros(0, kind)] for kind in ("<u8", "<u4", "<u8", "<u4", "<u8"))
    lower = [np.zeros(0, "<u8")]
    first_row = 0
    for units, counted, own_ids in parts:
        mine = np.asarray(units)[counted[units["row"]]]
        hashes.append(mine["hash"])
        checks.append(mine["check"])
        rows.append(mine["row"].astype("<u8") + np.uint64(first_row))
        numbers.append(mine["number"])
        ids.append(own_ids[mine["row"], 0])
        lower.append(own_ids[mine["row"], 1])
        first_row += len(counted)
    hash_ = joined(hashes)
    several = _occur_again(hash_)
    hash_ = hash_[several]
    check, row, number, high, low = (joined(pieces)[several] for pieces in (checks, rows, numbers, ids, lower))
    order = np.lexsort((number, low, high, check, hash_))
    same = (hash_[order][1:] == hash_[order][:-1]) & (check[order][1:] == check[order][:-1])
    again = np.append(False, same)
    gone = order[again if keep == "first" else again | np.append(same, False)] if len(order) else order
    found = np.empty(len(gone), REPEAT)
    found["row"], found["number"] = row[gone], number[gone]
    return found[np.lexsort((found["number"], found["row"]))]


def _occur_again(hashes: Uint64s) -> npt.NDArray[np.int64]:
    """Return the places of hashes that stand there more than once."""
    order = np.argsort(hashes)
    same = hashes[order][1:] == hashes[order][:-1]
    return order[np.append(False, same) | np.append(same, False)] if len(order) else order
