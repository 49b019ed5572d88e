"""Trace: from a step of a run back to the documents of its batch, and to the bytes that they were read from.

No log of batches is kept: the stream computes the batch again, and the corpus that the tokens were made from says where
each document came from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches
from headrace.trainer.stream import Stream
from headrace.trainer.streaming.corpus import Corpus, upstream

COLUMNS = ["doc_id", "url", "source", "origin"]


@dataclass(frozen=True)
class Traced:
    """A stretch of a document in a batch: `length` positions from `start`, and where its bytes were read.

    `corpus` is the number of the corpus that the row is from, in the order of the plan, from 0.
    """

    row: int
    offset: int
    doc_id: str
    start: int
    length: int
    corpus: int
    url: str | None
    source: str
    origin: dict[str, Any]


def trace(stream: Stream, step: int) -> list[Traced]:
    """Return the documents of the batch of a step, in the order of its rows."""
    rows = stream.pieces(step)
    known = {
        number: find_documents(
            corpus, {piece.doc_id for source, pieces in rows if source == number for piece in pieces}
        )
        for number, corpus in enumerate(stream.corpora)
    }
    return [
        Traced(row, piece.offset, piece.doc_id, piece.start, piece.length, source, **known[source][piece.doc_id])
        for row, (source, pieces) in enumerate(rows)
        for piece in pieces
    ]


def find_documents(corpus: Corpus, doc_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return url, source and origin of documents by id, from the corpus that the tokens were made from."""
    manifest = upstream(upstream(corpus.tokens, "encoded", corpus.store), "corpus", corpus.store)
    wanted = pa.array(sorted(doc_ids), pa.string())
    found: dict[str, dict[str, Any]] = {}
    for path in part_paths(manifest, corpus.store):
        for batch in read_batches(path, COLUMNS):
            for row in batch.filter(pc.is_in(batch.column("doc_id"), wanted)).to_pylist():
                found[row.pop("doc_id")] = row
    return found


def part_paths(manifest: Manifest, store: Store) -> list[Path]:
    """Return where the parts of an artifact's main table lie."""
    folder = store.artifact_folder(manifest.stage, manifest.key)
    return [folder / part.files[manifest.table].name for part in manifest.parts]
