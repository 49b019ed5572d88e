"""Write the table of cases, numbers and scripts that `headrace.filters.analysis.letters` reads.

Run as `python -m benchmarks.generate_letter_table`. Unicode's classes are those of the Python that runs this; they are
shipped so that every other Python counts the same.
"""

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headrace.filters.analysis.letters import UNSPACED_BLOCKS, Letter

OUTPUT = Path(__file__).parents[1] / "filters" / "data" / "letters.npz"
_PAGE = 256


def is_unspaced(character: str) -> bool:
    """Return whether a character is a letter of a script without spaces."""
    return character.isalpha() and any(first <= ord(character) <= last for first, last, _ in UNSPACED_BLOCKS)


TESTS: dict[Letter, Callable[[str], bool]] = {
    Letter.SPACE: str.isspace,
    Letter.WORD: lambda c: c.isalnum() or c == "_",
    Letter.UPPER: str.isupper,
    Letter.LOWER: lambda c: c.islower() or unicodedata.category(c) == "Lt",
    Letter.NUMERIC: str.isnumeric,
    Letter.ALPHABETIC: str.isalpha,
    Letter.DIGIT: str.isdigit,
    Letter.UNSPACED: is_unspaced,
}


def main() -> None:
    """Write the table."""
    flags = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    for flag, test in TESTS.items():
        flags[[code for code in range(sys.maxunicode + 1) if test(chr(code))]] |= int(flag)
    pages, index = np.unique(flags.reshape(-1, _PAGE), axis=0, return_inverse=True)
    np.savez_compressed(OUTPUT, pages=pages.ravel(), page_of=index.astype(np.uint16).ravel())
    print(f"{OUTPUT}: {len(pages)} pages, {OUTPUT.stat().st_size:,} bytes, Unicode {unicodedata.unidata_version}")


if __name__ == "__main__":
    main()
