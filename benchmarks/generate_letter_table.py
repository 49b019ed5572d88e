"""Write the table of cases, numbers and scripts that `headrace.filters.analysis.letters` reads.

Run as `python -m benchmarks.generate_letter_table`. Unicode's classes are those of the Python that runs this; they are
shipped so that every other Python counts the same.
"""

import unicodedata
from collections.abc import Callable

import numpy as np

from benchmarks.code_table import flags_of_all, write_table
from headrace.filters.analysis.letters import TABLE, UNSPACED_BLOCKS, Letter


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


if __name__ == "__main__":
    write_table(TABLE, flags_of_all(TESTS, np.uint8))
