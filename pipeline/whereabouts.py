"""Whereabouts: whether the file that an origin names is still what was read, and where else its record is known to lie.

An origin says where the bytes were read when its part was made. Parts are shared by content, so after a file was moved
or compressed anew, and built again, they still name the old place. What the store knows of other places: files of the
same sha256 (`inputs/`), and the origins of the same `doc_id` in all that was ever read into it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.hashing import digest_range
from headrace.pipeline.origins import Origin, local_path
from headrace.pipeline.schema import Manifest, Part, RawInput, TaskInput
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_batches

GONE = "is gone"
CHANGED = "has changed since it was read"


@dataclass(frozen=True)
class Standing:
    """How an origin stands: both are null where its own place is good.

    `note` says in words what is wrong with that; `found_at` is another place of the same record that is good, if the
    store knows one.
    """

    found_at: Origin | None = None
    note: str | None = None


class Whereabouts:
    """What a store knows of where raw files lie and lay."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests: dict[tuple[str, int, int], str | None] = {}

    def look(self, origins: Sequence[tuple[str | None, Origin]]) -> list[Standing]:
        """Return how each origin stands, given with the record's `doc_id` (None for a gap)."""
        faults = [self.fault(origin) for _, origin in origins]
        found = [self._copy(origin) if fault else None for fault, (_, origin) in zip(faults, origins, strict=True)]
        lost = {
            doc_id
            for fault, copy, (doc_id, _) in zip(faults, found, origins, strict=True)
            if fault and copy is None and doc_id
        }
        read_again = self._read_elsewhere(lost)
        return [
            _standing(origin, fault, copy or read_again.get(doc_id or "")) if fault else Standing()
            for fault, copy, (doc_id, origin) in zip(faults, found, origins, strict=True)
        ]

    def fault(self, origin: Origin) -> str | None:
        """Return what is wrong with the place that an origin names, None for nothing, or if it cannot be told here.

        A file of the size and time of change that the store remembers is taken for what it was; else the bytes are
        hashed again.
        """
        path = local_path(origin.uri)
        if path is None:
            return None
        try:
            if self._as_remembered(origin.uri, path.stat()) or self._digest(path, origin) == origin.digest:
                return None
        except (FileNotFoundError, NotADirectoryError):
            return GONE
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return CHANGED

    def _as_remembered(self, uri: str, status: os.stat_result) -> bool:
        known = self._remembered.get(uri)
        same = known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return same and known is not None and self._contents.get(uri) == {known.sha256}

    def _digest(self, path: Path, origin: Origin) -> str | None:
        place = (origin.uri, origin.offset, origin.length)
        if place not in self._digests:
            with path.open("rb") as file:
                self._digests[place] = digest_range(file, origin.offset, origin.length)
        return self._digests[place]

    def _copy(self, origin: Origin) -> Origin | None:
        """Return the same range of another file that had the same bytes when a build looked at it, and has them."""
        contents = self._contents.get(origin.uri, set())
        places = (replace(origin, uri=uri) for uri, raw in self._remembered.items() if raw.sha256 in contents)
        return next((place for place in places if self._is_good(place)), None)

    def _is_good(self, place: Origin) -> bool:
        return local_path(place.uri) is not None and self.fault(place) is None

    def _read_elsewhere(self, doc_ids: Iterable[str]) -> dict[str, Origin]:
        """Return a good place for each `doc_id` that another reading has one of."""
        wanted = pa.array(sorted(doc_ids), pa.string())
        found: dict[str, Origin] = {}
        for path in self._tables() if len(wanted) else ():
            for batch in read_batches(path, ["doc_id", "origin"]):
                for row in batch.filter(pc.is_in(batch.column("doc_id"), wanted)).to_pylist():
                    place = Origin.of(row["origin"])
                    if row["doc_id"] not in found and self._is_good(place):
                        found[row["doc_id"]] = place
        return found

    def _tables(self) -> Iterator[Path]:
        for folder, part in self._parts():
            for table in ("documents", "records"):
                if (folder / part.files[table].name).exists():
                    yield folder / part.files[table].name

    def _parts(self) -> Iterator[tuple[Path, Part]]:
        for path in sorted(self._store.root.glob(f"artifacts/read/*/{MANIFEST}")):
            for part in Manifest.load(path).parts:
                yield path.parent, part

    @cached_property
    def _remembered(self) -> Mapping[str, RawInput]:
        """The newest that is known of each file, by uri."""
        records = (RawInput.load(path) for path in sorted(self._store.root.glob("inputs/*.json")))
        return {record.uri: record for record in records}

    @cached_property
    def _contents(self) -> Mapping[str, set[str]]:
        """The sha256 of all that was ever read from each uri: more than one where a file was replaced by another."""
        contents: dict[str, set[str]] = {}
        for _, part in self._parts():
            for item in part.inputs:
                contents.setdefault(Path(item.path).as_uri(), set()).add(item.content)
        return contents


def _standing(origin: Origin, fault: str, place: Origin | None) -> Standing:
    what = f"{origin.uri} {fault}"
    if place is None:
        return Standing(None, f"{what}; no other place is known: put the file back, or build once from where it is now")
    same = "the same bytes are" if place.digest == origin.digest else "the same record, in other bytes, is"
    return Standing(place, f"{what}; {same} at {place}")


def lost_files(manifests: Iterable[Manifest], store: Store) -> list[Path]:
    """Return the files that the origins of a corpus, or of what was read, name and that are gone, sorted."""
    paths = {Path(item.path) for manifest in manifests for item in _raw_inputs(manifest, store)}
    return sorted(path for path in paths if not path.exists())


def _raw_inputs(manifest: Manifest, store: Store) -> Iterator[TaskInput]:
    """Yield the raw files behind each part: those that its documents were read from when the part was made."""
    if manifest.stage == "read":
        for part in manifest.parts:
            yield from part.inputs
        return
    documents = {store.root / item.path for part in manifest.parts for item in part.inputs if item.role == "documents"}
    for folder in sorted({path.parent for path in documents}):
        if (folder / MANIFEST).exists():
            for part in Manifest.load(folder / MANIFEST).parts:
                if folder / part.files["documents"].name in documents:
                    yield from part.inputs
