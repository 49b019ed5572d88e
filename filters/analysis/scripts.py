"""Which texts are in scripts without spaces, told by their letters."""

import numpy as np

from headrace.filters.analysis.letters import Letter
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

_ALPHABETIC, _UNSPACED = int(Letter.ALPHABETIC), int(Letter.UNSPACED)


@kernel()
def mostly_unspaced(data, offsets, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text whether more than half of its letters are of scripts without spaces."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for text in range(len(offsets) - 1):
        position, letters, unspaced = offsets[text], 0, 0
        while position < offsets[text + 1]:
            code, length = decode(data, position)
            flags = flags_of(code, index, pages)
            letters += (flags & _ALPHABETIC) != 0
            unspaced += (flags & _UNSPACED) != 0
            position += length
        found[text] = 2 * unspaced > letters
    return found
