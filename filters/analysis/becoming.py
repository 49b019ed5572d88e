"""What each code point becomes in simplified text: tables for kernels, made of the Python that is the reference.

A page of 256 code points is made when one of them first comes up; a process sees few.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.codepoints import Flag, load_codepoints
from headrace.filters.analysis.hashing import read_eight
from headrace.filters.analysis.utf8 import decode
from headrace.filters.kernels import kernel
from headrace.filters.normalize import is_digit, simplify_character
from headrace.filters.utf8 import Uint8s

SPACE, DIGIT, INERT, OTHER = 0, 1, 2, 3  # a boundary, a digit, letters that nothing cuts beside, something else
MOST_BYTES = 16  # of what one code point becomes
_NUM_PAGES, _PAGE = 0x1100, 256
_SURROGATES = range(0xD800, 0xE000)
_ASCII, _HIGH_BITS = 128, np.uint64(0x8080808080808080)


class Becoming(NamedTuple):
    """`page_of` has the page of each 256 code points, -1 for none yet; `kinds`, `starts` and `ends` are page by page.

    The bytes that a code point becomes are `pool[start:end]`, those of a code point below 128 at most one.
    """

    page_of: npt.NDArray[np.int32]
    kinds: Uint8s
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    pool: Uint8s


@cache
def _pages() -> "_Pages":
    return _Pages()


def becoming(data: Uint8s) -> Becoming:
    """Return tables that have all code points of some UTF-8."""
    pages = _pages()
    for page in np.flatnonzero(_pages_of(data)).tolist():
        pages.add(page)
    return pages.table


class _Pages:
    def __init__(self) -> None:
        no_bytes, no_places = np.zeros(0, np.uint8), np.zeros(0, np.int32)
        self.table = Becoming(np.full(_NUM_PAGES, -1, np.int32), no_bytes, no_places, no_places, no_bytes)
        self.add(0)

    def add(self, page: int) -> None:
        index, kinds, starts, ends, pool = self.table
        if index[page] >= 0:
            return
        made = [_become(page * _PAGE + place) for place in range(_PAGE)]
        last = len(pool) + np.cumsum([len(data) for _, data in made])
        numbered = index.copy()
        numbered[page] = len(kinds) // _PAGE
        self.table = Becoming(
            numbered,
            np.append(kinds, np.array([kind for kind, _ in made], np.uint8)),
            np.append(starts, np.append(len(pool), last[:-1]).astype(np.int32)),
            np.append(ends, last.astype(np.int32)),
            np.append(pool, np.frombuffer(b"".join(data for _, data in made), np.uint8)),
        )


def _become(code: int) -> tuple[int, bytes]:
    if code in _SURROGATES:
        return OTHER, b""
    if is_digit(chr(code)):
        return DIGIT, b""
    text = simplify_character(chr(code))
    if text.isspace():
        return SPACE, b""
    assert len(text.encode()) <= MOST_BYTES
    inert = all(_flags(ord(character)) & int(Flag.INERT) for character in text)
    return INERT if inert else OTHER, text.encode()


def _flags(code: int) -> int:
    page_of, pages = load_codepoints()
    return int(pages[(int(page_of[code >> 8]) << 8) + (code & 255)])


@kernel()
def _pages_of(data):  # type: ignore[no-untyped-def]
    """Return which pages the code points of some UTF-8 are on, but for the first 128 of them."""
    found = np.zeros(_NUM_PAGES, np.bool_)
    position = np.int64(0)
    while position < len(data):
        if position + 8 <= len(data) and not read_eight(data, position) & _HIGH_BITS:
            position += 8
        elif data[position] < _ASCII:
            position += 1
        else:
            code, length = decode(data, position)
            found[code >> np.uint32(8)] = True
            position += length
    return found
