"""Refetch: read a record again from the bytes that its origin names, extract (and repair) it anew, and compare.

The file may have moved since. The origin's own place is tried first, then every place where the store has seen a file
of the same bytes, then the origins that other builds in the store noted for the same `doc_id`. Whatever answers must
have the digest that was stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.pipeline.errors import InputError, IntegrityError, StoreError
from headrace.pipeline.extract import Dropped, Extracted
from headrace.pipeline.hashing import digest_range
from headrace.pipeline.origins import Origin, local_path
from headrace.pipeline.readers.contract import make_reader, read_extent
from headrace.pipeline.rows import find_rows, read_row
from headrace.pipeline.schema import Manifest, RawInput
from headrace.pipeline.stages.read import SourceConfig
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.why import Fate

NOT_EXTRACTED = ("not_sampled", "beyond_limit")
NOT_ALONE = "not_a_record_alone"
"""Reason where the bytes are the right ones and, cut out of their file, no record: its stated length is wrong."""


@dataclass(frozen=True)
class Refetched:
    """A record read again: where from, and what its extraction gives now.

    `same` tells whether that is what is stored (the text, or the reason why there is none). It is null where there is
    nothing to compare: gaps, records that were not extracted, those that are none without what surrounds them.
    `passed_over` are places that were tried before, and what was wrong with them.
    """

    origin: Origin
    kind: str
    text: str | None
    reason: str | None
    same: bool | None
    passed_over: tuple[str, ...]


def refetch(store: Store, fate: Fate) -> Refetched:
    """Read the bytes of a record again, verify their digest and extract them anew.

    Raises:
        IntegrityError: no place that the store knows holds these bytes any more.
    """
    failures: list[str] = []
    for origin, source in _places(store, fate):
        try:
            return _read_again(origin, source, fate, tuple(failures))
        except (OSError, IntegrityError) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            failures.append(f"{origin.uri}: {what}")
    raise IntegrityError(
        f"{fate.doc_id or fate.kind}: its bytes lie nowhere any more that this store knows of; put the file back, or "
        f"build once from where it is now. Tried: {'; '.join(failures) or 'no place, the origin is not a local file'}"
    )


def _read_again(origin: Origin, source: SourceConfig, fate: Fate, passed_over: tuple[str, ...]) -> Refetched:
    path = local_path(origin.uri)
    if path is None:
        raise IntegrityError("cannot be read from here; only file: addresses can")
    with path.open("rb") as file:
        if digest_range(file, origin.offset, origin.length) != origin.digest:
            raise IntegrityError("the file has changed")
        if fate.outcome == "gap":
            return Refetched(origin, "gap", None, None, None, passed_over)
        try:
            record = read_extent(file, origin.extent, make_reader(source.reader, source.reader_options))
        except (IntegrityError, InputError):  # a wrong length: only what stands around it shows where it ends
            return Refetched(origin, fate.kind, None, NOT_ALONE, None, passed_over)
    outcome = source.make_text_maker().extract(record)
    text = outcome.text if isinstance(outcome, Extracted) else None
    reason = outcome.reason if isinstance(outcome, Dropped) else None
    return Refetched(origin, record.kind, text, reason, _same(text, reason, fate), passed_over)


def _same(text: str | None, reason: str | None, fate: Fate) -> bool | None:
    if fate.kind == "document":
        stored: str = read_row(Path(fate.place.path), fate.place.row, ["text"])["text"]
        return text == stored
    return None if fate.reason in NOT_EXTRACTED else reason == fate.reason


def _places(store: Store, fate: Fate) -> Iterator[tuple[Origin, SourceConfig]]:
    """Yield the origin, copies of its file by digest, and origins in other artifacts, each once."""
    here = Manifest.load(Path(fate.place.path).with_name(MANIFEST))
    seen: set[Origin] = set()
    for origin, source in (
        (fate.origin, _source(here, fate.source)),
        *((origin, _source(here, fate.source)) for origin in _copies(store, here, fate)),
        *_elsewhere(store, fate),
    ):
        if origin not in seen:
            seen.add(origin)
            yield origin, source


def _source(manifest: Manifest, name: str) -> SourceConfig:
    """Return how a source was read."""
    configs = [SourceConfig.model_validate(item) for item in manifest.config["sources"]]
    found = next((config for config in configs if config.name == name), None)
    if found is None:
        raise StoreError(f"{manifest.name} {manifest.key}: its config has no source {name!r}")
    return found


def _copies(store: Store, manifest: Manifest, fate: Fate) -> Iterator[Origin]:
    """Yield the same range in other files that had the same bytes when a build looked at them."""
    inputs = manifest.parts[fate.place.part].inputs
    contents = {item.content for item in inputs if Path(item.path).as_uri() == fate.origin.uri}
    for path in sorted(store.root.glob("inputs/*.json")):
        known = RawInput.load(path)
        if known.sha256 in contents:
            yield replace(fate.origin, uri=known.uri)


def _elsewhere(store: Store, fate: Fate) -> Iterator[tuple[Origin, SourceConfig]]:
    """Yield the origins of the same `doc_id` in all that was ever read into the store."""
    if fate.doc_id is None:
        return
    for path in store.root.glob(f"artifacts/read/*/{MANIFEST}"):
        manifest = Manifest.load(path)
        for part in manifest.parts:
            for table in ("documents", "records"):
                file = path.with_name(part.files[table].name)
                for number in find_rows(file, "doc_id", fate.doc_id):
                    row = read_row(file, number, ["origin", "source"])
                    yield Origin.of(row["origin"]), _source(manifest, row["source"])
