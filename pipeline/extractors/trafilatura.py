"""Main content by trafilatura (Barbaresi, ACL 2021): its own rules, compared with readability and jusText.

libxml2 stops at 256 levels of nesting, so depth needs no bound here. Deduplication stays off for good: it remembers
across documents, and what is kept would depend on their order.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from typing import ClassVar

from headrace.pipeline.extract import Dropped, Extracted, finish, register
from headrace.pipeline.pages import MAX_BYTES, MAX_NODES, PageLimits, find_title, open_page
from headrace.pipeline.readers.contract import Record


@register
@dataclass(frozen=True)
class TrafilaturaExtractor:
    """`fast` leaves out the comparison with other extractors; `favor_precision` and `favor_recall` shift its rules."""

    name: ClassVar[str] = "trafilatura"
    version: ClassVar[int] = 1

    favor_precision: bool = False
    favor_recall: bool = False
    include_comments: bool = False
    include_tables: bool = True
    fast: bool = False
    max_bytes: int = MAX_BYTES
    max_nodes: int = MAX_NODES

    def resources(self) -> Mapping[str, str]:
        """Versions of trafilatura, of the parser below it, and of what decodes pages."""
        names = ("trafilatura", "lxml", "lxml_html_clean", "jusText", "resiliparse")
        return {name: version_of(name) for name in names}

    def extract(self, record: Record) -> Extracted | Dropped:
        """Return the main content of a page, or why it has none."""
        page = open_page(record, PageLimits(self.max_bytes, self.max_nodes))
        if isinstance(page, Dropped):
            return page
        extract = load_trafilatura()
        try:
            text = self._extract(extract, page)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            return Dropped("extractor_error", {"exception": type(error).__name__})
        return finish(record, text, find_title(page))

    def _extract(self, extract: Callable[..., str | None], html: str) -> str:
        text = extract(
            html,
            favor_precision=self.favor_precision,
            favor_recall=self.favor_recall,
            include_comments=self.include_comments,
            include_tables=self.include_tables,
            fast=self.fast,
            deduplicate=False,
        )
        return text or ""


@cache
def load_trafilatura() -> Callable[..., str | None]:
    """Import trafilatura, and keep it quiet: its downloader warns of what it lacks, its log repeats the ledger."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SOCKS support")
        from trafilatura import extract
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    chosen: Callable[..., str | None] = extract
    return chosen
