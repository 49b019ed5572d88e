"""Why: the fate of one document, step by step, from the bytes it was read from to its place among the tokens.

Nothing was logged for this. The lock of a build names its artifacts in order, every table that follows documents has
their rows in their order, and rules are data: so the walk reads one row of each table and judges it by every rule, also
by those after the first that it failed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from headrace.filters.judging import apply_rule
from headrace.filters.spans import Span
from headrace.filters.urls import canonical_url
from headrace.pipeline.errors import InputError, StoreError
from headrace.pipeline.lock import Lock, LockedStep, locks_of
from headrace.pipeline.origins import Origin
from headrace.pipeline.rows import find_rows, read_row
from headrace.pipeline.rule_values import Failed, RuleValues, failed_rule
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_batches
from headrace.pipeline.views import to_spans

TEXT_START = 300
"""Characters of a text that are shown."""

SPAN_START = 80


@dataclass(frozen=True)
class Place:
    """A row of a stored table."""

    path: str
    part: int
    row: int


@dataclass(frozen=True)
class ShownSpan:
    """A span and the beginning of what it covers in the extracted text; a replacement of None removes."""

    start: int
    end: int
    label: str
    replacement: str | None
    text: str


@dataclass(frozen=True)
class Measured:
    """One column's value: a number, flag or label, the spans, or for hashes their number of bytes."""

    column: str
    value: int | float | bool | str | None
    spans: tuple[ShownSpan, ...] = ()


@dataclass(frozen=True)
class Judged:
    """One rule and what it says: `rule` as recipes write it, `allowed` the bounds that are meant for this document.

    `applies` is False where `when` leaves the document out.
    """

    rule: Mapping[str, Any]
    value: Any
    allowed: str
    applies: bool
    passed: bool


@dataclass(frozen=True)
class StepFate:
    """What one step measured or decided; `kept` is null for steps that do not decide, and after a drop."""

    label: str
    stage: str
    kept: bool | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None
    survivor: str | None = None
    cluster: str | None = None
    cluster_size: int | None = None
    measured: tuple[Measured, ...] = ()
    judged: tuple[Judged, ...] = ()
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True)
class Fate:
    """What became of a record: `outcome` is kept, dropped or gap, decided at `step` for `reason`.

    `failed` are all rules that it fails, also those after the one that dropped it. `place` is its row among the
    documents or the records of what was read, `corpus` and `tokens` its rows there; `metadata` is what the reader kept,
    the title, and what a repair did.
    """

    doc_id: str | None
    url: str | None
    source: str
    date: str | None
    kind: str
    origin: Origin
    outcome: str
    step: str
    reason: str | None
    evidence: Mapping[str, Any] | None
    survivor: str | None
    place: Place
    text_bytes: int | None
    text: str | None
    steps: tuple[StepFate, ...] = ()
    failed: tuple[Failed, ...] = ()
    corpus: Place | None = None
    tokens: Place | None = None
    num_tokens: int | None = None
    metadata: Mapping[str, Any] | None = None


def why(store: Store, name: str, lock: Lock | None = None) -> tuple[Fate, ...]:
    """Return the fate of each record with this `doc_id` or URL (as written, else in canonical form), in row order.

    `lock` names the build, by default the one that finished last.

    Raises:
        InputError: the build read no such record.
        StoreError: the store has no finished build.
    """
    walk = _Walk(store, lock or latest_lock(store))
    places = list(walk.find(name))
    if not places:
        raise InputError(
            f"{name}: the build {walk.lock.recipe!r} read no record of that doc_id or URL; "
            "a doc_id has 32 hex digits, a URL is compared without scheme and 'www.'"
        )
    return tuple(walk.fate(table, place) for table, place in places)


def latest_lock(store: Store) -> Lock:
    """Return the lock that was written last; raises StoreError where there is none."""
    paths = locks_of(store)
    if not paths:
        raise StoreError(f"{store.root}: no build has finished in this store; run `headrace build` first")
    return Lock.load(paths[0])


class _Walk:
    """The artifacts of one build, in the order of its steps."""

    def __init__(self, store: Store, lock: Lock) -> None:
        self.store, self.lock = store, lock
        self._load = lru_cache(None)(self._read_manifest)

    @cached_property
    def steps(self) -> list[tuple[LockedStep, Manifest]]:
        """Each step with its manifest."""
        return [(step, self._load(step.stage, step.key)) for step in self.lock.steps]

    def _read_manifest(self, stage: str, key: str) -> Manifest:
        return Manifest.load(self.store.artifact_folder(stage, key) / MANIFEST)

    def _stage(self, stage: str) -> Manifest | None:
        return next((manifest for step, manifest in self.steps if step.stage == stage), None)

    @property
    def read(self) -> Manifest:
        """What was read."""
        manifest = self._stage("read")
        if manifest is None:
            raise StoreError(f"the lock of {self.lock.recipe!r} names no step that reads")
        return manifest

    # -------------------------------------------------------------------------------------------------------- search

    def find(self, name: str) -> list[tuple[str, Place]]:
        """Return the rows that a name means, with their table."""
        column = "doc_id" if _is_doc_id(name) else "url"
        exact = [(table, place) for table, path, part in self._tables() for place in _exact(path, part, column, name)]
        if exact or column == "doc_id":
            return exact
        wanted = canonical_url(name)
        return [(table, place) for table, path, part in self._tables() for place in _canonical(path, part, wanted)]

    def _tables(self) -> Iterator[tuple[str, Path, int]]:
        for part in range(len(self.read.parts)):
            for table in ("documents", "records"):
                yield table, self.store.part_path(self.read, part, table), part

    # ---------------------------------------------------------------------------------------------------------- fate

    def fate(self, table: str, place: Place) -> Fate:
        """Return what became of one row."""
        row = read_row(Path(place.path), place.row)
        return self._document(row, place) if table == "documents" else _record(row, place)

    def _document(self, row: Mapping[str, Any], place: Place) -> Fate:
        steps = tuple(self._steps(row, place))
        dropped = next((step for step in steps if step.kept is False), None)
        corpus = None if dropped else self._find_in("cut", row["doc_id"], place.part)
        if dropped is None and corpus is None and self._stage("cut") is not None:
            dropped = StepFate("cut", "cut", False, "nothing_left")
            steps = (*steps, dropped)
        tokens = None if corpus is None else self._find_in("tokenize", row["doc_id"])
        return Fate(
            doc_id=row["doc_id"],
            url=row["url"],
            source=row["source"],
            date=row["date"],
            kind="document",
            origin=Origin.of(row["origin"]),
            outcome="dropped" if dropped else "kept",
            step=dropped.label if dropped else "tokenize" if tokens else "cut",
            reason=dropped.reason if dropped else None,
            evidence=dropped.evidence if dropped else None,
            survivor=dropped.survivor if dropped else None,
            place=place,
            text_bytes=row["text_bytes"],
            text=row["text"][:TEXT_START],
            steps=steps,
            failed=tuple(failed for step in steps for failed in step.failed),
            metadata=json.loads(row["metadata"]),
            corpus=corpus,
            tokens=tokens,
            num_tokens=read_row(Path(tokens.path), tokens.row, ["num_tokens"])["num_tokens"] if tokens else None,
        )

    def _find_in(self, stage: str, doc_id: str, part: int | None = None) -> Place | None:
        """Return a kept document's row in the corpus (a part for each of the documents') or among the tokens."""
        manifest = self._stage(stage)
        if manifest is None:
            return None
        column, value = ("order", int(doc_id[16:], 16)) if stage == "tokenize" else ("doc_id", doc_id)
        for number in range(len(manifest.parts)) if part is None else (part,):
            path = self.store.part_path(manifest, number)
            for row in find_rows(path, column, value):
                if read_row(path, row, ["doc_id"])["doc_id"] == doc_id:
                    return Place(str(path), number, row)
        return None

    def _steps(self, row: Mapping[str, Any], place: Place) -> Iterator[StepFate]:
        for step, manifest in self.steps:
            if manifest.table == "signals":
                yield self._measured(step.label, manifest, row, place)
            elif step.stage in ("adopt", "earlier"):
                yield _decided(step, read_row(self.store.part_path(manifest, place.part), place.row))
            elif step.stage == "rules":
                yield self._judged(step, manifest, place)

    def _measured(self, label: str, manifest: Manifest, row: Mapping[str, Any], place: Place) -> StepFate:
        values = read_row(self.store.part_path(manifest, place.part), place.row)
        data = row["text"].encode()
        columns = [name for name in values if name not in ("doc_id", "text_bytes")]
        return StepFate(label, "measure", measured=tuple(_shown(name, values[name], data) for name in columns))

    def _judged(self, step: LockedStep, manifest: Manifest, place: Place) -> StepFate:
        """Judge the document by every rule of a step, whatever it had failed before."""
        verdict = read_row(self.store.part_path(manifest, place.part), place.row)
        table = RuleValues(manifest, self.store)
        values = table.row(place.part, place.row)
        columns = {name: [value] for name, value in values.items()}
        passed = [bool(apply_rule(rule, columns)[0]) for rule in table.rules]
        failed = [
            failed_rule(step.label, rule, values)
            for rule, passes in zip(table.rules, passed, strict=True)
            if not passes
        ]
        judged = [
            Judged(data, values[rule.column], str(rule.bounds_for(values)), rule.applies_to(values), passes)
            for data, rule, passes in zip(manifest.config["rules"], table.rules, passed, strict=True)
        ]
        decided = _decided(step, verdict)
        evidence = failed[0].evidence if verdict["kept"] is False else None
        return replace(decided, judged=tuple(judged), failed=tuple(failed), evidence=evidence)


def _is_doc_id(name: str) -> bool:
    return len(name) == 32 and set(name) <= set("0123456789abcdef")


def _exact(path: Path, part: int, column: str, value: str) -> Iterator[Place]:
    for row in find_rows(path, column, value):
        yield Place(str(path), part, row)


def _canonical(path: Path, part: int, wanted: str) -> Iterator[Place]:
    row = 0
    for batch in read_batches(path, ["url"]):
        for url in batch.column("url").to_pylist():
            if url and canonical_url(url) == wanted:
                yield Place(str(path), part, row)
            row += 1


def _record(row: Mapping[str, Any], place: Place) -> Fate:
    """Return the fate of what never became a document."""
    return Fate(
        doc_id=row["doc_id"],
        url=row["url"],
        source=row["source"],
        date=None,
        kind=row["kind"],
        origin=Origin.of(row["origin"]),
        outcome=row["fate"],
        step="read",
        reason=row["reason"],
        evidence=_evidence(row["evidence"]),
        survivor=None,
        place=place,
        text_bytes=None,
        text=None,
    )


def _decided(step: LockedStep, verdict: Mapping[str, Any]) -> StepFate:
    return StepFate(
        label=step.label,
        stage=step.stage,
        kept=verdict["kept"],
        reason=verdict["reason"],
        evidence=_evidence(verdict["evidence"]),
        survivor=verdict["survivor"],
        cluster=verdict["cluster"],
        cluster_size=verdict["cluster_size"],
    )


def _evidence(text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    evidence: Mapping[str, Any] = json.loads(text)
    return evidence


def _shown(column: str, value: Any, data: bytes) -> Measured:
    if isinstance(value, list):
        return Measured(column, len(value), tuple(_shown_span(span, data) for span in to_spans(value)))
    return Measured(column, len(value) if isinstance(value, bytes) else value)


def _shown_span(span: Span, data: bytes) -> ShownSpan:
    return ShownSpan(*span, text=data[span.start : span.end].decode(errors="replace")[:SPAN_START])
