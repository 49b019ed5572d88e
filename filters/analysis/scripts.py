"""Which texts are in scripts without spaces, told by their letters."""

import numpy as np

from headrace.filters.analysis.letters import UNSPACED_BLOCKS, WITHOUT_DICTIONARY, Letter
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel
from headrace.filters.utf8 import Bools

_ALPHABETIC, _UNSPACED = int(Letter.ALPHABETIC), int(Letter.UNSPACED)
_ALL, _OF_UNSPACED, _OF_UNKNOWN = range(3)
_UNKNOWN = np.array([(first, last) for first, last, name in UNSPACED_BLOCKS if name in WITHOUT_DICTIONARY], np.uint32)


@kernel()
def count_letters(data, offsets, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text: letters, those of scripts without spaces, and of these those that ICU has no words of."""
    counts = np.zeros((len(offsets) - 1, 3), np.int64)
    for text in range(len(offsets) - 1):
        position, row = offsets[text], counts[text]
        while position < offsets[text + 1]:
            code, length = decode(data, position)
            flags = flags_of(code, index, pages)
            row[_ALL] += (flags & _ALPHABETIC) != 0
            if flags & _UNSPACED:
                row[_OF_UNSPACED] += 1
                for block in range(len(_UNKNOWN)):
                    row[_OF_UNKNOWN] += _UNKNOWN[block, 0] <= code <= _UNKNOWN[block, 1]
            position += length
    return counts


def mostly_unspaced(data, offsets, index, pages) -> Bools:  # type: ignore[no-untyped-def]
    """Return for each text whether more than half of its letters are of scripts without spaces."""
    return _over_half(count_letters(data, offsets, index, pages), _OF_UNSPACED)


def without_dictionary(data, offsets, index, pages) -> Bools:  # type: ignore[no-untyped-def]
    """Return for each text whether more than half of its letters are of such scripts that ICU has no dictionary for."""
    return _over_half(count_letters(data, offsets, index, pages), _OF_UNKNOWN)


def segmentable(data, offsets, index, pages) -> Bools:  # type: ignore[no-untyped-def]
    """Return for each text whether it is in scripts without spaces whose words ICU knows."""
    counts = count_letters(data, offsets, index, pages)
    return _over_half(counts, _OF_UNSPACED) & ~_over_half(counts, _OF_UNKNOWN)


def _over_half(counts, which) -> Bools:  # type: ignore[no-untyped-def]
    found: Bools = 2 * counts[:, which] > counts[:, _ALL]
    return found
