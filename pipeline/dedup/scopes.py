"""Scopes: documents of other values in some columns are never compared.

A scope's number is a hash of its values, so it is the same in every part and build.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headrace.filters.lsh import mix
from headrace.pipeline.dedup.entries import Uint64s
from headrace.pipeline.hashing import digest_json


def number_scopes(columns: Sequence[pa.ChunkedArray]) -> Uint64s:
    """Return for each row a number of its values in the columns; null is a value like others."""
    numbers = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        values = np.array([_number(value) for value in encoded.dictionary.to_pylist()], np.uint64)
        numbers = mix(numbers + np.uint64(1)) ^ values[encoded.indices.to_numpy(zero_copy_only=False)]
    return numbers


def _number(value: object) -> int:
    return int(digest_json(value)[:16], 16)
