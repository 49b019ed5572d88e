"""Phone numbers by Google's libphonenumber (its port `phonenumbers`), which knows the numbering plan of each country.

International numbers begin with a plus sign and are found whatever the region; numbers as they are dialled inside a
country only for the regions that are asked for, and those must be grouped as is usual there (`STRICT_GROUPING`), since
a plan alone accepts most runs of ten digits; what could be a plain number (one block, a decimal fraction) counts after
a word such as `phone` only. The library's matcher costs a tenth of a millisecond a candidate and copies the text behind
a time stamp, so it never sees a text: one scan finds runs of digits and their punctuation, and each run that could hold
a number is shown to it in windows of bounded length. Numbers of the North American plan that are kept for fiction
(555-0100 to 555-0199) are nobody's.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber, PhoneNumberMatch

_FEWEST_DIGITS, _MOST_DIGITS = 7, 17  # at most 15 by ITU-T E.164, and a trunk prefix in brackets
_LONGEST = 60  # fifteen digits, each set apart by a few characters, and room for a second number after a slash
_LONGEST_GROUP = 2  # at least: nobody writes single digits alone
_TRIES = 12  # of the matcher, at pieces of one window
_EXTENSION = 24  # what may follow a number: `, ext. 1234`
_INTERNATIONAL = re.compile(r"\+[ (]{0,2}[0-9][0-9 ()\[\]./-]{5,}")
_NATIONAL = re.compile(r"[0-9](?<![\w+][0-9])(?<![0-9][.,:/-][0-9])[0-9 ()\[\]./-]{5,}")
_WORDS = re.compile(r"tel|phone|fon\b|fax|mobil|cell|call|sms|whatsapp", re.IGNORECASE)
_PLAIN = re.compile(r"\d+(?:\.\d+)?")
_OTHER_WORDS = re.compile(r"\bIS[BS]N\W*(?:13|10)?\W*$")
_CONTEXT = 24
_GROUP = re.compile(r"\d+")
_CLOSING = re.compile(r"[)\]]")
_FICTION = range(555_0100, 555_0200)

PHONE_REPLACEMENTS = tuple(f"+1 {area}-555-01{number:02}" for area in (202, 212, 312) for number in range(100))


def find_phones(text: str, regions: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """Yield the range of each phone number of a folded text; `regions` are ISO 3166 codes, international ones aside."""
    taken = sorted(_find_international(text)) if "+" in text else []
    windows = list(_windows(text, _NATIONAL)) if regions else []
    for region in regions:
        taken = sorted([*taken, *_outside(taken, _find_national(text, windows, region))])
    yield from taken


def _find_international(text: str) -> Iterator[tuple[int, int]]:
    from phonenumbers import Leniency

    for start, end in _windows(text, _INTERNATIONAL):
        for stop, seen in _ends(text, start, end) if text[start] == "+" else ():
            found = next(_match(text, start, stop, seen, None, Leniency.VALID), None)
            if found:
                yield found
                break


def _find_national(text: str, windows: Sequence[tuple[int, int]], region: str) -> Iterator[tuple[int, int]]:
    from phonenumbers import Leniency

    for start, end in windows:
        for found in _match(text, start, end, end + _EXTENSION, region, Leniency.STRICT_GROUPING):
            before = text[max(0, found[0] - _CONTEXT) : found[0]]
            plain = _PLAIN.fullmatch(text, *found)
            if not _OTHER_WORDS.search(before) and (not plain or _WORDS.search(before)):
                yield found


def _windows(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield the runs that could hold a number; long ones in pieces, of which none begins or ends inside digits."""
    for run in pattern.finditer(text):
        start, stop = run.span()
        while stop - start > _LONGEST:
            space = text.rfind(" ", start + _FEWEST_DIGITS, start + _LONGEST)
            end = space if space >= 0 else _last_break(text, start, start + _LONGEST)
            if end > start:
                yield start, end
            else:
                block = _GROUP.match(text, start)  # more digits than any number has
                end = block.end() if block else start + 1
            start = end
        yield start, stop


def _last_break(text: str, start: int, end: int) -> int:
    """Return where the digits that reach across `end` begin, or `end` if none do."""
    while end > start and text[end - 1].isdigit() and text[end].isdigit():
        end -= 1
    return end


def _ends(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where an international number could end, and up to where to look at the text; the furthest first.

    Unrelated digits may follow a number on its line; where they do, no extension follows.
    """
    yield end, end + _EXTENSION
    groups = list(_GROUP.finditer(text, start, end))
    num_digits = sum(len(group[0]) for group in groups)
    while len(groups) > 1 and num_digits > _FEWEST_DIGITS:
        num_digits -= len(groups.pop()[0])
        if num_digits <= _MOST_DIGITS:
            yield groups[-1].end(), groups[-1].end()


def _match(text: str, start: int, end: int, seen: int, region: str | None, leniency: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers that begin in a window; `seen` is where the text ends for the matcher."""
    from phonenumbers import PhoneNumberMatcher

    groups = _GROUP.findall(text, start, end)
    if sum(map(len, groups)) < _FEWEST_DIGITS or max(map(len, groups)) < _LONGEST_GROUP:
        return
    first = start - (start > 0 and text[start - 1] in "([")
    before = max(0, first - 1)  # what tells that the number is part of a word
    found: PhoneNumberMatch
    for found in PhoneNumberMatcher(text[before:seen], region, leniency, _TRIES):
        if not first <= before + found.start < end or _is_fiction(found.number):
            continue
        if sum(map(len, _GROUP.findall(found.raw_string))) >= _FEWEST_DIGITS:
            opened = found.raw_string[0] in "([" and not _CLOSING.search(found.raw_string)  # in the text's own brackets
            yield before + found.start + opened, before + found.end


def _is_fiction(number: "PhoneNumber") -> bool:
    return number.country_code == 1 and (number.national_number or 0) % 10_000_000 in _FICTION


def _outside(taken: Sequence[tuple[int, int]], found: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those ranges that overlap none that is taken; both are in order."""
    free, index = [], 0
    for start, end in found:
        while index < len(taken) and taken[index][1] <= start:
            index += 1
        if index == len(taken) or end <= taken[index][0]:
            free.append((start, end))
    return free


@cache
def known_regions() -> frozenset[str]:
    """Return the regions that the library has a numbering plan for."""
    from phonenumbers import SUPPORTED_REGIONS

    return frozenset(SUPPORTED_REGIONS)
