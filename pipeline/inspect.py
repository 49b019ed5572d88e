"""Inspect: the funnel that led to an artifact, and a few documents from each of its ways out.

The funnel is read off the ledgers of the artifact and of all that it was made from. Samples are those with the smallest
`doc_id`, a fair choice that does not change with order or parts; they are found in one pass over ids and reasons, and
only their own rows of text are read.
"""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.pipeline.ancestry import ancestry, manifest_of
from headrace.pipeline.rows import read_row
from headrace.pipeline.rule_values import RuleValues
from headrace.pipeline.schema import Ledger, Manifest
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_batches, read_columns

NUM_SAMPLES = 3
TEXT_START = 300
"""Characters of a text that are shown."""

NOTHING_LEFT = "nothing_left"
DECIDING = ("adopt", "earlier", "rules")


@dataclass(frozen=True)
class Sample:
    """A document, with the beginning of its text where it has one; of a gap the `doc_id` is null."""

    doc_id: str | None
    url: str | None
    evidence: Mapping[str, Any] | None
    text: str | None


@dataclass(frozen=True)
class Funnel:
    """One step: what came in, what went where, what it wrote and what it took.

    The ledger counts records and stored bytes for `read`, documents and text bytes for all others. `stored_bytes` are
    those of its files; `seconds` are summed over tasks, so more than the clock's where they ran side by side.
    """

    label: str
    stage: str
    key: str
    content: str
    path: str
    tasks: int
    rows: int
    ledger: Ledger
    stored_bytes: int
    tokens: int | None
    seconds: float
    resources: Mapping[str, str]


@dataclass(frozen=True)
class Dropped:
    """Samples of what one step dropped for one reason."""

    label: str
    reason: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Report:
    """An artifact and the way to it: `steps` in order, the last is the artifact itself."""

    path: str
    name: str
    stage: str
    key: str
    content: str
    rows: int
    facts: Mapping[str, int | str]
    steps: tuple[Funnel, ...]
    kept: tuple[Sample, ...]
    dropped: tuple[Dropped, ...]


def inspect(path: Path, num_samples: int = NUM_SAMPLES) -> Report:
    """Describe an artifact, given by its manifest, its folder or one of its parts, and all that it was made from.

    Raises:
        InputError: the path is none of these.
        StoreError: it lies in no store, or an artifact that it was made from is gone.
        IntegrityError: a record is damaged.
    """
    path = manifest_of(path)
    store = Store.containing(path)
    manifest = Manifest.load(path)
    chain = ancestry(manifest, store)
    return Report(
        path=str(path),
        name=manifest.name,
        stage=manifest.stage,
        key=manifest.key,
        content=manifest.content,
        rows=manifest.rows,
        facts=manifest.facts,
        steps=tuple(_funnel(item, store) for item in chain),
        kept=tuple(_kept(chain, store, num_samples)),
        dropped=tuple(found for item in chain for found in _dropped(item, chain, store, num_samples)),
    )


def _funnel(manifest: Manifest, store: Store) -> Funnel:
    tokens = manifest.facts.get("tokens")
    return Funnel(
        label=manifest.name,
        stage=manifest.stage,
        key=manifest.key,
        content=manifest.content,
        path=str(store.artifact_folder(manifest.stage, manifest.key) / MANIFEST),
        tasks=len(manifest.parts),
        rows=manifest.rows,
        ledger=manifest.ledger,
        stored_bytes=sum(file.bytes for part in manifest.parts for file in part.files.values()),
        tokens=None if tokens is None else int(tokens),
        seconds=float(manifest.provenance.get("seconds", 0)),
        resources=manifest.resources,
    )


# ---------------------------------------------------------------------------------------------------------- samples


@dataclass
class _Smallest:
    """The rows with the smallest ids of each kind, as (id, part, row), largest first out."""

    limit: int
    kinds: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)

    def add(self, kind: str, doc_id: str | None, part: int, row: int) -> None:
        heap = self.kinds.setdefault(kind, [])
        entry = (-int(doc_id or "0", 16), -part, -row)
        if len(heap) < self.limit:
            heapq.heappush(heap, entry)
        elif self.limit:
            heapq.heappushpop(heap, entry)

    def places(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Yield each kind with its rows as (part, row), smallest id first."""
        for kind, heap in sorted(self.kinds.items()):
            yield kind, [(-part, -row) for _, part, row in sorted(heap, reverse=True)]


def _kept(chain: Sequence[Manifest], store: Store, limit: int) -> Iterator[Sample]:
    """Yield samples of what the last step that keeps documents has kept."""
    tables = ("corpus", "verdicts", "documents")
    manifest = next((item for item in reversed(chain) if item.table in tables), None)
    if manifest is None:
        return
    smallest = _Smallest(limit)
    columns = ["doc_id", "kept"] if manifest.table == "verdicts" else ["doc_id"]
    for part, row, values in _rows(manifest, manifest.table, columns, store):
        if values.get("kept", True):
            smallest.add("kept", values["doc_id"], part, row)
    texts = _first(chain, "documents") if manifest.table == "verdicts" else manifest
    for _, places in smallest.places():
        yield from (_sample(texts, part, row, None, store) for part, row in places)


def _dropped(manifest: Manifest, chain: Sequence[Manifest], store: Store, limit: int) -> Iterator[Dropped]:
    """Yield samples of what one step dropped, reason by reason."""
    if manifest.stage == "cut" and NOTHING_LEFT in manifest.ledger.dropped:
        yield _emptied(manifest, chain, store, limit)
        return
    if manifest.stage == "read":
        table, columns = "records", ["doc_id", "reason"]
    elif manifest.stage in DECIDING and manifest.ledger.dropped:
        table, columns = "verdicts", ["doc_id", "reason", "kept"]
    else:
        return
    smallest = _Smallest(limit)
    for part, row, values in _rows(manifest, table, columns, store):
        if values.get("kept") is not True and values["reason"] is not None:
            smallest.add(values["reason"], values["doc_id"], part, row)
    texts = manifest if table == "records" else _first(chain, "documents")
    for reason, places in smallest.places():
        rows = [(part, row, read_row(store.part_path(manifest, part, table), row)) for part, row in places]
        samples = [
            _record(values)
            if table == "records"
            else _sample(texts, part, row, _evidence(manifest, part, row, values, store), store)
            for part, row, values in rows
        ]
        yield Dropped(manifest.name, reason, tuple(samples))


def _emptied(cut: Manifest, chain: Sequence[Manifest], store: Store, limit: int) -> Dropped:
    """Return samples of documents that no edit left anything of: kept by the last verdict, absent from the corpus."""
    last = next(item.key for item in cut.inputs if item.role == "verdicts")
    verdicts = next(item for item in chain if item.key == last)
    smallest, documents = _Smallest(limit), _first(chain, "documents")
    written: tuple[int, set[str]] = (-1, set())
    for part, row, values in _rows(verdicts, "verdicts", ["doc_id", "kept"], store):
        if part != written[0]:
            ids = read_columns(store.part_path(cut, part), ["doc_id"]).column(0).to_pylist()
            written = part, set(ids)
        if values["kept"] and values["doc_id"] not in written[1]:
            smallest.add(NOTHING_LEFT, values["doc_id"], part, row)
    places = [place for _, found in smallest.places() for place in found]
    return Dropped(cut.name, NOTHING_LEFT, tuple(_sample(documents, *place, None, store) for place in places))


def _rows(
    manifest: Manifest, table: str, columns: Sequence[str], store: Store
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield part, row number and some columns of each row of a table."""
    for part in range(len(manifest.parts)):
        row = 0
        for batch in read_batches(store.part_path(manifest, part, table), columns):
            for values in batch.to_pylist():
                yield part, row, values
                row += 1


def _first(chain: Sequence[Manifest], table: str) -> Manifest:
    return next(item for item in chain if item.table == table)


def _evidence(
    manifest: Manifest, part: int, row: int, verdict: Mapping[str, Any], store: Store
) -> Mapping[str, Any] | None:
    """Return what a verdict rests on: as a global step noted it, or the value that the first failed rule saw."""
    if not verdict["failed"]:
        return _parsed(verdict["evidence"])
    (first,) = RuleValues(manifest, store).failed(part, row, verdict["failed"][:1])
    return first.evidence


def _sample(manifest: Manifest, part: int, row: int, evidence: Mapping[str, Any] | None, store: Store) -> Sample:
    values = read_row(store.part_path(manifest, part), row, ["doc_id", "url", "text"])
    return Sample(values["doc_id"], values["url"], evidence, values["text"][:TEXT_START])


def _record(values: Mapping[str, Any]) -> Sample:
    return Sample(values["doc_id"], values["url"], _parsed(values["evidence"]), None)


def _parsed(evidence: str | None) -> Mapping[str, Any] | None:
    if evidence is None:
        return None
    parsed: Mapping[str, Any] = json.loads(evidence)
    return parsed
