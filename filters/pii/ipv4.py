"""IPv4 addresses as datatrove 0.10.1's `PIIFormatter` finds them: anywhere, and public ones only.

Public is what IANA's special-purpose registry does not set aside (as of 2024, listed here so that it does not change
with Python). The pattern looks at no neighbours, as the reference's does not: of `1.2.3.4.5` it takes `1.2.3.4`.
"""

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network

_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
_RUN = re.compile(r"[0-9][0-9.]{6,}")  # every match lies in one; `re` finds these many times faster

# datatrove's list: drawn at random, and silent when they were chosen.
IPV4_REPLACEMENTS = (
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


def find_ipv4(text: str, only_public: bool = True) -> Iterator[tuple[int, int]]:
    """Yield the range of each IPv4 address or, where asked, of each public one."""
    for run in _RUN.finditer(text):
        for match in _IPV4.finditer(text, *run.span()):
            if is_redactable_ipv4(match[0], only_public):
                yield match.span()


def is_redactable_ipv4(address: str, only_public: bool) -> bool:
    """Return whether the text is an IPv4 address (without leading zeros) and, where asked, a public one."""
    try:
        ip = IPv4Address(address)
    except ValueError:
        return False
    return not only_public or is_public_ipv4(ip)


def is_public_ipv4(ip: IPv4Address) -> bool:
    """Return whether no entry of the registry sets the address aside."""
    set_aside, but_global = _special_networks()
    return any(ip in network for network in but_global) or not any(ip in network for network in set_aside)


@cache
def _special_networks() -> tuple[tuple[IPv4Network, ...], tuple[IPv4Network, ...]]:
    set_aside, but_global = (tuple(map(IPv4Network, text.split())) for text in (_SET_ASIDE, _SET_ASIDE_BUT_GLOBAL))
    return set_aside, but_global
