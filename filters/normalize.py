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

# One or more digits of any script, with one decimal separator and digits behind it.
_NUMBER = regex.compile("\\p{Nd}+([.,\u060c\u066b\u2396\u2397\u2398]\\p{Nd}+)?")
_WHITE_SPACE = re.compile(r"\s+")
_TO_SPACE = str.maketrans(PUNCTUATION, " " * len(PUNCTUATION))


def simplify_text(text: str) -> str:
    """Return the text as near-duplicate search compares it."""
    text = _NUMBER.sub("0", text.lower())
    text = _WHITE_SPACE.sub(" ", text.translate(_TO_SPACE).strip())
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    return text.strip()


@cache
def normalize_resources() -> Mapping[str, str]:
    """Return the versions of the two Unicode tables that decide what is a digit and what a diacritic."""
    return {"unicode": unicodedata.unidata_version, "regex": version("regex")}
