"""Megatron-LM's indexed dataset: PREFIX.bin has tokens end to end, PREFIX.idx where each document begins.

The index is (megatron/core/datasets/indexed_dataset.py): `MMIDIDX`, two zero bytes; version 1 as uint64; the code of
the tokens' type as a byte; numbers of sequences and of documents + 1 as uint64; lengths of sequences (int32), their
beginnings in bytes (int64), and the number of the sequence that each document begins with, and one after the last
(int64). All are little-endian; a sequence is a document here.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"MMIDIDX\x00\x00"
_CODES = {np.dtype("<i4"): 4, np.dtype("<u2"): 8}
_AT_ONCE = 1 << 16


class IndexedWriter:
    """Writes one indexed dataset."""

    def __init__(self, prefix: Path, dtype: np.dtype[Any]) -> None:
        self._prefix, self._dtype = prefix, dtype
        self._file = prefix.with_suffix(".bin").open("wb")
        self._lengths: list[NDArray[np.int32]] = []
        self._pending: list[int] = []

    def add(self, doc_id: str, tokens: NDArray[Any]) -> None:
        """Write a document; its id has no place in this format."""
        self._file.write(tokens.tobytes())
        self._pending.append(len(tokens))
        if len(self._pending) == _AT_ONCE:
            self._settle()

    def _settle(self) -> None:
        self._lengths.append(np.array(self._pending, "<i4"))
        self._pending = []

    def close(self) -> None:
        """Finish the tokens and write the index."""
        self._file.close()
        self._settle()
        lengths = np.concatenate(self._lengths)
        ends = np.cumsum(lengths.astype("<i8") * self._dtype.itemsize)
        begins = np.concatenate([np.zeros(min(1, len(ends)), "<i8"), ends[:-1]]).astype("<i8")
        with self._prefix.with_suffix(".idx").open("wb") as file:
            file.write(_MAGIC + np.array([1], "<u8").tobytes() + bytes([_CODES[self._dtype]]))
            file.write(np.array([len(lengths), len(lengths) + 1], "<u8").tobytes())
            for array in (lengths, begins, np.arange(len(lengths) + 1, dtype="<i8")):
                file.write(array.tobytes())
