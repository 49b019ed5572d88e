"""IPv6 addresses in every form of RFC 4291, section 2.2: in full, compressed by `::`, with an IPv4 tail.

Public is an address of the block that IANA allocates (2000::/3) that its special-purpose registry does not set aside
(as of 2024, listed here so that it does not change with Python); one that embeds an IPv4 address (mapped, NAT64, 6to4,
Teredo) is as public as that. So clock times, hardware addresses and the scopes of programming languages (`std::`,
`a::b`) are none. The search walks from one colon to the next and skips a run of hexadecimal digits, colons and dots
after one look.
"""

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from string import hexdigits

from headrace.filters.pii.ipv4 import is_public_ipv4

_RUN = re.compile(r"[0-9A-Fa-f:.]*")
_SHAPE = re.compile(r"[0-9A-Fa-f:]*:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Fa-f:])|[0-9A-Fa-f:]*")
_LONGEST = 45  # eight groups of four and their colons, the last two groups as dotted bytes
_LONGEST_GROUP = 4
_HEX = frozenset(hexdigits)

# In 2001:db8::/32, which RFC 3849 keeps for documentation.
IPV6_REPLACEMENTS = tuple(f"2001:db8:{group:x}::{number:x}" for group, number in ((1, 1), (2, 8), (5, 53), (7, 99)))

_ALLOCATED = "2000::/3"
_SET_ASIDE = "2001::/23 2001:db8::/32 3fff::/20"
_SET_ASIDE_BUT_GLOBAL = (
    "2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28"
)
_NAT64 = "64:ff9b::/96"


def find_ipv6(text: str, only_public: bool = True) -> Iterator[tuple[int, int]]:
    """Yield the range of each IPv6 address or, where asked, of each public one; a zone or prefix length is left out."""
    done = 0
    colon = text.find(":")
    while colon >= 0:
        end = _end_of_run(text, colon)
        if text.find(":", colon + 1, end) >= 0:
            found = _trim(text, _start_of_group(text, done, colon), end)
            if found and is_redactable_ipv6(text[slice(*found)], only_public):
                yield found
        done = end
        colon = text.find(":", end)


def _end_of_run(text: str, colon: int) -> int:
    match = _RUN.match(text, colon)
    return match.end() if match else colon + 1


def _start_of_group(text: str, lowest: int, colon: int) -> int:
    start = colon
    while start > max(lowest, colon - _LONGEST_GROUP) and text[start - 1] in _HEX:
        start -= 1
    return start


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the range without punctuation around it, or None if it is part of a word or too long."""
    shape = _SHAPE.match(text, start, end) if end - start <= 2 * _LONGEST else None
    if shape is None or shape.end() - start < len("::"):
        return None
    end = shape.end()
    if text[start] == ":" != text[start + 1]:  # a label before it: `IP:2001:...`
        start += 1
    elif start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return None
    if text[end - 1] == ":" != text[end - 2]:
        end -= 1
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return None
    return (start, end) if end - start <= _LONGEST else None


def is_redactable_ipv6(address: str, only_public: bool) -> bool:
    """Return whether the text is an IPv6 address and, where asked, a public one; without a digit it is none."""
    try:
        ip = IPv6Address(address)
    except ValueError:
        return False
    if only_public:
        return _is_public(ip)
    return any(character.isdigit() for character in address)


def _is_public(ip: IPv6Address) -> bool:
    embedded = _embedded_ipv4(ip)
    if embedded is not None:
        return is_public_ipv4(embedded)
    (allocated,), set_aside, but_global = _special_networks()
    if ip not in allocated:
        return False
    return any(ip in network for network in but_global) or not any(ip in network for network in set_aside)


def _embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in IPv6Network(_NAT64):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


@cache
def _special_networks() -> tuple[tuple[IPv6Network, ...], tuple[IPv6Network, ...], tuple[IPv6Network, ...]]:
    allocated, set_aside, but_global = (
        tuple(map(IPv6Network, text.split())) for text in (_ALLOCATED, _SET_ASIDE, _SET_ASIDE_BUT_GLOBAL)
    )
    return allocated, set_aside, but_global
