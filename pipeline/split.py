"""Splits that no version of a corpus leaks through.

Whether a document is held out follows from its split key alone: the canonical URL, or the parent work of a chapter or
thread, or the document's own id. Recrawls of one page and chapters of one book have one key and fall on one side.
"""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.filters.urls import canonical_url

_KEY_DIGITS = 16
HELDOUT_UNIT = 10_000
"""Held-out shares are whole numbers of documents in this many, so that no rounding moves the border."""


def split_key(url: str | None, parent: str | None, doc_id: str) -> str:
    """Return 16 hex characters that documents share which must not straddle a split."""
    name = f"parent:{parent}" if parent else f"url:{canonical_url(url)}" if url else f"doc:{doc_id}"
    return sha256(f"headrace split 1\n{name}".encode(errors="surrogatepass")).hexdigest()[:16]


def is_heldout(key: str, heldout: int) -> bool:
    """Tell whether documents with this split key are held out when `heldout` in 10,000 are."""
    return int(key, 16) * HELDOUT_UNIT < heldout << 64


def heldout_column(keys: pa.Array | pa.ChunkedArray, heldout: int) -> NDArray[np.bool_]:
    """Return `heldout_rows` of a column of split keys, read from its bytes."""
    array = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    _, offsets, data = array.cast(pa.binary()).buffers()
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    if array.null_count or (np.diff(bounds) != _KEY_DIGITS).any():
        return heldout_rows(array.to_pylist(), heldout)
    digits = np.frombuffer(data, np.uint8, len(array) * _KEY_DIGITS, int(bounds[0])).reshape(-1, _KEY_DIGITS)
    nibbles = digits - np.where(digits >= ord("a"), np.uint8(ord("a") - 10), np.uint8(ord("0")))
    numbers = ((nibbles[:, ::2] << np.uint8(4)) | nibbles[:, 1::2]).view(">u8").ravel()
    return _below(numbers, heldout)


def heldout_rows(keys: Iterable[str], heldout: int) -> NDArray[np.bool_]:
    """Return `is_heldout` of many split keys at once."""
    return _below(np.frombuffer(bytes.fromhex("".join(keys)), dtype=">u8"), heldout)


def _below(numbers: NDArray[np.uint64], heldout: int) -> NDArray[np.bool_]:
    first_kept = -(-(heldout << 64) // HELDOUT_UNIT)
    return numbers < np.uint64(first_kept) if first_kept < 1 << 64 else np.ones(len(numbers), dtype=bool)
