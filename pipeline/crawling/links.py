"""Links of a page, in page order, where the page allows to follow them."""

import re
from collections.abc import Mapping
from typing import Any

from headrace.pipeline.crawling.addresses import resolve

_ROBOTS_META = ("robots", "headrace")
_ELEMENTS = ("a", "area", "base", "meta")
_DIRECTIVE = re.compile(r"[a-z]+")


def find_links(html: str, url: str, headers: Mapping[str, str]) -> list[str]:
    """Return absolute HTTP addresses of `a` and `area`, each once; none where the page says `nofollow`.

    `nofollow` is honoured in the X-Robots-Tag header, in a robots meta tag and in a link's `rel`.
    """
    elements = list(_elements(html)) if not _forbids(headers.get("x-robots-tag", "")) else []
    for name, meta in elements:
        if name == "meta" and (meta.get("name") or "").lower() in _ROBOTS_META and _forbids(meta.get("content") or ""):
            return []
    bases = (resolve(base["href"] or "", url) for name, base in elements if name == "base" and "href" in base)
    base_url = next(bases, None) or url
    links: dict[str, None] = {}
    for name, anchor in elements:
        link = resolve(anchor["href"] or "", base_url) if name in ("a", "area") and "href" in anchor else None
        if link and "nofollow" not in (anchor.get("rel") or "").lower().split():
            links[link] = None
    return list(links)


def _elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return name and attributes of the elements that links turn on, in page order.

    One walk over the tree: a collection of Resiliparse searches the whole page anew for each of its items.
    """
    from resiliparse.parse.html import HTMLTree, traverse_dom

    found: list[tuple[str, dict[str, str | None]]] = []

    def visit(context: Any) -> None:
        if (name := context.node.tag) in _ELEMENTS:
            found.append((name, {key: context.node.getattr(key) for key in context.node.attrs}))

    document = HTMLTree.parse(html).document
    if document is not None and document.document_element is not None:
        traverse_dom(document.document_element, visit, elements_only=True)
    return found


def _forbids(directives: str) -> bool:
    return not {"nofollow", "none"}.isdisjoint(_DIRECTIVE.findall(directives.lower()))
