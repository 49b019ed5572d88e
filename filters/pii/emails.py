"""E-mail addresses as datatrove 0.10.1's `PIIFormatter` finds them.

The search walks from one `@` to the next, which gives the same matches as the reference's pattern and stays linear in
long runs of characters.
"""

import re
from collections.abc import Iterator
from string import ascii_letters, digits

_ATOMS = frozenset(ascii_letters + digits + "!#$%&'*+/=?^_`{|}~-")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"@(?:(?:{_LABEL}\.)+{_LABEL}|\[(?:{_BYTE}\.){{3}}(?:{_BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)])")
_LOCAL_START = re.compile(rf"\b[{re.escape(''.join(sorted(_ATOMS)))}]")

EMAIL_REPLACEMENTS = ("email@example.com", "firstname.lastname@example.org")


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Yield the range of each e-mail address."""
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at)
        start = _find_local_part(text, done, at) if domain else None
        if domain and start is not None:
            done = domain.end()
            yield start, done
        at = text.find("@", max(done, at + 1))


def _find_local_part(text: str, lowest: int, at: int) -> int | None:
    """Return where the longest local part that ends at `at` and begins at a word boundary begins, if there is one."""
    first = at
    while first > lowest and (text[first - 1] in _ATOMS or text[first - 1] == "." != text[first]):
        first -= 1
    if at == first or text[at - 1] == ".":
        return None
    match = _LOCAL_START.search(text, first, at)
    return match.start() if match else None
