"""Erasures: records of documents that are read no more, which every planning of a reading asks (`pipeline.erasure`)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from headrace.pipeline.schema import Count, Digest, Signed, Strict, TaskInput
from headrace.pipeline.store import Store

FOLDER = "erasures"
ERASED = "erased"
"""Reason of a record that was taken down for good."""

Known = Mapping[str, Sequence[tuple[int, str]]]
"""By the sha256 of a raw input: at which offsets documents lie that are read no more, and their ids."""


class RawPlace(Strict):
    """Where a record lies: the sha256 of a raw input, and the offset of its bytes there."""

    content: Digest
    offset: Count


class Erasure(Signed):
    """Documents that are read no more (`erasures/<16 hex>.json`), by id, and where each was found."""

    kind: Literal["headrace.erasure"] = "headrace.erasure"
    documents: dict[str, tuple[RawPlace, ...]]

    @property
    def name(self) -> str:
        """What the record is called by."""
        return self.digest[:16]


def erased_places(store: Store) -> Known:
    """Return all that is read no more; raises IntegrityError for a damaged record."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in sorted((store.root / FOLDER).glob("[0-9a-f]*.json")):
        for doc_id, places in Erasure.load(path).documents.items():
            for place in places:
                found.setdefault(place.content, []).append((place.offset, doc_id))
    return found


def erased_in(inputs: Sequence[TaskInput], known: Known) -> tuple[str, ...]:
    """Return the ids of the documents that lie in raw inputs and are read no more, sorted."""
    found = {
        doc_id
        for item in inputs
        for offset, doc_id in known.get(item.content, ())
        if item.start is None or item.end is None or item.start <= offset < item.end
    }
    return tuple(sorted(found))
