"""Words of scripts without spaces, by ICU's word break iterator (Unicode Standard Annex 29, and ICU's dictionaries).

ICU has dictionaries for Chinese and Japanese together, Thai, Lao, Khmer and Burmese; it chooses by script, so the
locale, which is the root, has no say. Each segment is a word, punctuation marks too, but white space and U+200B (zero
width space, by which Thai, Khmer and Burmese divide words where they do) are none.
"""

from operator import itemgetter

import numpy as np

from headrace.filters.analysis.token_tables import bytes_of_code_units, cut_with
from headrace.filters.analysis.tokens import WordTable
from headrace.filters.utf8 import Bools, Int64s, Uint8s

_ROOT = "root"
_ZERO_WIDTH_SPACE = np.frombuffer("\u200b".encode(), np.uint8)


def cut_segments(data: Uint8s, offsets: Int64s, concerned: Bools) -> WordTable:
    """Return the words of some of the texts that lie end to end in `data`; the others have none in the table."""
    return cut_with(_find_segments, data, offsets, concerned)


def _find_segments(text: str, data: Uint8s) -> Int64s:
    """Return rows of [start, end) in bytes."""
    from icu4py.breakers import WordBreaker

    ends = np.fromiter(map(itemgetter(1), WordBreaker(text, _ROOT).segments()), np.int64)
    edges = bytes_of_code_units(data, np.append(0, ends))
    rows = np.stack([edges[:-1], edges[1:]], axis=1)
    return rows[~_are_zero_width_spaces(data, rows)]


def _are_zero_width_spaces(data: Uint8s, rows: Int64s) -> Bools:
    found: Bools = rows[:, 1] - rows[:, 0] == len(_ZERO_WIDTH_SPACE)
    of_that_size = rows[found, 0]
    same = [data[of_that_size + place] == byte for place, byte in enumerate(_ZERO_WIDTH_SPACE)]
    found[found] = np.logical_and.reduce(same)
    return found
