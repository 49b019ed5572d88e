"""From what a library counts (code points, or UTF-16 code units) to byte offsets, and from tokens to a table of words."""

from collections.abc import Sequence

import numpy as np

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.analysis.cutting import WORD
from headrace.filters.analysis.token_words import words_of_tokens
from headrace.filters.analysis.tokens import WordTable
from headrace.filters.utf8 import Bools, Int64s, Uint8s

_CONTINUATION, _FOUR_BYTES = 0xC0, 0xF0  # the bits that say so, and the smallest lead of four bytes


def bytes_of_code_points(data: Uint8s, positions: Int64s) -> Int64s:
    """Return where code points begin in valid UTF-8; the position behind the last one is its length."""
    return np.append(_leads(data), len(data))[positions]


def bytes_of_code_units(data: Uint8s, positions: Int64s) -> Int64s:
    """Return the same for positions that count UTF-16 code units, of which astral characters have two."""
    leads = _leads(data)
    units = 1 + (data[leads] >= _FOUR_BYTES)
    return np.append(np.repeat(leads, units), len(data))[positions]


def _leads(data: Uint8s) -> Int64s:
    return np.flatnonzero((data & _CONTINUATION) != 0x80)


def table_of_tokens(data: Uint8s, offsets: Int64s, tokens: Sequence[Int64s]) -> WordTable:
    """Return the words of each text's tokens, rows of [start, end) in `data`."""
    first = np.zeros(len(offsets), np.int64)
    np.cumsum([len(rows) for rows in tokens], out=first[1:])
    rows = np.concatenate([np.empty((0, 2), np.int64), *tokens])
    return WordTable(*words_of_tokens(data, offsets, rows, first, *load_codepoints()))


def replace_texts(table: WordTable, replaced: Bools, other: WordTable) -> WordTable:
    """Return a table with the words of some texts taken from another table of the same texts."""
    counts = np.where(replaced, np.diff(other.first), np.diff(table.first))
    first = np.zeros(len(table.first), np.int64)
    np.cumsum(counts, out=first[1:])
    words = np.empty(int(first[-1]), WORD)
    for text, is_replaced in enumerate(replaced.tolist()):
        source = other if is_replaced else table
        words[first[text] : first[text + 1]] = source.words[source.first[text] : source.first[text + 1]]
    return WordTable(words, first)
