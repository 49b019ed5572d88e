"""A URL in parts, and which block lists, words and parts of words it has.

With the lists that datatrove 0.10.1 carries, the columns are what its `URLFilter` decides by, and `filters.url_rules`
decides as it does. Like it, a domain, host, URL or word is compared as it is written, and the registered domain and the
full host name are looked up but no name between. That lets much pass: no listed URL has a scheme, so no real URL is
listed; `/Porn/` and hosts in capitals are other words; and of an address or a name without public suffix no list is
asked. `canonical` mends this: hosts, addresses and words in lower case, every name between host and registered domain,
and URLs in the form that recrawls share (`filters.urls.canonical_url`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.hash_sets import contains, hash_strings
from headrace.filters.public_suffixes import public_suffix_digest
from headrace.filters.subwords import Subwords
from headrace.filters.url_lists import (
    KINDS,
    Form,
    UrlList,
    check_list_names,
    find_list,
    list_kinds,
    load_hashes,
    load_words,
)
from headrace.filters.urls import UrlParts, canonical_url, parent_hosts, replace_surrogates, split_url

_WORD = re.compile("[a-zA-Z0-9]+")
_MOST_PARENTS = 8
"""Names above a host that are looked up; real ones have fewer, and a hostile one may have a million."""

_PARTS = (
    Column("host", "string", "host name in lower case; an IPv6 address in its brackets"),
    Column("domain", "string", "registered domain: the public suffix and one label; null where there is none"),
    Column(
        "suffix", "string", "public suffix (registries only, not those of private owners); null where none is known"
    ),
    Column("is_ip_host", "bool", "whether the host is an IPv4 or IPv6 address"),
    Column("url_bytes", "int", "length of the URL in UTF-8"),
    Column("query_bytes", "int", "length of its query in UTF-8"),
    Column("num_path_segments", "int", "parts of the path between slashes that are not empty"),
)
_OF_KIND = {
    "domain": (
        Column("domain_lists", "string", "names of the domain lists that have its registered domain, joined by commas"),
        Column("host_lists", "string", "names of the domain lists that have its host, joined by commas"),
    ),
    "url": (Column("url_lists", "string", "names of the URL lists that have it, joined by commas"),),
    "word": (Column("num_banned_words", "int", "distinct words of the word lists between other characters"),),
    "soft_word": (Column("num_soft_banned_words", "int", "distinct words of the soft word lists"),),
    "subword": (
        Column("num_banned_subwords", "int", "distinct entries of the subword lists among letters and digits"),
    ),
}


@register
@dataclass(frozen=True)
class Url:
    """What a document's URL says about it; null where it has none. Columns of kinds without a list are left out."""

    name: ClassVar[str] = "url"
    version: ClassVar[int] = 1

    lists: tuple[str, ...] = tuple(f"{kind}:datatrove" for kind in KINDS)
    canonical: bool = False

    def __post_init__(self) -> None:
        check_list_names(self.lists)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Parts of the URL, then what its lists say."""
        kinds = list_kinds(self.lists)
        return (*_PARTS, *(column for kind in KINDS if kind in kinds for column in _OF_KIND[kind]))

    def resources(self) -> Mapping[str, str]:
        """Return the digests of the Public Suffix List and of the lists' files; raises UrlListError."""
        lists = {str(item): item.sha256 for item in map(find_list, self.lists)}
        return {"public_suffix_list": public_suffix_digest(), **lists}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return parts, names of lists and counts; raises UrlListError where a list is not here."""
        urls = [replace_surrogates(url) for url in batch.urls]
        parts = [split_url(url) for url in urls]
        columns = {**_describe(urls, parts), **self._look_up(urls, parts)}
        known = {column.name: columns[column.name] for column in self.columns}
        return known if all(urls) else {name: _where(urls, values) for name, values in known.items()}

    def _look_up(self, urls: Sequence[str], parts: Sequence[UrlParts]) -> dict[str, Sequence[Any]]:
        by_kind: dict[str, list[UrlList]] = {kind: [] for kind in KINDS}
        for item in map(find_list, self.lists):
            by_kind[item.kind].append(item)
        domains = [[part.domain] for part in parts]
        hosts = [parent_hosts(part, _MOST_PARENTS) if self.canonical else [_full_name(part)] for part in parts]
        host_form, url_form = (host_key, url_key) if self.canonical else (None, None)
        return {
            "domain_lists": _listed(by_kind["domain"], domains, host_form),
            "host_lists": _listed(by_kind["domain"], hosts, host_form),
            "url_lists": _listed(by_kind["url"], [[url] for url in urls], url_form),
            **_count_words(by_kind, [url.lower() for url in urls] if self.canonical else urls),
        }


def _where(urls: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """Return the values of documents that have a URL, None for the others."""
    return [value if url else None for url, value in zip(urls, values, strict=True)]


def _describe(urls: Sequence[str], parts: Sequence[UrlParts]) -> dict[str, Sequence[Any]]:
    return {
        "host": [part.host.lower() or None for part in parts],
        "domain": [part.domain.lower() or None for part in parts],
        "suffix": [part.suffix.lower() or None for part in parts],
        "is_ip_host": [part.is_ip for part in parts],
        "url_bytes": [len(url.encode()) for url in urls],
        "query_bytes": [len(part.query.encode()) for part in parts],
        "num_path_segments": [sum(map(bool, part.path.split("/"))) for part in parts],
    }


def _full_name(parts: UrlParts) -> str:
    """Return the host where it stands under a registered domain, as tldextract's `fqdn`."""
    return parts.host if parts.domain else ""


def host_key(name: bytes) -> bytes:
    """Return what a domain or host and an entry of a list share where both mean one host."""
    return name.lower().strip(b".")


def url_key(url: bytes) -> bytes:
    """Return what a URL and an entry of a list, with or without a scheme, share where both mean one page."""
    text = url.decode("utf-8", "replace")
    return canonical_url(text if "//" in text.partition("?")[0] else f"//{text}").encode()


def _listed(lists: Sequence[UrlList], names: Sequence[Sequence[str]], form: Form | None) -> list[str]:
    """Return for each row the lists that have one of its names, joined by commas."""
    rows = [row for row, group in enumerate(names) for _ in group]
    keys = [name.encode() for group in names for name in group]
    hashes = hash_strings(map(form, keys) if form else keys)
    found: list[list[str]] = [[] for _ in names]
    for item in lists:
        for row in sorted({rows[place] for place in np.flatnonzero(contains(load_hashes(item, form), hashes))}):
            found[row].append(item.name)
    return [",".join(labels) for labels in found]


def _count_words(by_kind: Mapping[str, Sequence[UrlList]], urls: Sequence[str]) -> dict[str, Sequence[int]]:
    banned, soft, within = (
        frozenset().union(*map(load_words, by_kind[kind])) for kind in ("word", "soft_word", "subword")
    )
    words = [_WORD.findall(url) for url in urls]
    return {
        "num_banned_words": [len(banned.intersection(found)) for found in words],
        "num_soft_banned_words": [len(soft.intersection(found)) for found in words],
        "num_banned_subwords": _subwords(within).count(["".join(found).lower() for found in words]),
    }


@cache
def _subwords(words: frozenset[str]) -> Subwords:
    return Subwords(words)
