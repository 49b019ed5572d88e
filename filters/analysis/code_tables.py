"""Flags of code points as shipped tables, so that another Python, with another Unicode, counts the same.

A table is a file of `filters/data`: `page_of[code >> 8]` is a page, `pages[page * 256 + (code & 255)]` the flags.
Kernels call the first `index`, and read it with `flags_of` (`filters.analysis.utf8`).
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PAGE = 256
_FOLDER = Path(__file__).parents[1] / "data"


class CodeTable(NamedTuple):
    """The page of each 256 code points (4,352 of them), and the flags on each page, unsigned."""

    page_of: npt.NDArray[np.uint16]
    pages: npt.NDArray[np.unsignedinteger]


def table_path(name: str) -> Path:
    """Return where the table of that name lies."""
    return _FOLDER / f"{name}.npz"


@cache
def load_table(name: str) -> CodeTable:
    """Return the process's table of that name."""
    with np.load(table_path(name), allow_pickle=False) as arrays:
        return CodeTable(arrays["page_of"], arrays["pages"])


@cache
def table_digest(name: str) -> str:
    """Return the sha256 of a table's file."""
    return sha256(table_path(name).read_bytes()).hexdigest()
