"""Main content by Resiliparse (Bevendorff et al., ECIR 2018): a fixed set of rules over the parsed tree, fast."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import ClassVar

from headrace.pipeline.extract import Dropped, Extracted, finish, register
from headrace.pipeline.pages import MAX_BYTES, MAX_NODES, PageLimits, find_title, open_page
from headrace.pipeline.readers.contract import Record


@register
@dataclass(frozen=True)
class ResiliparseExtractor:
    """With `main_content` off all visible text is kept.

    Comments are in by default, as in Resiliparse: on forums they are the content (F1 on WCXB 0.779 against 0.762).
    Pages nested deeper than `max_depth` would cost quadratic time and are dropped.
    """

    name: ClassVar[str] = "resiliparse"
    version: ClassVar[int] = 1

    main_content: bool = True
    include_comments: bool = True
    alt_texts: bool = False
    list_bullets: bool = True
    max_bytes: int = MAX_BYTES
    max_nodes: int = MAX_NODES
    max_depth: int = 256

    def resources(self) -> Mapping[str, str]:
        """Version of Resiliparse."""
        return {"resiliparse": version_of("resiliparse")}

    def extract(self, record: Record) -> Extracted | Dropped:
        """Return the main content of a page, or why it has none."""
        page = open_page(record, PageLimits(self.max_bytes, self.max_nodes))
        if isinstance(page, Dropped):
            return page
        try:
            text = self._extract(page)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            return Dropped("extractor_error", {"exception": type(error).__name__})
        if text is None:
            return Dropped("too_deep", {"max_depth": self.max_depth})
        return finish(record, text, find_title(page))

    def _extract(self, html: str) -> str | None:
        """Return the text, None if the tree is too deep."""
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree

        tree = HTMLTree.parse(html)
        deeper = " > ".join("*" * (self.max_depth + 1))
        if tree.document is None or tree.document.query_selector(deeper) is not None:
            return None
        text: str = extract_plain_text(
            tree,
            main_content=self.main_content,
            comments=self.include_comments,
            alt_texts=self.alt_texts,
            list_bullets=self.list_bullets,
        )
        return text
