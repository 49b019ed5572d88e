"""Words of tokens that somebody else cut, in the form that the kernel gives its own."""

import numpy as np

from headrace.filters.analysis.codepoints import Flag
from headrace.filters.analysis.cutting import AFTER_SPACE, WORD, write_word
from headrace.filters.analysis.hashing import append_byte
from headrace.filters.analysis.lines import skip_space, trim_space
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

_SPACE = int(Flag.SPACE)
_PLAIN_SPACE = ord(" ")


@kernel()
def words_of_tokens(data, tokens, gap, index, pages):  # type: ignore[no-untyped-def]
    """Return the words that tokens are, of dtype WORD.

    `tokens` are rows of [start, end) in `data`, in order; `gap` is where the word before them ends, or where
    their text begins. A word is a token without the white space at its ends, and a token of white space is none.
    """
    words, count = np.empty(len(tokens), WORD), np.int64(0)
    for token in range(len(tokens)):
        start = skip_space(data, tokens[token, 0], tokens[token, 1], index, pages)
        end = trim_space(data, start, tokens[token, 1], index, pages)
        if start == end:
            continue
        position, num_chars, value = start, np.int64(0), np.uint64(0)
        some, every = np.uint32(0), ~np.uint32(0)
        while position < end:
            code, length = decode(data, position)
            flags = flags_of(code, index, pages)
            some |= flags
            every &= flags
            for byte in range(position, position + length):
                value = append_byte(value, data[byte])
            position += length
            num_chars += 1
        count = write_word(words, count, value, start, end, num_chars, some, every)
        if start > gap + 1 or (start > gap and data[gap] != _PLAIN_SPACE):
            words[count - 1].marks |= AFTER_SPACE
        gap = end
    return words[:count]


@kernel()
def longest_runs(data, offsets, index, pages):  # type: ignore[no-untyped-def]
    """Return for each text how many characters its longest run without white space has."""
    longest = np.zeros(len(offsets) - 1, np.int64)
    for text in range(len(offsets) - 1):
        position, run = offsets[text], np.int64(0)
        while position < offsets[text + 1]:
            code, length = decode(data, position)
            run = np.int64(0) if flags_of(code, index, pages) & _SPACE else run + 1
            longest[text] = max(longest[text], run)
            position += length
    return longest
