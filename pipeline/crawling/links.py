"""Links of a page, in page order, where the page allows to follow them."""

import re
from collections.abc import Mapping

from headrace.pipeline.crawling.addresses import resolve

_ROBOTS_META = ("robots", "headrace")
_DIRECTIVE = re.compile(r"[a-z]+")


def find_links(html: str, url: str, headers: Mapping[str, str]) -> list[str]:
    """Return absolute HTTP addresses of `a` and `area`, each once; none where the page says `nofollow`.

    `nofollow` is honoured in the X-Robots-Tag header, in a robots meta tag and in a link's `rel`.
    """
    from resiliparse.parse.html import HTMLTree

    document = HTMLTree.parse(html).document
    if document is None or _forbids(headers.get("x-robots-tag", "")):
        return []
    for meta in document.query_selector_all("meta[name][content]"):
        if (meta.getattr("name") or "").lower() in _ROBOTS_META and _forbids(meta.getattr("content") or ""):
            return []
    base_element = document.query_selector("base[href]")
    base = (resolve(base_element.getattr("href") or "", url) if base_element else None) or url
    links: dict[str, None] = {}
    for anchor in document.query_selector_all("a[href], area[href]"):
        rel = (anchor.getattr("rel") or "").lower().split()
        link = resolve(anchor.getattr("href") or "", base)
        if link and "nofollow" not in rel:
            links[link] = None
    return list(links)


def _forbids(directives: str) -> bool:
    return not {"nofollow", "none"}.isdisjoint(_DIRECTIVE.findall(directives.lower()))
