"""Words of scripts without spaces, by ICU's word break iterator (Unicode Standard Annex 29, and ICU's dictionaries).

ICU has dictionaries for Chinese and Japanese together, Thai, Lao, Khmer and Burmese; it chooses by script, so the
locale, which is the root, has no say. Each segment is a word, punctuation marks too, but white space and U+200B (zero
width space, by which Thai, Khmer and Burmese divide words where they do) are none.
"""

from operator import itemgetter

import numpy as np

from headrace.filters.analysis.token_edges import bytes_of_code_units, table_of_tokens
from headrace.filters.analysis.tokens import WordTable
from headrace.filters.utf8 import Bools, Int64s, Uint8s, decode

_ROOT = "root"
_NONE = np.empty((0, 2), np.int64)
_ZERO_WIDTH_SPACE = np.frombuffer("\u200b".encode(), np.uint8)


def cut_segments(data: Uint8s, offsets: Int64s, concerned: Bools) -> WordTable:
    """Return the words of some of the texts that lie end to end in `data`; the others have none in the table."""
    ranges = zip(concerned.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    tokens = [start + _segments(data[start:end]) if asked else _NONE for asked, start, end in ranges]
    return table_of_tokens(data, offsets, tokens)


def _segments(data: Uint8s) -> Int64s:
    """Return rows of [start, end) in bytes."""
    from icu4py.breakers import WordBreaker

    breaker = WordBreaker(decode(data, 0, len(data)), _ROOT)
    ends = np.fromiter(map(itemgetter(1), breaker.segments()), np.int64)
    edges = bytes_of_code_units(data, np.concatenate([[0], ends]))
    rows = np.stack([edges[:-1], edges[1:]], axis=1)
    return rows[~_are_zero_width_spaces(data, rows)]


def _are_zero_width_spaces(data: Uint8s, rows: Int64s) -> Bools:
    found = rows[:, 1] - rows[:, 0] == len(_ZERO_WIDTH_SPACE)
    long_enough = np.flatnonzero(found)
    for place, byte in enumerate(_ZERO_WIDTH_SPACE):
        found[long_enough] &= data[rows[long_enough, 0] + place] == byte
    return found
