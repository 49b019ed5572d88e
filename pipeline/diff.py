"""Diff: which documents changed fate between two corpora, and why; of one store or of two.

Documents are compared by `doc_id`. What is in one corpus alone is looked up on the way to the other: it was never read,
was dropped by a step for a reason, or was left with no text. What is in both is compared by its text, unless the same
edits were made to the same documents: then nothing is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.pipeline.ancestry import ancestry, manifest_of
from headrace.pipeline.errors import InputError
from headrace.pipeline.fates import Rows, Way, as_hex, part_of, part_starts, positions
from headrace.pipeline.rows import read_row
from headrace.pipeline.rule_values import Failed
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches

NUM_SAMPLES = 3
SNIPPET = 60
"""Characters that are shown of a text, from where it begins to differ."""

BATCH_ROWS = 512


@dataclass(frozen=True)
class Left:
    """A document that is not in the other corpus, and all that is known of why."""

    doc_id: str
    url: str | None
    failed: tuple[Failed, ...]
    evidence: Mapping[str, Any] | None
    survivor: str | None


@dataclass(frozen=True)
class Reason:
    """Documents that one step kept out of the other corpus, for one reason."""

    step: str
    reason: str
    documents: int
    samples: tuple[Left, ...]


@dataclass(frozen=True)
class Side:
    """One corpus: how many documents it has, how many of them alone, and why the other has not."""

    path: str
    content: str
    documents: int
    alone: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class OtherText:
    """A document that both have, with different texts: their sizes, and both from the character that differs first."""

    doc_id: str
    url: str | None
    bytes_a: int
    bytes_b: int
    differs_at: int
    text_a: str
    text_b: str


@dataclass(frozen=True)
class Difference:
    """Two corpora, document by document."""

    a: Side
    b: Side
    both: int
    same_text: int
    other_text: int
    samples: tuple[OtherText, ...]


def diff(a: Path, b: Path, num_samples: int = NUM_SAMPLES) -> Difference:
    """Compare two corpora, each given by a manifest, an artifact's folder or one of its parts.

    Raises:
        InputError: one of them is no corpus, and was not made from one.
        StoreError: one lies in no store, or an artifact that it was made from is gone.
        IntegrityError: a record is damaged.
    """
    ways = [_open(path) for path in (a, b)]
    where = positions(ways[0].ids, ways[1].ids)
    in_a = np.flatnonzero(where >= 0)
    in_b = where[in_a]
    differing = _differing(ways[0], ways[1], in_a, in_b)
    shared = np.zeros(len(ways[1].ids), dtype=bool)
    shared[in_b] = True
    return Difference(
        a=_side(ways[0], ways[1], np.flatnonzero(where < 0), num_samples),
        b=_side(ways[1], ways[0], np.flatnonzero(~shared), num_samples),
        both=len(in_a),
        same_text=len(in_a) - len(differing),
        other_text=len(differing),
        samples=tuple(
            _other_text(ways[0], ways[1], int(in_a[n]), int(in_b[n]))
            for n in _smallest(ways[0].ids.take(pa.array(in_a)), differing, num_samples)
        ),
    )


def _open(path: Path) -> Way:
    path = manifest_of(path)
    store = Store.containing(path)
    chain = ancestry(Manifest.load(path), store)
    if not any(manifest.table == "corpus" for manifest in chain):
        raise InputError(f"{path}: is no corpus, and was not made from one; name the manifest that `build` prints")
    return Way(chain, store)


def _side(way: Way, other: Way, rows: Rows, num_samples: int) -> Side:
    """Describe one corpus, given the rows that it has alone."""
    ids = way.ids.take(pa.array(rows))
    return Side(
        path=str(way.store.artifact_folder(way.cut.stage, way.cut.key)),
        content=way.cut.content,
        documents=len(way.ids),
        alone=len(rows),
        reasons=tuple(
            Reason(
                step,
                reason,
                len(numbers),
                tuple(_left(way, other, int(rows[n]), step) for n in _smallest(ids, numbers, num_samples)),
            )
            for step, reason, numbers in other.fates(ids).groups()
        ),
    )


def _left(way: Way, other: Way, row: int, step: str) -> Left:
    cause = other.cause(way.ids[row], step)
    url = _read(way, row, ["url"])["url"]
    return Left(as_hex(way.ids[row]), url, cause.failed, cause.evidence, cause.survivor)


def _smallest(ids: pa.Array, numbers: Rows, limit: int) -> list[int]:
    """Return those numbers whose ids are the smallest, smallest first."""
    chosen = pa.table({"id": ids.take(pa.array(numbers)).cast(pa.binary()), "number": numbers})
    if not (limit and chosen.num_rows):
        return []
    order = pc.select_k_unstable(chosen, min(limit, chosen.num_rows), sort_keys=[("id", "ascending")])
    smallest: list[int] = chosen.column("number").take(order).to_pylist()
    return smallest


# ------------------------------------------------------------------------------------------------------------- text


def _differing(a: Way, b: Way, in_a: Rows, in_b: Rows) -> Rows:
    """Return which of the documents that both have, by number, have different texts."""
    if a.cut.content == b.cut.content or _edited(a.cut) == _edited(b.cut):
        return np.zeros(0, dtype=np.int64)
    digests = [_text_digests(way, rows) for way, rows in ((a, in_a), (b, in_b))]
    return np.flatnonzero((digests[0] != digests[1]).any(axis=1))


def _edited(cut: Manifest) -> tuple[Any, ...]:
    """Return what the text of a kept document follows from."""
    made_from = {item.role: item.content for item in cut.inputs if item.role != "verdicts"}
    return cut.config["edits"], cut.resources, made_from


def _text_digests(way: Way, rows: Rows) -> NDArray[np.uint64]:
    """Return 128 bits of hash of the text in each of some rows, in that order."""
    from xxhash import xxh3_128_digest

    wanted = np.zeros(len(way.ids), dtype=bool)
    wanted[rows] = True
    found = np.zeros((len(way.ids), 2), dtype=np.uint64)
    first = 0
    for batch in _texts(way):
        texts = batch.column("text").cast(pa.binary())
        here = np.flatnonzero(wanted[first : first + len(texts)])
        made = b"".join([xxh3_128_digest(texts[row].as_buffer()) for row in here.tolist()])
        found[first + here] = np.frombuffer(made, np.uint64).reshape(-1, 2)
        first += len(texts)
    return found[rows]


def _texts(way: Way) -> Iterator[pa.RecordBatch]:
    for part in range(len(way.cut.parts)):
        yield from read_batches(way.store.part_path(way.cut, part), ["text"], batch_rows=BATCH_ROWS)


def _other_text(a: Way, b: Way, row_a: int, row_b: int) -> OtherText:
    one, other = (_read(way, row, ["url", "text", "text_bytes"]) for way, row in ((a, row_a), (b, row_b)))
    at = _first_difference(one["text"], other["text"])
    return OtherText(
        doc_id=as_hex(a.ids[row_a]),
        url=one["url"],
        bytes_a=one["text_bytes"],
        bytes_b=other["text_bytes"],
        differs_at=at,
        text_a=one["text"][at : at + SNIPPET],
        text_b=other["text"][at : at + SNIPPET],
    )


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (left, right) in pairs if left != right), min(len(one), len(other)))


def _read(way: Way, row: int, columns: Sequence[str]) -> dict[str, Any]:
    starts = part_starts(way.cut)
    part = int(part_of(np.array([row]), starts)[0])
    return read_row(way.store.part_path(way.cut, part), row - int(starts[part]), columns)
