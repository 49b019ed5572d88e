"""Pairs that were compared by their texts, remembered by the pair of contents.

A pair of contents has one similarity, whatever the rules, bands and corpora that led to it: so what one build looked at
no later build of the store looks at again. What is remembered are the tables `pairs` of artifacts of the stage
`duplicates`; each bears the digest of what its shingles are. Any of them may be deleted: its pairs are compared anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipeline.doc_ids import hex_ids, id_words, row_slices
from headrace.pipeline.schema import PAIRS
from headrace.pipeline.store import Store
from headrace.pipeline.tables import METADATA_PREFIX, read_columns

Uint64s = npt.NDArray[np.uint64]
Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]

_HALF = np.uint64(32)
_LOWER = np.uint64((1 << 32) - 1)

log = logging.getLogger(__name__)

SHINGLES = "shingles"
"""Metadata of a table of pairs: the digest of what decides a text's shingles."""


@dataclass(frozen=True)
class Compared:
    """Pairs of contents, each once and ascending, with their shared and all shingles.

    `contents` are two numbers each, ascending; a pair is the numbers of both in 64 bits, the smaller first.
    """

    contents: Uint64s
    pairs: Uint64s
    shared: Uint32s
    total: Uint32s

    @classmethod
    def none(cls, contents: Uint64s | None = None) -> "Compared":
        """Return no pairs of some contents."""
        known = np.zeros((0, 2), np.uint64) if contents is None else contents
        return cls(known, np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.pairs)

    def extended(self, pairs: Uint64s, shared: npt.NDArray[Any], total: npt.NDArray[Any]) -> "Compared":
        """Return these pairs and others of the same contents."""
        together, first = np.unique(np.append(self.pairs, pairs), return_index=True)
        shared, total = np.append(self.shared, shared.astype(np.uint32)), np.append(self.total, total.astype(np.uint32))
        return Compared(self.contents, together, shared[first], total[first])

    def find(self, pairs: Uint64s) -> Int64s:
        """Return where each of some pairs stands among these, -1 where it is not."""
        if not len(self):
            return np.full(len(pairs), -1, np.int64)
        places = np.minimum(np.searchsorted(self.pairs, pairs), len(self) - 1)
        return np.where(self.pairs[places] == pairs, places, -1)

    def at(self, places: Int64s) -> "Compared":
        """Return the pairs that stand at some places, ascending."""
        return Compared(self.contents, self.pairs[places], self.shared[places], self.total[places])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the pairs as rows of a table."""
        for some in row_slices(len(self)):
            sides = (self.pairs[some] >> _HALF, self.pairs[some] & _LOWER)
            ids = (hex_ids(self.contents[side.astype(np.int64)]) for side in sides)
            numbers = (pa.array(column[some].astype(np.int64)) for column in (self.shared, self.total))
            yield pa.RecordBatch.from_arrays([*ids, *numbers], schema=PAIRS)


def pair_up(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Uint64s:
    """Return pairs of contents, given by their numbers, in 64 bits each."""
    ahead, behind = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    pairs: Uint64s = ahead << _HALF | behind
    return pairs


def remembered(store: Store, shingles: str, contents: Uint64s) -> Compared:
    """Return the pairs of these contents, which are ascending, that a build of the store has compared."""
    found = [(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for path in _tables(store):
        try:
            stated = pq.read_schema(path).metadata or {}
            if stated.get(f"{METADATA_PREFIX}{SHINGLES}".encode()) == shingles.encode():
                found.append(_among(read_columns(path), contents))
        except (OSError, pa.ArrowException) as error:
            log.warning("%s: cannot be read (%s); its pairs are compared anew", path, error)
    pairs, shared, total = map(np.concatenate, zip(*found, strict=True))
    return Compared.none(contents).extended(pairs, shared, total)


def _among(table: pa.Table, contents: Uint64s) -> tuple[Uint64s, Int64s, Int64s]:
    """Return the pairs of a table both of which are among some contents."""
    left, right = (_numbers(table.column(name), contents) for name in ("left", "right"))
    known = (left >= 0) & (right >= 0)
    shared, total = (table.column(name).to_numpy()[known] for name in ("shared", "total"))
    return pair_up(left[known], right[known]), shared, total


def _numbers(column: pa.ChunkedArray, contents: Uint64s) -> Int64s:
    """Return where each content of a column stands among ascending ones, -1 where it is not.

    Of several with the same first 64 bits, which are of a digest, the first alone is found.
    """
    if not len(contents) or not len(column):
        return np.full(len(column), -1, np.int64)
    encoded = column.dictionary_encode().unify_dictionaries()
    asked = id_words(encoded.chunk(0).dictionary)  # a content is in many pairs
    places = np.minimum(np.searchsorted(contents[:, 0], asked[:, 0]), len(contents) - 1)
    numbers = np.where((contents[places] == asked).all(axis=1), places, -1)
    return np.concatenate([numbers[chunk.indices.to_numpy()] for chunk in encoded.chunks])


def _tables(store: Store) -> Iterator[Path]:
    yield from sorted(store.root.glob("artifacts/duplicates/*/pairs-*.parquet"))
