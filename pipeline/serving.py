"""Which documents of a window of tokens are served, and how often: splits and repetition, as the stream asks them."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, NonNegativeInt, model_validator

from headrace.pipeline.schema import Strict

WINDOW_DOCUMENTS, WINDOW_POSITIONS = 8192, 1 << 24
"""A storage window ends after so many documents, or with the one that brings it to so many positions."""

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Repetition(Strict, strict=False):
    """How often a training document is served in an epoch, by a column of whole numbers beside the tokens.

    `counts` are pairs (least value, times), ascending: the last pair whose value a document reaches decides. One that
    reaches none, or has no value, is served once; one served 0 times is left out.
    """

    column: str = "cluster_size"
    counts: tuple[tuple[int, NonNegativeInt], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        least = [pair[0] for pair in self.counts]
        if least != sorted(set(least)):
            raise ValueError(f"counts: the least values {least} must ascend")
        return self

    def times(self, column: pa.Array | pa.ChunkedArray) -> Int64s:
        """Return how often each document is served."""
        values = column.cast(pa.int64())
        valid = values.is_valid().to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else None
        if valid is None:
            valid = values.is_valid().to_numpy()
        numbers: Any = values.fill_null(0).to_numpy()
        least = np.array([pair[0] for pair in self.counts], np.int64)
        times = np.array([1, *(pair[1] for pair in self.counts)], np.int64)
        return np.where(valid, times[np.searchsorted(least, numbers, side="right")], 1)


def served(chosen: Bools, times: Int64s | None = None) -> Int64s:
    """Return the numbers of the documents that are served, in order.

    Documents come in order, each once; then those that are served at least twice, each once; and so on, so that two
    servings of one are as far apart as the window allows.
    """
    rows = np.flatnonzero(chosen)
    if times is None:
        return rows
    counts = times[rows]
    rounds = [rows[counts > number] for number in range(int(counts.max(initial=0)))]
    return np.concatenate([np.zeros(0, np.int64), *rounds])


def window_edges(positions: Sequence[int] | Int64s, documents: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield where windows begin and end among documents of so many positions each.

    A window ends after `documents` documents, or with the one that brings it to `most` positions.
    """
    ends = np.cumsum(positions)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        full = int(np.searchsorted(ends, before + most)) + 1
        end = min(first + documents, full, len(ends))
        yield first, end
        first = end
