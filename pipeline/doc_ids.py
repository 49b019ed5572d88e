"""Document ids as numbers: two of 64 bits each, which compare as the ids do, for arrays of millions."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_DIGITS = 32
ROWS_AT_ONCE = 1 << 20
"""Of a table of ids that is made at once: Arrow's offsets end at 2 GiB, which 2^26 ids are."""


def row_slices(num_rows: int) -> Iterator[slice]:
    """Yield the rows of a table as slices of what is made at once."""
    for start in range(0, num_rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, num_rows))


def id_words(doc_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return document ids as two numbers each, of shape (n, 2)."""
    digits = b"".join(doc_ids.cast(pa.binary()).to_pylist())
    return np.frombuffer(bytes.fromhex(digits.decode()), ">u8").reshape(-1, 2).astype(np.uint64)


def hex_ids(ids: npt.NDArray[np.uint64]) -> pa.Array:
    """Return document ids, two numbers each, as they are written; fewer than 2^26 (see `row_slices`)."""
    digits = np.ascontiguousarray(ids, ">u8").tobytes().hex().encode()
    fixed = pa.Array.from_buffers(pa.binary(_DIGITS), len(ids), [None, pa.py_buffer(digits)])
    return fixed.cast(pa.binary()).cast(pa.string())
