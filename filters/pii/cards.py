"""Payment cards: 13 to 19 digits in a range that is issued (ISO/IEC 7812), with the check digit of Luhn.

Digits stand together or in the groups that are printed on cards (4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4), set apart by single
spaces or hyphens. One number in ten passes Luhn by chance, so a longer number that only contains such digits (a
decimal fraction, a serial number in parts) is none. Card networks' own test numbers are nobody's.
"""

import re
from collections.abc import Iterator

_CARD = re.compile(
    r"(?<![\w+])(?<!\d[-.,/:])"
    r"(?:[2-6]\d{12,18}|[2-6]\d{3}([ -])(?:\d{4}\1\d{4}\1\d{4}(?P<tail>\1\d{3})?|\d{6}\1\d{4,5}))"
    r"(?!\w)(?![-.,/:]\d)"
)
_RUN = re.compile(r"[2-6][0-9 -]{12,}")  # every match lies in one; `re` finds these many times faster
_BEHIND = 2  # what a match must not be followed by
_NOT_DIGIT = re.compile(r"\D")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# (first and last of the range, lengths); as networks publish them, 2024. Maestro's shorter cards are left out.
_ISSUED = (
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("2221", "2720", (16,)),  # Mastercard
    ("300", "305", (14, 16, 17, 18, 19)),  # Diners Club
    ("3095", "3095", (14, 16, 17, 18, 19)),
    ("34", "34", (15,)),  # American Express
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("36", "36", (14, 15, 16, 17, 18, 19)),  # Diners Club
    ("37", "37", (15,)),  # American Express
    ("38", "39", (14, 16, 17, 18, 19)),  # Diners Club
    ("4", "4", (13, 16, 19)),  # Visa
    ("5018", "5038", (13, 14, 15, 16, 17, 18, 19)),  # Maestro, Dankort
    ("5060", "5078", (16, 18, 19)),  # Verve, Elo
    ("508", "508", (16,)),  # RuPay
    ("51", "55", (16,)),  # Mastercard
    ("5893", "5893", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("60", "60", (16, 17, 18, 19)),  # Discover, RuPay, Hipercard
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("6304", "6304", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("636", "639", (16, 17, 18, 19)),  # Elo, Maestro
    ("644", "659", (16, 17, 18, 19)),  # Discover, Troy, RuPay
    ("6759", "6763", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
)

CARD_REPLACEMENTS = (
    "4111 1111 1111 1111",
    "4242 4242 4242 4242",
    "5555 5555 5555 4444",
    "5105 1051 0510 5100",
    "6011 1111 1111 1117",
    "3782 822463 10005",
)
_TEST_CARDS = frozenset(number.replace(" ", "") for number in CARD_REPLACEMENTS)


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield the range of each card number of a folded text."""
    for run in _RUN.finditer(text):
        position = run.start()
        while match := _CARD.search(text, position, run.end() + _BEHIND):
            end = next((end for end in _ends(match) if is_card(text[match.start() : end])), None)
            if end is not None:
                yield match.start(), end
            position = end or match.start() + 1


def _ends(match: re.Match[str]) -> Iterator[int]:
    yield match.end()
    if match["tail"]:  # three digits of something else, such as the security code
        yield match.start("tail")


def is_card(number: str) -> bool:
    """Return whether the digits of a number are those of a card that could be in use."""
    digits = _NOT_DIGIT.sub("", number)
    return _is_issued(digits) and passes_luhn(digits) and digits not in _TEST_CARDS


def _is_issued(digits: str) -> bool:
    return any(first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in _ISSUED)


def passes_luhn(digits: str) -> bool:
    """Return whether ASCII digits end in their check digit by Luhn (US patent 2,950,048)."""
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0
