"""Erasures: records of documents that are read no more, which every planning of a reading asks (`pipeline.erasure`)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from headrace.pipeline.schema import Count, Digest, Signed, Strict, TaskInput
from headrace.pipeline.store import Store, put_if_absent, writing

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
    """Documents that are read no more (`erasures/<16 hex>.json`), by id, and where each was found, if that is known."""

    kind: Literal["headrace.erasure"] = "headrace.erasure"
    documents: dict[str, tuple[RawPlace, ...]]

    @property
    def name(self) -> str:
        """What the record is called by."""
        return self.digest[:16]


def _erasures(store: Store) -> Iterator[Erasure]:
    yield from map(Erasure.load, sorted((store.root / FOLDER).glob("[0-9a-f]*.json")))


def erased_ids(store: Store) -> frozenset[str]:
    """Return the ids of all documents that are read no more; raises IntegrityError for a damaged record."""
    return frozenset(doc_id for record in _erasures(store) for doc_id in record.documents)


def erased_places(store: Store) -> Known:
    """Return all places that are read no more; raises IntegrityError for a damaged record."""
    found: dict[str, list[tuple[int, str]]] = {}
    for record in _erasures(store):
        for doc_id, places in record.documents.items():
            for place in places:
                found.setdefault(place.content, []).append((place.offset, doc_id))
    return found


def add_erasures(store: Store, documents: Mapping[str, Collection[tuple[str, int]]]) -> None:
    """Write down documents that are to be read no more, each with its places: sha256 of a raw input, and offset there.

    What is written down already is not written again.
    """
    ids = erased_ids(store)
    known = {(content, *place) for content, places in erased_places(store).items() for place in places}
    new = {
        doc_id: tuple(RawPlace(content=content, offset=at) for content, at in sorted(places))
        for doc_id, places in sorted(documents.items())
        if doc_id not in ids or not {(content, at, doc_id) for content, at in places} <= known
    }
    if new:
        record = Erasure(documents=new)
        path = store.root / FOLDER / f"{record.name}.json"
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            put_if_absent(path, record.render())


def erased_in(inputs: Sequence[TaskInput], known: Known) -> tuple[str, ...]:
    """Return the ids of the documents that lie in raw inputs and are read no more, sorted."""
    found = {
        doc_id
        for item in inputs
        for offset, doc_id in known.get(item.content, ())
        if item.start is None or item.end is None or item.start <= offset < item.end
    }
    return tuple(sorted(found))
