"""Addresses: one spelling for fetching, a looser one for telling what was seen."""

from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit, urlunsplit

MAX_URL_CHARACTERS = 2000
DEFAULT_PORTS = {"http": 80, "https": 443}


def resolve(link: str, base: str = "") -> str | None:
    """Return an absolute HTTP address without its fragment, None for anything else (RFC 3986, 5 and 6.2.2).

    Scheme and host are lower-cased, a default port, user name and password are taken off.
    """
    from requests.utils import requote_uri

    try:
        parts = urlsplit(urljoin(base, link.strip()))
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        if scheme not in DEFAULT_PORTS or not host:
            return None
        name = f"[{host}]" if ":" in host else host
        netloc = name if port in (None, DEFAULT_PORTS[scheme]) else f"{name}:{port}"
        url: str = requote_uri(urlunsplit((scheme, netloc, parts.path or "/", parts.query, "")))
    except ValueError:
        return None
    return url if len(url) <= MAX_URL_CHARACTERS else None


def visit_key(url: str) -> str:
    """Return what two addresses of one page have in common: no trackers, parameters in order (courlan)."""
    from courlan import normalize_url

    try:
        key: str = normalize_url(url)
    except ValueError:
        return url
    return key


def host_of(url: str) -> str:
    """Return host and port, a default port left out."""
    return urlsplit(url).netloc


def robots_address(url: str) -> str:
    """Return where the robots.txt that governs an address lies (RFC 9309, 2.3)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/robots.txt"


def is_loopback(url: str) -> bool:
    """Tell whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
