"""E-mail addresses and public IPv4 addresses, as spans that replace them.

The spans are those that datatrove 0.10.1's `PIIFormatter` finds. It takes replacements in turn, so that the outcome
depends on the order of documents; here an address always becomes the same replacement, chosen by its hash. The search
walks from one `@` to the next, which gives the same matches as the pattern and stays linear in long runs of
characters. Public is what IANA's special-purpose registry does not set aside (as of 2024, listed here so that it
does not change with Python).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from string import ascii_letters, digits
from typing import Any, ClassVar
from unicodedata import unidata_version

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.spans import Span, to_byte_offsets

_ATOMS = frozenset(ascii_letters + digits + "!#$%&'*+/=?^_`{|}~-")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
_DOMAIN = re.compile(rf"@(?:(?:{_LABEL}\.)+{_LABEL}|\[(?:{_BYTE}\.){{3}}(?:{_BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)])")
_LOCAL_START = re.compile(rf"\b[{re.escape(''.join(sorted(_ATOMS)))}]")

EMAIL_REPLACEMENTS = ("email@example.com", "firstname.lastname@example.org")
# datatrove's list: drawn at random, and silent when they were chosen.
IP_REPLACEMENTS = (
    "22.214.171.124",
    "126.96.36.199",
    "188.8.131.52",
    "184.108.40.206",
    "220.127.116.11",
    "18.104.22.168",
)
_SET_ASIDE = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
)
_SET_ASIDE_BUT_GLOBAL = "192.0.0.9/32 192.0.0.10/32"


@register
@dataclass(frozen=True)
class Pii:
    """Where addresses of persons and machines stand, and what replaces them."""

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 1

    emails: bool = True
    ips: bool = True
    only_public_ips: bool = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """The edit and its counts."""
        return (
            Column("redactions", "spans", "addresses (`email`, `ip`) and their replacements"),
            Column("num_emails", "int", "e-mail addresses"),
            Column("num_ips", "int", "IPv4 addresses"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the version of the Unicode table that decides where a word begins."""
        return {"unicode": unidata_version}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return spans and counts; all are defined for every text."""
        return by_column(self.columns, map(self._measure, batch.texts))

    def _measure(self, text: str) -> tuple[list[Span], int, int]:
        emails = [self._redact(text, *found) for found in find_emails(text)] if self.emails else []
        ips = [self._redact(text, *found) for found in self._find_ips(text, emails)] if self.ips else []
        return to_byte_offsets(text, sorted([*emails, *ips])), len(emails), len(ips)

    def _find_ips(self, text: str, emails: Sequence[Span]) -> Iterator[tuple[int, int, str]]:
        """Yield IPv4 addresses outside of e-mail addresses, which are replaced before."""
        starts = [0, *(span.end for span in emails)]
        stops = [*(span.start for span in emails), len(text)]
        for start, stop in zip(starts, stops, strict=True):
            for match in _IPV4.finditer(text, start, stop):
                if is_redactable_ip(match[0], self.only_public_ips):
                    yield match.start(), match.end(), "ip"

    @staticmethod
    def _redact(text: str, start: int, end: int, label: str) -> Span:
        from xxhash import xxh64_intdigest

        replacements = EMAIL_REPLACEMENTS if label == "email" else IP_REPLACEMENTS
        choice = xxh64_intdigest(text[start:end].encode()) % len(replacements)
        return Span(start, end, label, replacements[choice])


def find_emails(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, "email") of each e-mail address, in offsets of characters."""
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at)
        start = _find_local_part(text, done, at) if domain else None
        if domain and start is not None:
            done = domain.end()
            yield start, done, "email"
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


def is_redactable_ip(address: str, only_public: bool) -> bool:
    """Return whether the text is an IPv4 address (without leading zeros) and, where asked, a public one."""
    try:
        ip = IPv4Address(address)
    except ValueError:
        return False
    if not only_public:
        return True
    set_aside, but_global = _special_networks()
    return any(ip in network for network in but_global) or not any(ip in network for network in set_aside)


@cache
def _special_networks() -> tuple[tuple[IPv4Network, ...], tuple[IPv4Network, ...]]:
    set_aside, but_global = (tuple(map(IPv4Network, text.split())) for text in (_SET_ASIDE, _SET_ASIDE_BUT_GLOBAL))
    return set_aside, but_global
