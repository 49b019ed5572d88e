"""Fixed strings in texts, compared byte by byte."""

import numpy as np

from headrace.filters.kernels import kernel


@kernel(within=True)
def lower(byte):  # type: ignore[no-untyped-def]
    """Return an ASCII letter in lower case, and every other byte as it is."""
    return byte | np.uint8(32) if 65 <= byte <= 90 else byte


@kernel()
def stands_at(data, position, end, phrases, first, last):  # type: ignore[no-untyped-def]
    """Return whether phrases[first:last], in lower case, stands at a position of data[:end], ASCII in any case."""
    if position + last - first > end:
        return False
    for offset in range(last - first):  # noqa: SIM110 - kernels have no generators
        if lower(data[position + offset]) != phrases[first + offset]:
            return False
    return True


@kernel()
def stands_exactly(data, position, end, word):  # type: ignore[no-untyped-def]
    """Return whether a word stands at a position of data[:end], to the byte."""
    if position + len(word) > end:
        return False
    for offset in range(len(word)):  # noqa: SIM110 - kernels have no generators
        if data[position + offset] != word[offset]:
            return False
    return True
