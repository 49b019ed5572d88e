"""What an extractor is: a record in, a document's text out, or the reason why there is none.

An extractor is deterministic and keeps nothing from one record for the next: it is bounded by bytes, elements and
depth, never by a clock, so that what is kept does not depend on the machine's load. It never raises on data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from headrace.filters.registry import ClassRegistry
from headrace.pipeline.readers.contract import Record
from headrace.pipeline.registry import make_registered

PAGE_KINDS = ("response", "resource")
TEXT_KINDS = ("text", "conversion")
"""Kinds of records that our extractors take, as pages or as the text that they are."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document: valid Unicode, no NUL, lines ended by a line feed; `metadata` is stored as JSON."""

    text: str
    title: str = ""
    metadata: Mapping[str, str | Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a record is no document, and the figures that show it.

    Reasons: every fault of a reader, `not_a_document` (kind), `http_status`, `not_html`, `undecodable`, `too_large`,
    `too_many_nodes`, `too_deep`, `empty`, `extractor_error` (the exception's class).
    """

    reason: str
    evidence: Mapping[str, str | int] = field(default_factory=dict)


class Extractor(Protocol):
    """Makes text of records; its dataclass fields are its configuration."""

    name: ClassVar[str]
    version: ClassVar[int]

    def resources(self) -> Mapping[str, str]:
        """Name and version of each library that can change a text."""
        ...

    def extract(self, record: Record) -> Extracted | Dropped:
        """Return the text of a record, or why it has none."""
        ...


EXTRACTORS = ClassRegistry("extractor", "headrace.pipeline.extractors")
register = EXTRACTORS.register
extractor_classes = EXTRACTORS.all


def make_extractor(name: str, options: Mapping[str, Any]) -> Extractor:
    """Return a configured extractor.

    Raises:
        RecipeError: there is no such extractor, or it refuses the options.
    """
    extractor: Extractor = make_registered(EXTRACTORS, name, options)
    return extractor


def finish(record: Record, text: str, title: str = "") -> Extracted | Dropped:
    """Clean an extractor's text: line ends, NUL and lone surrogates; nothing left is `empty`."""
    text = clean(text).strip()
    if not text:
        return Dropped("empty")
    title = " ".join(clean(title).split())
    metadata = {**record.metadata, "title": title} if title else record.metadata
    return Extracted(text, title, metadata)


def clean(text: str) -> str:
    """Make text valid and storable: line feeds only, no NUL, no lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="surrogatepass").decode(errors="replace")
    return text
