"""Windows of a token artifact as rows: documents laid end to end and cut to the sequence length.

A document of n tokens takes n + 1 positions: its inputs are `<|endoftext|>` and its tokens, its targets its tokens and
`<|endoftext|>`. The pieces of a row are the documents, or parts of documents, that fall into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.pipeline.schema import Manifest
from headrace.pipeline.split import heldout_rows
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns
from headrace.pipeline.vocabulary import token_dtype

CACHED_WINDOWS = 3


@dataclass(frozen=True)
class Piece:
    """A stretch of a document in a row: `length` positions from `start` in the document, at `offset` in the row."""

    doc_id: str
    start: int
    length: int
    offset: int


@dataclass(frozen=True)
class Window:
    """The served documents of one window and split, end to end; `starts` has one entry more than documents."""

    doc_ids: Sequence[str]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    targets: NDArray[np.int32]

    @classmethod
    def of(cls, doc_ids: Sequence[str], documents: Sequence[NDArray[Any]], end_of_text: int) -> "Window":
        """Lay documents end to end."""
        lengths = [len(tokens) + 1 for tokens in documents]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        targets = np.empty(starts[-1], dtype=np.int32)
        for start, end, tokens in zip(starts, starts[1:], documents, strict=False):
            targets[start : end - 1] = tokens
            targets[end - 1] = end_of_text
        inputs = np.empty_like(targets)
        inputs[1:] = targets[:-1]
        inputs[starts[:-1]] = end_of_text
        return cls(doc_ids, starts, inputs, targets)

    def pieces(self, row: int, sequence_length: int) -> list[Piece]:
        """Return what a row holds, in order."""
        begin = row * sequence_length
        end = min(begin + sequence_length, int(self.starts[-1]))
        first = int(np.searchsorted(self.starts, begin, side="right")) - 1
        found = []
        while first < len(self.doc_ids) and self.starts[first] < end:
            low, high = max(begin, int(self.starts[first])), min(end, int(self.starts[first + 1]))
            found.append(Piece(self.doc_ids[first], low - int(self.starts[first]), high - low, low - begin))
            first += 1
        return found


@dataclass(frozen=True)
class WindowPlace:
    """Which documents of which part a window spans, and how many rows it makes."""

    part: int
    first_document: int
    num_documents: int
    num_rows: int


class TokenTable:
    """The windows of one token artifact, for one split; reads few row groups at a time and keeps a few windows."""

    def __init__(self, store: Store, tokens: Manifest, index: Manifest, split: str, end_of_text: int) -> None:
        self._folder = store.artifact_folder(tokens.stage, tokens.key)
        self._parts = [part.files[tokens.table] for part in tokens.parts]
        self._dtype = token_dtype(int(tokens.facts["token_bytes"]))
        self._index, self._index_folder = index, store.artifact_folder(index.stage, index.key)
        self._split, self._end_of_text = split, end_of_text
        self.window = lru_cache(CACHED_WINDOWS)(self._read_window)

    @cached_property
    def places(self) -> list[WindowPlace]:
        """The windows that hold documents of the split, in order."""
        columns = ["split", "part", "first_document", "num_documents", "num_rows"]
        rows = read_columns(self._file(self._index.table), columns).to_pylist()
        return [
            WindowPlace(*(row[name] for name in columns[1:]))
            for row in rows
            if row["split"] == self._split and row["num_rows"]
        ]

    @cached_property
    def _left_out(self) -> set[tuple[int, int]]:
        return {(row["part"], row["row"]) for row in read_columns(self._file("left_out")).to_pylist()}

    def _file(self, table: str) -> Path:
        return self._index_folder / self._index.parts[0].files[table].name

    def _read_window(self, number: int) -> Window:
        place = self.places[number]
        table = self._rows(place)
        heldout = int(self._index.config["heldout"])
        ids, held = table.column("doc_id").to_pylist(), heldout_rows(table.column("split_key").to_pylist(), heldout)
        blobs = table.column("tokens").combine_chunks()
        served = [
            row
            for row in np.flatnonzero(held == (self._split == "heldout")).tolist()
            if (place.part, place.first_document + row) not in self._left_out
        ]
        documents = [np.frombuffer(blobs[row].as_buffer(), dtype=self._dtype) for row in served]
        return Window.of([ids[row] for row in served], documents, self._end_of_text)

    def _rows(self, place: WindowPlace) -> pa.Table:
        """Read a window's documents: only the row groups that it reaches into."""
        file = self._parts[place.part]
        begin, end = place.first_document, place.first_document + place.num_documents
        edges = np.cumsum([0, *(group.rows for group in file.row_groups)])
        groups = [i for i in range(len(edges) - 1) if edges[i] < end and edges[i + 1] > begin]
        with pq.ParquetFile(self._folder / file.name, page_checksum_verification=True) as parquet:
            table = parquet.read_row_groups(groups, columns=["doc_id", "split_key", "tokens"])
        return table.slice(begin - int(edges[groups[0]]), place.num_documents)
