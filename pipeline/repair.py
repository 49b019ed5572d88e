"""What a repairer is: an extracted text in, a mended text out, with a count of what was done.

A repair moves the offsets of all that follows, so it is part of extraction: every span is an offset into the repaired
text, and reading a record again repairs it again. A repairer is bounded like an extractor, by characters and never by a
clock. What it did to a document stands in that document's metadata under `repair`; nothing stands there where it did
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from headrace.filters.registry import ClassRegistry
from headrace.pipeline.extract import Dropped, Extracted, Extractor, clean
from headrace.pipeline.readers.contract import Record
from headrace.pipeline.registry import make_registered

METADATA_KEY = "repair"


@dataclass(frozen=True, slots=True)
class Repaired:
    """A text after its repair, and counts by name of what was done to it; none where nothing was."""

    text: str
    counts: Mapping[str, int]


class Repairer(Protocol):
    """Mends texts; its dataclass fields are its configuration."""

    name: ClassVar[str]
    version: ClassVar[int]

    def resources(self) -> Mapping[str, str]:
        """Name and version of each library that can change a text."""
        ...

    def repair(self, text: str) -> Repaired:
        """Return the mended text; never raises on data."""
        ...


REPAIRERS = ClassRegistry("repair", "headrace.pipeline.repairs")
register = REPAIRERS.register
repairer_classes = REPAIRERS.all


def make_repairer(name: str, options: Mapping[str, Any]) -> Repairer:
    """Return a configured repairer.

    Raises:
        RecipeError: there is no such repairer, or it refuses the options.
    """
    repairer: Repairer = make_registered(REPAIRERS, name, options)
    return repairer


@dataclass(frozen=True)
class RepairingExtractor:
    """An extractor whose texts and titles are repaired."""

    extractor: Extractor
    repairer: Repairer

    def extract(self, record: Record) -> Extracted | Dropped:
        """Return the repaired text of a record, or why it has none."""
        outcome = self.extractor.extract(record)
        if isinstance(outcome, Dropped):
            return outcome
        repaired, title = self.repairer.repair(outcome.text), self.repairer.repair(outcome.title)
        counts = {**repaired.counts, "title": 1} if title.counts else repaired.counts
        if not counts:
            return outcome
        text = clean(repaired.text).strip()
        if not text:
            return Dropped("empty")
        named = {"title": " ".join(clean(title.text).split())} if outcome.title else {}
        metadata = {**outcome.metadata, **named, METADATA_KEY: dict(counts)}
        return replace(outcome, text=text, title=named.get("title", ""), metadata=metadata)
