"""International bank account numbers (ISO 13616): the country's length and form, check digits modulo 97.

Countries, their forms and the national check digits of some are python-stdnum's. A number begins with its country (in
capitals, as the standard has it) and two digits and is as long as that country's are, which is what says where it ends
in running text; single spaces, hyphens or dots may stand between its characters, as national habits differ. The
examples of the registry are nobody's.
"""

import re
from collections.abc import Iterator
from functools import cache

_HEAD = re.compile(r"([A-Z]{2})[ -]?[0-9] ?[0-9]")
_SEPARATORS = " -."
_STRUCTURE = re.compile(r"([0-9]+)!")

# Examples of SWIFT's IBAN registry.
IBAN_REPLACEMENTS = (
    "GB29 NWBK 6016 1331 9268 19",
    "DE89 3704 0044 0532 0130 00",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NL91 ABNA 0417 1643 00",
    "BE68 5390 0754 7034",
    "CH93 0076 2011 6238 5295 7",
)
_EXAMPLES = frozenset(number.replace(" ", "") for number in IBAN_REPLACEMENTS)


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the range of each valid IBAN of a folded text."""
    done = 0
    for head in _HEAD.finditer(text):
        start = head.start()
        if start < done or (start and text[start - 1].isalnum()):
            continue
        length = _lengths().get(head[1])
        found = _take(text, start, length) if length else None
        if found and is_iban(found[0]):
            done = found[1]
            yield start, done


def _take(text: str, start: int, length: int) -> tuple[str, int] | None:
    """Return `length` letters and digits from `start` on and where they end, if that is the end of a word."""
    taken: list[str] = []
    position, separated = start, True
    for character in text[start : start + 2 * length]:
        if character.isascii() and character.isalnum():
            taken.append(character)
            separated = False
        elif character not in _SEPARATORS or separated:
            return None
        else:
            separated = True
        position += 1
        if len(taken) == length:
            inside_word = position < len(text) and text[position].isalnum()
            return None if inside_word else ("".join(taken).upper(), position)
    return None


def is_iban(number: str) -> bool:
    """Return whether letters and digits are an IBAN and not an example of the registry."""
    from stdnum import iban

    return number not in _EXAMPLES and iban.is_valid(number)


@cache
def _lengths() -> dict[str, int]:
    """Return the length of an IBAN by country."""
    from string import ascii_uppercase

    from stdnum import numdb

    database = numdb.get("iban")
    lengths = {}
    for code in (first + second for first in ascii_uppercase for second in ascii_uppercase):
        properties = database.info(code)[0][1]
        if "bban" in properties:
            lengths[code] = len(code) + 2 + sum(map(int, _STRUCTURE.findall(properties["bban"])))
    return lengths
