"""Splits that no version of a corpus leaks through.

Whether a document is held out follows from its split key alone: the canonical URL, or the parent work of a chapter or
thread, or the document's own id. Recrawls of one page and chapters of one book have one key and fall on one side.
"""

import re
from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

HELDOUT_UNIT = 10_000
"""Held-out shares are whole numbers of documents in this many, so that no rounding moves the border."""


_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?")
"""Authority without user, path and query, after RFC 3986, appendix B; Python's own parser changes between releases."""

_DEFAULT_PORTS = (":80", ":443", ":")


def canonical_url(url: str) -> str:
    """Return what recrawls of a page share: host without `www.`, path without a last slash, sorted query; no scheme.

    What is no URL with a host is returned as it is.
    """
    match = _URL.match(url.strip())
    if match is None or not match[1]:
        return url
    host, path, query = match[1].lower(), match[2].rstrip("/"), match[3]
    for port in _DEFAULT_PORTS:
        host = host.removesuffix(port)
    return f"{host.removeprefix('www.')}{path}{'?' + '&'.join(sorted(query.split('&'))) if query else ''}"


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
