"""Tables of the words that a library cuts: text by text, and a large text in pieces, so that memory is bounded.

A text is cut in pieces of a million characters and more, which end at white space, or behind 65,536 characters without
any. As everywhere, of a text the first `MOST_WORDS` words are looked at.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.analysis.cutting import WORD
from headrace.filters.analysis.limits import MOST_WORDS
from headrace.filters.analysis.token_words import words_of_tokens
from headrace.filters.analysis.tokens import WordTable
from headrace.filters.pieces import iter_pieces
from headrace.filters.utf8 import Bools, Int64s, Uint8s, decode

FindTokens = Callable[[str, Uint8s], Int64s]
"""From a text and its UTF-8 to its tokens, rows of [start, end) in bytes; white space may be part of them or not."""

_END_OF_PIECE = re.compile(r"\S{0,65536}\s?")
_CONTINUATION, _FOUR_BYTES = 0xC0, 0xF0  # the two bits that mark bytes inside a code point; the smallest lead of four


def cut_with(find_tokens: FindTokens, data: Uint8s, offsets: Int64s, concerned: Bools) -> WordTable:
    """Return the words of some of the texts that lie end to end in `data`; the others have none in the table."""
    words, count = np.empty(len(data) // 4 + 256, WORD), 0
    first = np.zeros(len(offsets), np.int64)
    for text, asked in enumerate(concerned.tolist()):
        ranges = (int(offsets[text]), int(offsets[text + 1]))
        for found in _iter_words(find_tokens, data, *ranges) if asked else ():
            words = _with_room(words, count, len(found))
            words[count : count + len(found)] = found
            count += len(found)
        first[text + 1] = count
    return WordTable(words[:count], first)


def _with_room(words: npt.NDArray[np.void], count: int, more: int) -> npt.NDArray[np.void]:
    """Return the same `count` words with room for more."""
    if count + more <= len(words):
        return words
    larger = np.empty(2 * (count + more), WORD)
    larger[:count] = words[:count]
    return larger


def _iter_words(find_tokens: FindTokens, data: Uint8s, start: int, end: int) -> Iterator[npt.NDArray[np.void]]:
    gap, left = start, MOST_WORDS
    for piece in iter_pieces(decode(data, start, end), _END_OF_PIECE):
        stop = start + len(piece.encode())
        tokens = start + find_tokens(piece, data[start:stop])
        words = words_of_tokens(data, tokens, gap, *load_codepoints())[:left]
        yield words
        left -= len(words)
        if not left:
            break
        gap = int(words["end"][-1]) if len(words) else gap
        start = stop


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
