"""Pairs that were compared by their texts, remembered by the pair of contents.

A pair of contents has one similarity, whatever the rules, bands and corpora that led to it: so what one build looked at
no later build of the store looks at again. What is remembered are the tables `pairs` of artifacts of the stage
`duplicates`; each bears the digest of what its shingles are. Any of them may be deleted: its pairs are compared anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.filters.lsh import mix
from headrace.pipeline.doc_ids import hex_ids, id_words, row_slices
from headrace.pipeline.schema import PAIRS
from headrace.pipeline.store import Store
from headrace.pipeline.tables import METADATA_PREFIX, read_columns

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

log = logging.getLogger(__name__)

SHINGLES = "shingles"
"""Metadata of a table of pairs: the digest of what decides a text's shingles."""


@dataclass(frozen=True)
class Compared:
    """Pairs of contents, four numbers each (the smaller content first), with their shared and all shingles."""

    contents: Uint64s
    shared: Int64s
    total: Int64s

    @classmethod
    def none(cls) -> "Compared":
        """Return no pairs."""
        return cls(np.zeros((0, 4), np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def of(cls, left: Uint64s, right: Uint64s, shared: Int64s, total: Int64s) -> "Compared":
        """Return pairs, each once, in the order of their contents."""
        contents, first = np.unique(pair_up(left, right), axis=0, return_index=True)
        return cls(contents, shared[first], total[first])

    def __add__(self, other: "Compared") -> "Compared":
        """Return the pairs of both."""
        both = np.concatenate([self.contents, other.contents])
        numbers = [np.append(self.shared, other.shared), np.append(self.total, other.total)]
        return Compared.of(both[:, :2], both[:, 2:], *numbers)

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the pairs as rows of a table."""
        for some in row_slices(len(self.shared)):
            ids = hex_ids(self.contents[some, :2]), hex_ids(self.contents[some, 2:])
            numbers = pa.array(self.shared[some]), pa.array(self.total[some])
            yield pa.RecordBatch.from_arrays([*ids, *numbers], schema=PAIRS)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Compared":
        """Return the pairs of a table."""
        contents = [id_words(table.column(name)) for name in ("left", "right")]
        numbers = [table.column(name).to_numpy() for name in ("shared", "total")]
        return cls(np.concatenate(contents, axis=1), *numbers)

    def find(self, left: Uint64s, right: Uint64s) -> Int64s:
        """Return where each pair of contents (two numbers each) stands among these, -1 where it is not."""
        if not len(self.contents):
            return np.full(len(left), -1, np.int64)
        asked = pair_up(left, right)
        keys = _key(self.contents)
        order = np.argsort(keys, kind="stable")
        places = np.minimum(np.searchsorted(keys[order], _key(asked)), len(order) - 1)
        found = order[places]
        return np.where((self.contents[found] == asked).all(axis=1), found, -1)

    def among(self, contents: Uint64s) -> "Compared":
        """Return those pairs of which both may be among these contents."""
        known = np.isin(self.contents[:, 0], contents[:, 0]) & np.isin(self.contents[:, 2], contents[:, 0])
        return Compared(self.contents[known], self.shared[known], self.total[known])


def pair_up(left: Uint64s, right: Uint64s) -> Uint64s:
    """Return pairs of contents as four numbers, the smaller content first."""
    swap = (left[:, 0] > right[:, 0]) | ((left[:, 0] == right[:, 0]) & (left[:, 1] > right[:, 1]))
    ahead, behind = np.where(swap[:, None], right, left), np.where(swap[:, None], left, right)
    return np.concatenate([ahead, behind], axis=1)


def _key(pairs: Uint64s) -> Uint64s:
    key = np.zeros(len(pairs), np.uint64)
    for column in range(4):
        key = mix(key ^ pairs[:, column])
    return key


def remembered(store: Store, shingles: str, contents: Uint64s) -> Compared:
    """Return the pairs of these contents that a build of the store has compared."""
    found = Compared.none()
    for path in _tables(store):
        try:
            stated = pq.read_schema(path).metadata or {}
            if stated.get(f"{METADATA_PREFIX}{SHINGLES}".encode()) == shingles.encode():
                found += Compared.from_table(read_columns(path)).among(contents)
        except (OSError, pa.ArrowException) as error:
            log.warning("%s: cannot be read (%s); its pairs are compared anew", path, error)
    return found


def _tables(store: Store) -> Iterator[Path]:
    yield from sorted(store.root.glob("artifacts/duplicates/*/pairs-*.parquet"))
