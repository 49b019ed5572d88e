"""URLs in parts, leniently: any string has parts, nothing raises, and time is linear in its length.

Where the host lies is decided as tldextract 5.4 does (`lenient_netloc`), which datatrove 0.10.1's `URLFilter` uses:
no scheme is needed, whatever stands before the last `@` is a user, and what follows the first `:` is a port, right or
wrong. The other parts follow RFC 3986.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from string import ascii_letters, digits
from typing import NamedTuple

from headrace.filters.public_suffixes import find_suffix

_SCHEME_CHARACTERS = frozenset(ascii_letters + digits + "+-.")
_SURROGATES = re.compile("[\ud800-\udfff]")
_DOTS = re.compile("[\u3002\uff0e\uff61]")
_BYTE = "(?:[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?")
"""Authority without user, path and query, after RFC 3986, appendix B; Python's own parser changes between releases."""

_MOST_HOST_CHARACTERS = 253
"""A name in the DNS is no longer; longer ones are split like others, but not remembered."""

_DEFAULT_PORTS = (":80", ":443", ":")


def canonical_url(url: str) -> str:
    """Return what recrawls of a page share: host without `www.`, path without a last slash, sorted query; no scheme.

    What is no URL with a host is returned as it is.
    """
    match = _URL.match(url.strip())
    if match is None or not match[1]:
        return url
    host, path, query = match[1].lower(), match[2].rstrip("/"), match[3]
    for port in _DEFAULT_PORTS:
        host = host.removesuffix(port)
    return f"{host.removeprefix('www.')}{path}{'?' + '&'.join(sorted(query.split('&'))) if query else ''}"


def replace_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which no table can store."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


class UrlParts(NamedTuple):
    """A URL in parts as they are written, the empty string for what there is not; dots of the host are ASCII.

    `domain` is the public suffix with the one label before it. An IPv6 address keeps its brackets, and addresses as
    well as names under no public suffix have neither domain nor suffix.
    """

    host: str
    domain: str
    suffix: str
    is_ip: bool
    path: str
    query: str


def split_url(url: str) -> UrlParts:
    """Return the parts of a URL, or of any other string as if it were one."""
    rest = _without_scheme(url)
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    path, _, query = rest[len(authority) :].partition("#")[0].partition("?")
    host = _host(authority)
    domain, suffix, is_ip = (_split_known_host if len(host) <= _MOST_HOST_CHARACTERS else _split_host)(host)
    return UrlParts(host, domain, suffix, is_ip, path, query)


def _split_host(host: str) -> tuple[str, str, bool]:
    """Return registered domain, public suffix and whether it is an address."""
    if host.startswith("[") and _is_ipv6(host):
        return "", "", True
    labels = host.split(".")
    start = find_suffix(labels)
    if start is None:
        return "", "", _IPV4.fullmatch(host) is not None
    domain = ".".join(labels[start - 1 :]) if start and labels[start - 1] else ""
    return domain, ".".join(labels[start:]), False


_split_known_host = lru_cache(maxsize=4096)(_split_host)  # of a crawl's neighbours many lie on one host


def parent_hosts(parts: UrlParts, most: int) -> list[str]:
    """Return the host and, longest first, at most as many names above it as asked, without the registered domain."""
    above = parts.host.removesuffix(parts.domain).split(".")[:-1] if parts.domain else []
    labels = above[-most:]
    return list(dict.fromkeys([parts.host, *(".".join([*labels[i:], parts.domain]) for i in range(len(labels)))]))


def _without_scheme(url: str) -> str:
    if url.startswith(("http://", "https://")):
        return url[7:] if url[4] == ":" else url[8:]
    slashes = url.find("//")
    if slashes == 0:
        return url[2:]
    if slashes < 2 or url[slashes - 1] != ":" or not _SCHEME_CHARACTERS.issuperset(url[: slashes - 1]):
        return url
    return url[slashes + 2 :]


def _host(authority: str) -> str:
    without_user = authority.rpartition("@")[2]
    if without_user.startswith("["):
        inside, bracket, _ = without_user.partition("]")
        if bracket:
            return inside + bracket
    host = without_user.partition(":")[0].strip()
    return host.rstrip(".") if host.isascii() else _DOTS.sub(".", host).rstrip(".")


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host[1:-1])
    except AddressValueError:
        return False
    return host.endswith("]")
