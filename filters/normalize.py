"""The text that near-duplicates share: lower case, every number 0, no punctuation, one space, no diacritics.

It is datatrove 0.10.1's `simplify_text` with its default settings, step by step, because MinHash signatures are equal
only where this text is.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

import regex

from headrace.filters.punctuation import PUNCTUATION

SEPARATORS = ".,\u060c\u066b\u2396\u2397\u2398"
"""Signs that may stand once within a number."""

# One or more digits of any script, with one decimal separator and digits behind it.
_NUMBER = regex.compile(f"\\p{{Nd}}+([{SEPARATORS}]\\p{{Nd}}+)?")
_DIGIT = regex.compile("\\p{Nd}")
_WHITE_SPACE = re.compile(r"\s+")
_MEMO_CHARACTERS = 1 << 16
_TO_SPACE = str.maketrans(PUNCTUATION, " " * len(PUNCTUATION))


def simplify_text(text: str) -> str:
    """Return the text as near-duplicate search compares it."""
    text = _WHITE_SPACE.sub(" ", no_punctuation(no_numbers(text.lower())).strip())
    return strip_marks(text).strip()


def no_numbers(text: str) -> str:
    """Return the text with 0 in place of every number."""
    return str(_NUMBER.sub("0", text))


def no_punctuation(text: str) -> str:
    """Return the text with a space in place of each mark of datatrove's list."""
    return text.translate(_TO_SPACE)


def is_digit(character: str) -> bool:
    """Tell whether a character is part of a number."""
    return _DIGIT.fullmatch(character) is not None


def simplify_character(character: str) -> str:
    """Return what a character that is no digit becomes where nothing around it matters; white space is not gathered."""
    return strip_marks(no_punctuation(character.lower()))


def strip_marks(text: str) -> str:
    """Return the canonical decomposition of a text without its nonspacing marks.

    It is made character by character: a whole text's differs from that in the order of marks alone, which go (but for
    a few spacing ones of Hangul and music), and Python sorts a long run of marks in quadratic time.
    """
    return text if text.isascii() else text.translate(_without_marks())


class _WithoutMarks(dict[int, str]):
    """What each code point becomes, remembered for those that came up; what is forgotten is found again."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _MEMO_CHARACTERS:
            self.clear()
        decomposed = unicodedata.normalize("NFD", chr(code))
        self[code] = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
        return self[code]


@cache
def _without_marks() -> _WithoutMarks:
    return _WithoutMarks()


@cache
def normalize_resources() -> Mapping[str, str]:
    """Return the versions of the two Unicode tables that decide what is a digit and what a diacritic."""
    return {"unicode": unicodedata.unidata_version, "regex": version("regex")}
