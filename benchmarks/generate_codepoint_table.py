"""Write the table of code points that `headrace.filters.analysis` reads, from Unicode's and spaCy's classes.

Run as `python -m benchmarks.generate_codepoint_table`, after `benchmarks.generate_english_tokenizer`. Unicode's
classes are those of the Python that runs this; they are shipped so that every other Python counts the same.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.code_table import flags_of_all, write_table
from headrace.filters.analysis.codepoints import TABLE, Flag
from headrace.filters.punctuation import PUNCTUATION_OR_TERMINAL, TERMINAL_PUNCTUATION

DATA = Path(__file__).parents[1] / "filters" / "data"
_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
Test = Callable[[str], Any]


def alternatives(pattern: str) -> Iterator[str]:
    """Yield the alternatives of a pattern that stand outside brackets."""
    start, depth, in_class, position = 0, 0, False, 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            yield pattern[start:position]
            start = position + 1
        position += 1
    yield pattern[start:]


def one_of(patterns: Iterator[str]) -> Test:
    """Return a test for the characters that one of some patterns matches whole."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)).fullmatch


def context(patterns: list[str], marker: str, ahead: bool = False) -> Test:
    """Return the class of the look-behind (or look-ahead) of the one pattern that matches `marker` between two."""
    form = re.compile(r"\(\?<=(\[.*\])\)" + re.escape(marker) + r"\(\?=(\[.*\])\)")
    (found,) = filter(None, map(form.fullmatch, patterns))
    return re.compile(found[2 if ahead else 1]).fullmatch


def tests() -> dict[Flag, Test]:
    """Return for each flag what tells whether a character has it."""
    tables = json.loads((DATA / "english_tokenizer.json").read_text(encoding="utf-8"))
    prefixes, suffixes, infixes = (list(alternatives(tables[key])) for key in ("prefix", "suffix", "infix"))
    (currency,) = (pattern for pattern in suffixes if "US\\$" in pattern)
    terminals = frozenset(tables["terminals"])
    (top_level,) = re.findall(r"\(\?:(\[[^\]]*\])\{2,63\}\)", tables["url"])
    plain_infixes = [pattern for pattern in infixes if "(?<=" not in pattern]
    (after_upper,) = re.findall(r"^\(\?<=(\[.*\])\1\)\\\.\$$", suffixes[-1])
    return {
        Flag.SPACE: str.isspace,
        Flag.ALPHABETIC: str.isalpha,
        Flag.PUNCTUATION: lambda c: unicodedata.category(c)[0] == "P",
        Flag.SYMBOL: PUNCTUATION_OR_TERMINAL.__contains__,
        Flag.LINE_TERMINAL: TERMINAL_PUNCTUATION.__contains__,
        Flag.SENTENCE_TERMINAL: terminals.__contains__,
        Flag.LINE_BREAK: _BREAKS.__contains__,
        Flag.PREFIX: one_of(pattern for pattern in prefixes if "(?!" not in pattern),
        Flag.SUFFIX: one_of(pattern.removesuffix("$") for pattern in suffixes if "(?<=" not in pattern),
        Flag.INFIX: one_of(iter(plain_infixes)),
        Flag.CURRENCY: one_of(iter([currency.removeprefix("(?<=[0-9])").removesuffix("$")])),
        Flag.BEFORE_LAST_DOT: re.compile(_class_before(suffixes[-2])).fullmatch,
        Flag.UPPER: re.compile(after_upper).fullmatch,
        Flag.BEFORE_DOT: context(infixes, r"\."),
        Flag.AFTER_DOT: context(infixes, r"\.", ahead=True),
        Flag.LETTER: context(infixes, ","),
        Flag.TOP_LEVEL: re.compile(top_level).fullmatch,
        Flag.DIGIT: re.compile("[0-9]").fullmatch,
        Flag.DECIMAL: str.isdecimal,
    }


def _class_before(pattern: str) -> str:
    assert pattern.startswith("(?<=["), pattern
    assert pattern.endswith(r"])\.$"), pattern
    return pattern[len("(?<=") : -len(r")\.$")]


def inert(flags: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return which code points no pattern consumes unless a digit, a dot or an apostrophe stands beside them."""
    special = Flag.PREFIX | Flag.SUFFIX | Flag.INFIX | Flag.SPACE | Flag.DIGIT | Flag.CURRENCY
    free = (flags & special) == 0
    for character in ".+-*^,:<>=/~—°'\u2013\u2019":
        free[ord(character)] = False
    return free


def main() -> None:
    """Write the table."""
    flags = flags_of_all(tests(), np.uint32)
    flags[inert(flags)] |= int(Flag.INERT)
    write_table(TABLE, flags)


if __name__ == "__main__":
    main()
