"""How the tables of code points are written, for the generators of them."""

import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.code_tables import PAGE, table_path


def flags_of_all(tests: Mapping[Any, Callable[[str], Any]], dtype: type[np.unsignedinteger]) -> npt.NDArray[Any]:
    """Return the flags of every code point, given what tells whether a character has each."""
    flags = np.zeros(sys.maxunicode + 1, dtype=dtype)
    for flag, test in tests.items():
        flags[[code for code in range(sys.maxunicode + 1) if test(chr(code))]] |= int(flag)
    return flags


def write_table(name: str, flags: npt.NDArray[Any]) -> None:
    """Write a table, each page once, and say so."""
    pages, index = np.unique(flags.reshape(-1, PAGE), axis=0, return_inverse=True)
    path = table_path(name)
    np.savez_compressed(path, pages=pages.ravel(), page_of=index.astype(np.uint16).ravel())
    print(f"{path}: {len(pages)} pages, {path.stat().st_size:,} bytes, Unicode {unicodedata.unidata_version}")
