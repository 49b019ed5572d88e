"""The words of a batch of texts: cut by the kernel, with the few doubtful chunks put to the reference.

The reference is `filters.words.EnglishTokenizer`, which is compared with spaCy itself; the kernel is compared with the
reference. What the kernel cannot know is remembered by chunk, so a URL that stands on every page is asked about once.
"""

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.analysis.cutting import chunk_end, chunk_start, cut_batch, replace_words
from headrace.filters.analysis.lexicon import english_lexicon
from headrace.filters.utf8 import Int64s, Uint8s, decode
from headrace.filters.words import english_tokenizer

_ROWS_AT_ONCE = _MEMO_CHUNKS = 1 << 16
_SURROUNDINGS = 12  # words on either side; the longest sequence that spells an exception has fewer


class WordTable(NamedTuple):
    """The words of some texts, of dtype WORD; those of text i are `first[i]` to `first[i + 1]`."""

    words: npt.NDArray[np.void]
    first: Int64s

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.first) - 1


def cut_words(data: Uint8s, offsets: Int64s) -> WordTable:
    """Return the words of texts that lie end to end in `data`, text i from offsets[i] to offsets[i + 1].

    They are those of datatrove 0.10.1's English word tokenizer (spaCy 3.8, white space left out).
    """
    words, count, first, doubtful = cut_batch(data, offsets, *load_codepoints(), *english_lexicon())
    table = WordTable(words[:count], first)
    return _corrected(data, table, doubtful) if len(doubtful) else table


def _corrected(data: Uint8s, table: WordTable, doubtful: Int64s) -> WordTable:
    """Replace the words of those chunks that the reference cuts in another way."""
    remembered: dict[bytes, list[int] | None] = {}
    runs, lengths = array("q"), array("q")
    for start, end, first, last in _rows(doubtful):
        chunk = data[start:end].tobytes()
        if chunk not in remembered:
            if len(remembered) == _MEMO_CHUNKS:
                remembered.clear()
            remembered[chunk] = _alone(chunk.decode())
        pieces = remembered[chunk]
        if pieces is None:
            pieces = _among_others(data, table, start, end, first, last)
        if pieces != table.words["num_bytes"][first:last].tolist():
            runs.extend((start, first, last, len(pieces)))
            lengths.extend(pieces)
    if not runs:
        return table
    changes = np.array(runs, np.int64).reshape(-1, 4), np.array(lengths, np.int64)
    return WordTable(*replace_words(data, table.words, table.first, *changes, *load_codepoints()))


def _rows(table: Int64s) -> Iterator[list[int]]:
    """Yield the rows of a table as lists, few of which are there at once."""
    for start in range(0, len(table), _ROWS_AT_ONCE):
        yield from table[start : start + _ROWS_AT_ONCE].tolist()


def _alone(chunk: str) -> list[int] | None:
    """Return the lengths in bytes of a chunk's words, or None where the chunks around it have a say."""
    tokenizer = english_tokenizer()
    pieces = tokenizer.cut_chunk(chunk)
    return None if tokenizer.may_join(pieces) else [len(piece.encode()) for piece in pieces]


def _among_others(data: Uint8s, table: WordTable, start: int, end: int, first: int, last: int) -> list[int]:
    """Return the lengths in bytes of the words of a chunk, some of which may spell an exception together."""
    text = int(np.searchsorted(table.first, first, side="right")) - 1
    low, high = int(table.first[text]), int(table.first[text + 1]) - 1
    begin, stop = _start(table, low), int(table.words[high]["end"])
    begin = chunk_start(data, begin, _start(table, max(first - _SURROUNDINGS, low)), *load_codepoints())
    stop = chunk_end(data, int(table.words[min(last + _SURROUNDINGS, high)]["end"]), stop, *load_codepoints())
    before, after = decode(data, begin, start), decode(data, end, stop)
    chunk = decode(data, start, end)
    words = english_tokenizer().words_within(before + chunk + after, len(before), len(before) + len(chunk))
    return [len(word.encode()) for word in words]


def _start(table: WordTable, word: int) -> int:
    return int(table.words[word]["end"]) - int(table.words[word]["num_bytes"])


def word_strings(data: Uint8s, table: WordTable) -> list[list[str]]:
    """Return the words of each text as strings."""
    ends = table.words["end"].tolist()
    starts = (table.words["end"] - table.words["num_bytes"]).tolist()
    view = data.tobytes()
    strings = [view[a:b].decode() for a, b in zip(starts, ends, strict=True)]
    return [strings[first:end] for first, end in pairwise(table.first.tolist())]
