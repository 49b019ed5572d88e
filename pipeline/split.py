"""Splits that no version of a corpus leaks through.

Whether a document is held out follows from its split key alone: the canonical URL, or the parent work of a chapter or
thread, or the document's own id. Recrawls of one page and chapters of one book have one key and fall on one side.
"""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from headrace.filters.urls import canonical_url

HELDOUT_UNIT = 10_000
"""Held-out shares are whole numbers of documents in this many, so that no rounding moves the border."""


def split_key(url: str | None, parent: str | None, doc_id: str) -> str:
    """Return 16 hex characters that documents share which must not straddle a split."""
    name = f"parent:{parent}" if parent else f"url:{canonical_url(url)}" if url else f"doc:{doc_id}"
    return sha256(f"headrace split 1\n{name}".encode(errors="surrogatepass")).hexdigest()[:16]


def is_heldout(key: str, heldout: int) -> bool:
    """Tell whether documents with this split key are held out when `heldout` in 10,000 are."""
    return int(key, 16) * HELDOUT_UNIT < heldout << 64


def heldout_rows(keys: Iterable[str], heldout: int) -> NDArray[np.bool_]:
    """Return `is_heldout` of many split keys at once."""
    numbers = np.frombuffer(bytes.fromhex("".join(keys)), dtype=">u8")
    first_kept = -(-(heldout << 64) // HELDOUT_UNIT)
    return numbers < np.uint64(first_kept) if first_kept < 1 << 64 else np.ones(len(numbers), dtype=bool)
