"""Document ids as numbers: two of 64 bits each, which compare as the ids do, for arrays of millions."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_DIGITS = 32


def id_words(doc_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return document ids as two numbers each, of shape (n, 2)."""
    digits = b"".join(doc_ids.cast(pa.binary()).to_pylist())
    return np.frombuffer(bytes.fromhex(digits.decode()), ">u8").reshape(-1, 2).astype(np.uint64)


def hex_ids(ids: npt.NDArray[np.uint64]) -> pa.Array:
    """Return document ids, two numbers each, as they are written."""
    digits = np.ascontiguousarray(ids, ">u8").tobytes().hex().encode()
    fixed = pa.Array.from_buffers(pa.binary(_DIGITS), len(ids), [None, pa.py_buffer(digits)])
    return fixed.cast(pa.binary()).cast(pa.string())
