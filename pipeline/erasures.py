"""Erasures: records of documents that are read no more, which every planning of a reading asks (`pipeline.erasure`)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from headrace.pipeline.schema import Count, Digest, Signed, Strict, TaskInput
from headrace.pipeline.store import Store

FOLDER = "erasures"


class RawPlace(Strict):
    """Where a record lies: the sha256 of a raw input, and the offset of its bytes there."""

    content: Digest
    offset: Count


class Erasure(Signed):
    """A document that is read no more (`erasures/<doc_id>.json`), and where it was found."""

    kind: Literal["headrace.erasure"] = "headrace.erasure"
    doc_id: str
    places: tuple[RawPlace, ...]


def erasures(store: Store) -> dict[str, Erasure]:
    """Return the documents that are read no more, by id; raises IntegrityError for a damaged record."""
    found = (Erasure.load(path) for path in sorted((store.root / FOLDER).glob("[0-9a-f]*.json")))
    return {one.doc_id: one for one in found}


def erased_in(inputs: Sequence[TaskInput], known: Mapping[str, Erasure]) -> list[str]:
    """Return the ids of the documents that lie in raw inputs and are read no more, sorted."""
    return sorted(
        doc_id for doc_id, one in known.items() if any(_holds(item, place) for item in inputs for place in one.places)
    )


def _holds(item: TaskInput, place: RawPlace) -> bool:
    inside = item.start is None or item.end is None or item.start <= place.offset < item.end
    return item.content == place.content and inside
