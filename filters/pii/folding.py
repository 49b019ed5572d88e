"""Digits and separators of all scripts written in ASCII, character for character, so that offsets stay.

Decimal digits (category Nd) become 0-9, spaces (Zs) and invisible format characters a space, dashes (Pd) and the
minus sign a hyphen, full-width forms their ASCII counterparts. Everything else stays.
"""

import re
import sys
import unicodedata
from functools import cache

_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_FULL_WIDTH, _ASCII = range(0xFF01, 0xFF5F), range(0x21, 0x7F)
_ALSO = {"\u2212": "-", "\ufe62": "+"}


def fold(text: str) -> str:
    """Return the text with digits and separators in ASCII; it has as many characters."""
    if text.isascii():
        return text
    pattern, table = _foldable(), _table()
    return pattern.sub(lambda match: table.get(match[0], match[0]), text)


@cache
def _foldable() -> re.Pattern[str]:
    """Return what matches all that folds; all of the higher planes, since `re` is slow on single characters of them."""
    low = "".join(sorted(character for character in _table() if character <= "\uffff"))
    return re.compile(rf"[{re.escape(low)}\U00010000-\U0010ffff]")


@cache
def _table() -> dict[str, str]:
    table = {chr(wide): chr(narrow) for wide, narrow in zip(_FULL_WIDTH, _ASCII, strict=True)}
    table |= dict.fromkeys(_INVISIBLE, " ") | _ALSO
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Nd":
            table[character] = str(unicodedata.decimal(character))
        elif category in ("Zs", "Pd"):
            table[character] = " " if category == "Zs" else "-"
    return table
