"""What an extractor is: a record in, a document's text out, or the reason why there is none.

An extractor is deterministic and keeps nothing from one record for the next: it is bounded by bytes, elements and
depth, never by a clock, so that what is kept does not depend on the machine's load. It never raises on data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Protocol

from headrace.pipeline.readers.contract import Record
from headrace.pipeline.registry import make_registered


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document: valid Unicode, no NUL, lines ended by a line feed."""

    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


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


_REGISTRY: dict[str, type[Any]] = {}


def register(name: str) -> Callable[[type[Any]], type[Any]]:
    """Make an extractor class known by `name`."""

    def add(cls: type[Any]) -> type[Any]:
        if _REGISTRY.setdefault(name, cls) is not cls:
            raise ValueError(f"two extractors are called {name!r}: {_REGISTRY[name]} and {cls}")
        return cls

    return add


def extractor_classes() -> dict[str, type[Any]]:
    """Return every extractor class by name, in alphabetical order; importing a module registers it."""
    from headrace.pipeline import extractors

    for module in iter_modules(extractors.__path__):
        import_module(f"{extractors.__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def make_extractor(name: str, options: Mapping[str, Any]) -> Extractor:
    """Return a configured extractor.

    Raises:
        RecipeError: there is no such extractor, or it refuses the options.
    """
    extractor: Extractor = make_registered("extractor", extractor_classes(), name, options)
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
