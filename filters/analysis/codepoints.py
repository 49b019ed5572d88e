"""Classes of code points as one shipped table, so that another Python, with another Unicode, counts the same.

The table is made by `benchmarks.generate_codepoint_table`: `page_of[code >> 8]` is a page, `pages[page * 256 +
(code & 255)]` the flags. Kernels call the first `index`.
"""

from enum import IntFlag, auto
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_TABLE = Path(__file__).parents[1] / "data" / "codepoints.npz"


class Flag(IntFlag):
    """What is true of a code point; the second half are the classes in spaCy's patterns for English."""

    SPACE = auto()  # str.isspace
    ALPHABETIC = auto()  # str.isalpha
    PUNCTUATION = auto()  # general category P
    SYMBOL = auto()  # datatrove's list of punctuation
    LINE_TERMINAL = auto()  # datatrove's terminal punctuation
    SENTENCE_TERMINAL = auto()  # spaCy's
    LINE_BREAK = auto()  # where str.splitlines cuts
    DIGIT = auto()  # 0 to 9
    DECIMAL = auto()  # str.isdecimal
    PREFIX = auto()  # cut off at the beginning of a word, alone
    SUFFIX = auto()  # cut off at its end
    INFIX = auto()  # cut out within
    CURRENCY = auto()  # a suffix after a digit
    BEFORE_LAST_DOT = auto()  # a dot behind it is a suffix
    UPPER = auto()  # a dot behind two of them is a suffix
    BEFORE_DOT = auto()  # a dot between this and
    AFTER_DOT = auto()  # this is an infix
    LETTER = auto()  # a comma or a hyphen between two of them is an infix
    TOP_LEVEL = auto()  # may stand in a top-level domain
    INERT = auto()  # no pattern ever cuts beside it


class CodePoints(NamedTuple):
    """The table: the page of each 256 code points (4,352 of them), and the flags on each page."""

    page_of: npt.NDArray[np.uint16]
    pages: npt.NDArray[np.uint32]


@cache
def load_codepoints() -> CodePoints:
    """Return the process's table."""
    with np.load(_TABLE, allow_pickle=False) as arrays:
        return CodePoints(arrays["page_of"], arrays["pages"])


@cache
def codepoints_digest() -> str:
    """Return the sha256 of the table's file."""
    return sha256(_TABLE.read_bytes()).hexdigest()
