"""Mojibake: what UTF-8 looks like when it was read as Latin-1, Windows-125x or MacRoman, as ftfy 6.3 tells it.

`ftfy.badness` (Speer 2019, doi:10.5281/zenodo.2591652) is one pattern of pairs and triples of characters that such a
mistake makes and writers do not. Here it looks only where it can match: each of its sequences has a C1 control or one
of four letters, or one of some more characters beside another that is not ASCII. That finds the same, and a text of
another script, or of few accents, is read at the speed of a search for single characters.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version

_CLUES_ALONE = "\x80-\x9fŒœÃÂ"
_CLUES = (
    *("c1", "bad", "law", "currency", "start_punctuation", "end_punctuation", "numeric", "kaomoji"),
    *("upper_accented", "lower_accented", "box"),
)
_OTHER_CLUES = "√≈Ђ"
_REACH = 3  # from such a character to either end of its sequence


def count_mojibake(text: str) -> int:
    """Return `ftfy.badness.badness(text)`: how many sequences look misread."""
    if text.isascii():
        return 0
    from ftfy.badness import BADNESS_RE

    return sum(1 for start, end in _suspicious(text) for _ in BADNESS_RE.finditer(text[start:end]))


def has_mojibake(text: str) -> bool:
    """Return `ftfy.badness.is_bad(text)`: whether any sequence looks misread."""
    if text.isascii():
        return False
    from ftfy.badness import is_bad

    return any(is_bad(text[start:end]) for start, end in _suspicious(text))


@cache
def mojibake_resources() -> Mapping[str, str]:
    """Return what decides what looks misread."""
    return {"ftfy": version("ftfy")}


def _suspicious(text: str) -> Iterator[tuple[int, int]]:
    """Yield disjoint ranges that hold every sequence; none begins with a clue but at the very start of the text."""
    begin = end = -1
    for match in _clues().finditer(text):
        if begin >= 0 and match.start() - _REACH > end:
            yield begin, end
            begin = -1
        if begin < 0:
            begin = max(0, match.start() - _REACH)
        end = match.end() + _REACH
    if begin >= 0:
        yield begin, end


@cache
def _clues() -> re.Pattern[str]:
    """Return a pattern of what every sequence of ftfy's has."""
    from ftfy.badness import MOJIBAKE_CATEGORIES

    clue = f"[{''.join(MOJIBAKE_CATEGORIES[name] for name in _CLUES)}{_OTHER_CLUES}]"
    return re.compile(rf"{clue}(?=[^\x00-\x7f])|(?<=[^\x00-\x7f]){clue}|[{_CLUES_ALONE}]")
