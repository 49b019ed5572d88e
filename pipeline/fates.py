"""Fates: what became of many documents on the way to one corpus, counted by step and reason.

Ids are compared as 16 bytes each in memory; of verdicts only the columns of what was decided are read, and of those
parts only where documents in question lie. What a single document failed, and by which value, is read for samples.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.pipeline.inspect import DECIDING, NOTHING_LEFT
from headrace.pipeline.rows import read_row
from headrace.pipeline.rule_values import Failed, RuleValues
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns

NOT_IN_INPUT = "not_in_the_input"

ID = pa.binary(16)
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cause:
    """Why a document is not in a corpus, in full: the rules that it fails, or what a step noted beside its reason."""

    failed: tuple[Failed, ...] = ()
    evidence: Mapping[str, Any] | None = None
    survivor: str | None = None


@dataclass
class Fates:
    """Documents by the step and the reason that ended them; each is given by its number in the question."""

    numbers: dict[tuple[str, str], list[Rows]] = field(default_factory=dict)

    def add(self, step: str, reason: str, numbers: Rows) -> None:
        """Note documents that ended there."""
        if len(numbers):
            self.numbers.setdefault((step, reason), []).append(numbers)

    def groups(self) -> Iterator[tuple[str, str, Rows]]:
        """Yield step, reason and documents, most documents first."""
        joined = {key: np.concatenate(found) for key, found in self.numbers.items()}
        for (step, reason), numbers in sorted(joined.items(), key=lambda item: (-len(item[1]), item[0])):
            yield step, reason, numbers


class Way:
    """The steps that led to one corpus, and where each document stood on it."""

    def __init__(self, chain: Sequence[Manifest], store: Store) -> None:
        self.store = store
        self.read = next(manifest for manifest in chain if manifest.stage == "read")
        self.cut = next(manifest for manifest in reversed(chain) if manifest.table == "corpus")
        self.deciding = [manifest for manifest in chain if manifest.stage in DECIDING]
        self.ids = stored_ids(self.cut, store)

    @cached_property
    def documents(self) -> pa.Array:
        """The ids of all documents that were read, in row order."""
        return stored_ids(self.read, self.store)

    def fates(self, ids: pa.Array) -> Fates:
        """Return what became of documents that are not in this corpus."""
        fates, places = Fates(), positions(ids, self.documents)
        self._never_documents(fates, ids, np.flatnonzero(places < 0))
        numbers = np.flatnonzero(places >= 0)
        starts = part_starts(self.read)
        for part in np.unique(part_of(places[numbers], starts)).tolist():
            inside = numbers[part_of(places[numbers], starts) == part]
            left = self._decided(fates, part, inside, places[inside] - starts[part])
            fates.add(self.cut.name, NOTHING_LEFT, left)
        return fates

    def _never_documents(self, fates: Fates, ids: pa.Array, numbers: Rows) -> None:
        """Note records that were read and became no document, and those that were never there."""
        if not len(numbers):
            return
        for part in range(len(self.read.parts)):
            table = read_columns(self.store.part_path(self.read, part, "records"), ["doc_id", "reason"])
            table = table.filter(table.column("doc_id").is_valid())
            found = positions(ids.take(pa.array(numbers)), as_ids(table.column("doc_id")))
            known = np.flatnonzero(found >= 0)
            self._add(fates, self.read.name, table.column("reason").take(pa.array(found[known])), numbers[known])
            numbers = numbers[found < 0]
        fates.add(self.read.name, NOT_IN_INPUT, numbers)

    def _decided(self, fates: Fates, part: int, numbers: Rows, rows: Rows) -> Rows:
        """Note which step dropped documents of one part; return those that none did."""
        for manifest in self.deciding:
            if not len(numbers):
                break
            table = read_columns(self.store.part_path(manifest, part), ["kept", "reason"]).take(pa.array(rows))
            dropped = pc.equal(table.column("kept"), False).fill_null(False).to_numpy()
            self._add(fates, manifest.name, table.column("reason").filter(pa.array(dropped)), numbers[dropped])
            numbers, rows = numbers[~dropped], rows[~dropped]
        return numbers

    def _add(self, fates: Fates, step: str, reasons: pa.ChunkedArray, numbers: Rows) -> None:
        for reason in reasons.unique().to_pylist():
            fates.add(step, reason, numbers[pc.equal(reasons, reason).to_numpy()])

    def cause(self, doc_id: pa.Scalar, step: str) -> Cause:
        """Return in full why a step dropped a document."""
        manifest = next((manifest for manifest in self.deciding if manifest.name == step), None)
        if manifest is None:
            return Cause()
        place = int(positions(pa.array([doc_id.as_py()], ID), self.documents)[0])
        starts = part_starts(self.read)
        part = int(part_of(np.array([place]), starts)[0])
        row = place - int(starts[part])
        verdict = read_row(self.store.part_path(manifest, part), row)
        failed = tuple(RuleValues(manifest, self.store).failed(part, row, verdict["failed"] or ()))
        evidence = json.loads(verdict["evidence"]) if verdict["evidence"] else None
        return Cause(failed, evidence, verdict["survivor"])


def stored_ids(manifest: Manifest, store: Store) -> pa.Array:
    """Return the ids of all documents of an artifact's main table, in row order."""
    parts = [
        as_ids(read_columns(store.part_path(manifest, part), ["doc_id"]).column("doc_id"))
        for part in range(len(manifest.parts))
    ]
    return pa.concat_arrays(parts) if parts else pa.array([], ID)


def as_ids(doc_ids: pa.ChunkedArray) -> pa.Array:
    """Return ids of 32 hex digits as 16 bytes each."""
    digits = "".join(doc_ids.to_pylist())
    return pa.Array.from_buffers(ID, len(doc_ids), [None, pa.py_buffer(bytes.fromhex(digits))])


def as_hex(doc_id: pa.Scalar) -> str:
    """Return an id as it is written."""
    data: bytes = doc_id.as_py()
    return data.hex()


def positions(ids: pa.Array, among: pa.Array) -> Rows:
    """Return where each id first stands among others, -1 where it does not."""
    found: Rows = pc.index_in(ids, value_set=among).fill_null(-1).to_numpy().astype(np.int64)
    return found


def part_starts(manifest: Manifest) -> Rows:
    """Return the number of each part's first row among those of all parts."""
    rows = [part.files[manifest.table].rows or 0 for part in manifest.parts]
    return np.cumsum([0, *rows])[:-1]


def part_of(rows: Rows, starts: Rows) -> Rows:
    """Return the number of the part that each row lies in."""
    return np.searchsorted(starts, rows, side="right") - 1
