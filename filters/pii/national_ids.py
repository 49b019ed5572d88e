"""National identity and tax numbers of persons, validated by python-stdnum.

The written forms of all kinds of numbers are one alternation; each begins at its first digit and looks back for the
letters before it, because `re` finds digits many times faster than words. What has such a form, is no piece of
something longer and, if the form is a common one, stands within 48 characters after a word that announces it, goes to
the validators. Numbers of zeros alone are nobody's.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from string import ascii_letters
from typing import NamedTuple

from headrace.filters.pii.national_id_table import NATIONAL_IDS, NationalId

_SKELETON = str.maketrans(dict.fromkeys("0123456789", "9") | dict.fromkeys(ascii_letters, "A"))
_NOT_BEFORE = (r"[\w+]", r"[0-9]-", r"\w[./]", r"\+[0-9][ -]", r"\+[0-9]{2}[ -]", r"\+[0-9]{3}[ -]")
"""A longer word or number, a path, the country of a phone number."""
_NOT_AFTER = r"(?!\w)(?![-./][0-9])"
_CONTEXT = 48
_SEPARATOR = re.compile(r"[ ./-]")
_WITHOUT_CENTURY = 10
_SOME_DIGIT = re.compile("[1-9]")


class _Reading(NamedTuple):
    """A kind of number that has some form, and the words beside which alone that form counts."""

    item: NationalId
    words: re.Pattern[str] | None


class _Forms(NamedTuple):
    """Group n of the pattern holds a number without its first `leads[n - 1]` characters."""

    pattern: re.Pattern[str]
    leads: list[int]
    readings: dict[str, list[_Reading]]


def find_national_ids(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the range of each number of a folded text that is valid as one of `names` (keys of `NATIONAL_IDS`)."""
    forms = _forms(tuple(names))
    position = done = 0
    while match := forms.pattern.search(text, position):
        start, end = match.start() - forms.leads[(match.lastindex or 1) - 1], match.end()
        if start >= done and _is_valid(text, start, end, forms.readings[text[start:end].translate(_SKELETON)]):
            yield start, end
            position = done = end
        else:
            position = match.start() + 1


def _is_valid(text: str, start: int, end: int, readings: Sequence[_Reading]) -> bool:
    number = text[start:end]
    if not _SOME_DIGIT.search(number):
        return False
    before = text[max(0, start - _CONTEXT) : start]
    return any(
        (reading.words is None or reading.words.search(before)) and is_national_id(reading.item.name, number)
        for reading in readings
    )


def is_national_id(name: str, number: str) -> bool:
    """Return whether a number, as it is written, is valid as the one of that name."""
    validator = import_module(f"stdnum.{name}")
    centuries = NATIONAL_IDS[name].centuries
    bare = _SEPARATOR.sub("", number)
    if centuries and len(bare) == _WITHOUT_CENTURY:
        return any(validator.is_valid(century + number) for century in centuries)
    return bool(validator.is_valid(number) or validator.is_valid(bare))  # each module removes some separators only


@cache
def _forms(names: tuple[str, ...]) -> _Forms:
    readings: dict[str, list[_Reading]] = {}
    for item in (NATIONAL_IDS[name] for name in names):
        for form in item.alone:
            readings.setdefault(form, []).append(_Reading(item, None))
        for form in item.beside:
            readings.setdefault(form, []).append(_Reading(item, re.compile(item.words)))
    rests: dict[str, list[str]] = {}
    for form in sorted(readings, key=lambda form: (-len(form), form)):
        lead = form[: form.index("9")]
        rests.setdefault(lead, []).append(form[len(lead) + 1 :])
    groups = [_alternation(lead, rests[lead]) for lead in rests]
    pattern = re.compile(rf"[0-9](?:{'|'.join(groups)}){_NOT_AFTER}" if groups else "(?!)")
    return _Forms(pattern, [len(lead) for lead in rests], readings)


def _alternation(lead: str, rests: Sequence[str]) -> str:
    """Return what matches behind the first digit of a form: looks back for its lead, and captures the rest."""
    begin = _literal(lead + "9")
    wrong = "".join(f"(?<!{before}{begin})" for before in _NOT_BEFORE)
    return f"(?<={begin}){wrong}({'|'.join(map(_literal, rests))})"


def _literal(form: str) -> str:
    return "".join({"9": "[0-9]", "A": "[A-Za-z]"}.get(character, re.escape(character)) for character in form)
