"""The storage windows of a token artifact: what each serves, read when it is needed and kept within a bound of bytes.

A window's rows are packed from the lengths of its documents alone, so its layout can be known without its tokens.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.packing import Packed, Packing, pack
from headrace.pipeline.prefixes import Prefix, Prefixes
from headrace.pipeline.remote.mirror import MirrorStore
from headrace.pipeline.remote.ranges import Range, RangeReader
from headrace.pipeline.schema import Manifest
from headrace.pipeline.serving import Repetition, served
from headrace.pipeline.split import heldout_column
from headrace.pipeline.store import Store
from headrace.pipeline.tables import as_numbers, read_columns
from headrace.pipeline.vocabulary import Vocabulary, token_dtype
from headrace.trainer.streaming.beside import stored_columns, values_of
from headrace.trainer.streaming.parts import LocalParts, MirroredParts, Parts
from headrace.trainer.streaming.splicing import spliced

Int64s = NDArray[np.int64]
LAYOUTS = 16
"""Layouts that are remembered."""
_KEYS = ("num_rows", "num_positions", "num_served", "num_bytes", "num_split", "most_pieces")


@dataclass(frozen=True)
class Piece:
    """A stretch of a document in a row: `length` positions from `start` in its line, at `offset` in the row."""

    doc_id: str
    start: int
    length: int
    offset: int


@dataclass(frozen=True)
class Layout:
    """What a window serves: `documents` are numbers of its rows of tokens, as often as each is served."""

    documents: Int64s
    num_tokens: Int64s
    packed: Packed
    prefixes: Prefixes | None = None
    """Of all documents of the window; `num_tokens` has them in it."""


@dataclass(frozen=True)
class Window:
    """A window with its tokens; `read_ids` gives the ids of all its documents.

    Row `i` of `lines` says of served document `i` where its tokens begin, how many it has, whether (1) it was taken
    down, and how many of its tokens are a prefix. A row of `pieces_table` has a piece's document, its start in that
    line, and its length.
    """

    layout: Layout
    tokens: NDArray[Any]
    lines: Int64s
    pieces_table: Int64s
    read_ids: Callable[[], pa.Array] = field(repr=False)
    beside: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)
    """What was asked of columns beside tokens, for all documents of the window."""

    @classmethod
    def of(
        cls, layout: Layout, tokens: NDArray[Any], begins: Int64s, masked: NDArray[np.bool_], read_ids: Any
    ) -> "Window":
        """Lay out what the kernel reads together side by side."""
        prefixes = np.zeros(len(begins), np.int64)
        if layout.prefixes is not None:
            prefixes = layout.prefixes.lengths[layout.documents]
        lines = np.stack([begins, layout.num_tokens, masked.astype(np.int64), prefixes], axis=1)
        pieces = np.stack([layout.packed.document, layout.packed.start, layout.packed.length], axis=1)
        return cls(layout, tokens, lines, pieces, read_ids)

    @property
    def begins(self) -> Int64s:
        """Where the tokens of each served document begin."""
        return self.lines[:, 0]

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Whether each served document was taken down."""
        gone: NDArray[np.bool_] = self.lines[:, 2] != 0
        return gone

    @property
    def num_bytes(self) -> int:
        """What it takes in memory, nearly."""
        beside = sum(getattr(column, "nbytes", 64 * len(column)) for column in self.beside.values())
        return self.tokens.nbytes + 2 * self.lines.nbytes + 2 * self.pieces_table.nbytes + int(beside)

    @cached_property
    def ids(self) -> pa.Array:
        """The ids of all documents of the window, those too that are not served."""
        return self.read_ids()

    def doc_id(self, document: int) -> str:
        """Return the id of a served document."""
        found: str = self.ids[int(self.layout.documents[document])].as_py()
        return found

    def pieces(self, row: int) -> list[Piece]:
        """Return what a row holds, in order."""
        packed = self.layout.packed
        found, offset = [], 0
        for number in range(int(packed.first[row]), int(packed.first[row + 1])):
            length = int(packed.length[number])
            found.append(Piece(self.doc_id(int(packed.document[number])), int(packed.start[number]), length, offset))
            offset += length
        return found


class TokenTable:
    """The windows of one token artifact that serve something of a split.

    `beside` are columns that windows have; with `bare` windows have no tokens.
    """

    def __init__(
        self,
        store: Store,
        tokens: Manifest,
        index: Manifest,
        split: str,
        hidden: frozenset[str],
        vocabulary: Vocabulary,
        reader: RangeReader | None = None,
        beside: Sequence[str] = (),
        bare: bool = False,
    ) -> None:
        self._beside, self._bare = tuple(beside), bare
        self._hidden, self._hidden_orders = hidden, _orders(hidden)
        self._folder = store.artifact_folder(tokens.stage, tokens.key)
        self._files = [part.files[tokens.table] for part in tokens.parts]
        self._parts: Parts = LocalParts(self._folder, self._files)
        if isinstance(store, MirrorStore) and reader is not None:
            self._parts = MirroredParts(store, tokens, reader)
        self._dtype = token_dtype(int(tokens.facts["token_bytes"]))
        self._index, self._index_folder = index, store.artifact_folder(index.stage, index.key)
        self._split, self._heldout = split, int(index.config["heldout"])
        self._packing: Packing = index.config["packing"]
        self._sequence_length = int(index.config["sequence_length"])
        given = index.config["repetition"]
        self._repetition = Repetition.model_validate(given, strict=False) if given and split == "train" else None
        prefix = index.config["prefix"]
        self._prefix = Prefix.model_validate(prefix, strict=False) if prefix and split == "train" else None
        self._vocabulary = vocabulary
        self.layout = lru_cache(LAYOUTS)(self._read_layout)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._places["part"])

    @cached_property
    def _places(self) -> dict[str, Int64s]:
        names = ["part", "first_document", "num_documents", *_KEYS]
        table = read_columns(self._file(self._index.table), ["split", *names])
        mine = np.array(table.column("split").to_pylist(), dtype=object) == self._split
        columns = {name: as_numbers(table.column(name)) for name in names}
        chosen = mine & (columns["num_rows"] > 0)
        return {name: column[chosen] for name, column in columns.items()}

    @property
    def num_rows(self) -> Int64s:
        """Rows of each window."""
        return self._places["num_rows"]

    @property
    def num_positions(self) -> Int64s:
        """Positions of each window that are no padding."""
        return self._places["num_positions"]

    def total(self, name: str) -> int:
        """Return what all windows together have of a count of the index."""
        return int(self._places[name].sum())

    @property
    def most_pieces(self) -> int:
        """Pieces of the row that has most."""
        return int(self._places["most_pieces"].max(initial=0))

    def fills(self, number: int) -> Int64s:
        """Return the positions of each row of a window that are no padding."""
        return self.layout(number).packed.fills()

    @cached_property
    def _left_out(self) -> dict[int, Int64s]:
        table = read_columns(self._file("left_out"), ["part", "row"])
        parts, rows = (as_numbers(table.column(name)) for name in ("part", "row"))
        return {int(part): rows[parts == part] for part in np.unique(parts)}

    def _file(self, table: str) -> Path:
        return self._index_folder / self._index.parts[0].files[table].name

    @property
    def _layout_columns(self) -> list[str]:
        more = [self._repetition.column] if self._repetition else []
        return list(dict.fromkeys(["split_key", "num_tokens", *more, *(self._prefix.columns if self._prefix else ())]))

    def _read_layout(self, number: int) -> Layout:
        table = self._read(number, self._layout_columns)
        part, first = (int(self._places[name][number]) for name in ("part", "first_document"))
        chosen = heldout_column(table.column("split_key"), self._heldout) == (self._split == "heldout")
        left_out = self._left_out.get(part, np.zeros(0, np.int64)) - first
        chosen[left_out[(left_out >= 0) & (left_out < len(chosen))]] = False
        times = self._repetition.times(table.column(self._repetition.column)) if self._repetition else None
        documents = served(chosen, times)
        prefixes = self._prefix.make(table, self._vocabulary) if self._prefix else None
        num_tokens = as_numbers(table.column("num_tokens"))
        num_tokens = (num_tokens if prefixes is None else num_tokens + prefixes.lengths)[documents]
        packed = pack(self._packing, num_tokens + 1, self._sequence_length)
        if packed.num_rows != self._places["num_rows"][number]:
            raise IntegrityError(
                f"{self._folder / self._files[part].name}: the window at document {first} makes {packed.num_rows} "
                f"rows, the stream index says {self._places['num_rows'][number]}; remove the index and open again"
            )
        return Layout(documents, num_tokens, packed, prefixes)

    def read(self, number: int) -> Window:
        """Read a window.

        Raises:
            IntegrityError: its bytes are not those that the manifest names, or are gone.
        """
        layout = self.layout(number)
        tokens, starts = self._tokens(number, layout)
        pa.default_memory_pool().release_unused()  # what it took to read is of the size of what was read
        begins = starts[layout.documents]
        window = Window.of(layout, tokens, begins, self._masked(number, layout), lambda: self._ids(number))
        if not self._beside:
            return window
        return replace(window, beside=values_of(self._read(number, stored_columns(self._beside)), self._beside))

    def _tokens(self, number: int, layout: Layout) -> tuple[NDArray[Any], Int64s]:
        """Return the tokens of all documents of a window, prefixes before them, and where those of each begin."""
        if self._bare:
            return np.zeros(0, self._dtype), np.zeros(int(self._places["num_documents"][number]), np.int64)
        blobs = self._read(number, ["tokens"]).column("tokens").combine_chunks()
        _, offsets, data = blobs.buffers()
        bounds = np.frombuffer(offsets, np.int32, len(blobs) + 1, blobs.offset * 4).astype(np.int64)
        tokens = np.frombuffer(data, self._dtype, (bounds[-1] - bounds[0]) // self._dtype.itemsize, int(bounds[0]))
        starts = (bounds - bounds[0]) // self._dtype.itemsize
        if layout.prefixes is not None:
            tokens, starts = spliced(tokens, starts, *layout.prefixes[::-1])
        return tokens, starts

    def _ids(self, number: int) -> pa.Array:
        return self._read(number, ["doc_id"]).column("doc_id").combine_chunks()

    def _masked(self, number: int, layout: Layout) -> NDArray[np.bool_]:
        """Tell which served documents of a window are hidden."""
        if not self._hidden or not self._reaches(number, self._hidden_orders):
            return np.zeros(len(layout.documents), dtype=bool)
        gone = pc.is_in(self._ids(number), pa.array(sorted(self._hidden), pa.string()))
        masked: NDArray[np.bool_] = gone.to_numpy(zero_copy_only=False)[layout.documents]
        return masked

    def find(self, doc_ids: Collection[str], among: Iterable[int]) -> dict[int, list[tuple[int, str]]]:
        """Return those of some windows that serve some documents, with the numbers of their servings and their ids.

        Documents lie in parts and windows by the second half of their ids, so few windows are looked into.
        """
        found: dict[int, list[tuple[int, str]]] = {}
        orders = _orders(doc_ids)
        wanted = pa.array(sorted(doc_ids), pa.string())
        for number in sorted(among):
            if len(orders) and self._reaches(number, orders):
                ids = self._ids(number)
                rows = np.flatnonzero(pc.is_in(ids, wanted).to_numpy(zero_copy_only=False))
                documents = self.layout(number).documents
                servings = np.flatnonzero(np.isin(documents, rows))
                if len(servings):
                    found[number] = [(int(k), ids[int(documents[k])].as_py()) for k in servings]
        return found

    def _reaches(self, number: int, orders: NDArray[np.uint64]) -> bool:
        """Tell whether some of these orders, ascending, may be in a window's part, which has an equal share of all."""
        part, parts = int(self._places["part"][number]), len(self._files)
        low, high = ((part + step << 64) // parts for step in (0, 1))
        first = int(np.searchsorted(orders, np.uint64(low)))
        return first < len(orders) and int(orders[first]) < high

    def _read(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of a window's documents: only the row groups that it reaches into."""
        part, groups, skipped = self._groups(number)
        table = self._parts.read(part, groups, columns)
        return table.slice(skipped, int(self._places["num_documents"][number]))

    def _groups(self, number: int) -> tuple[int, list[int], int]:
        """Return a window's part and row groups, and how many documents of the first of these come before it."""
        part, begin, count = (int(self._places[name][number]) for name in ("part", "first_document", "num_documents"))
        edges = np.cumsum([0, *(group.rows for group in self._files[part].row_groups)])
        groups = [i for i in range(len(edges) - 1) if edges[i] < begin + count and edges[i + 1] > begin]
        return part, groups, begin - int(edges[groups[0]])

    def ranges(self, number: int) -> list[Range]:
        """Return the ranges of files elsewhere that a window is read from; none where it lies on this machine."""
        return self._parts.ranges(*self._groups(number)[:2])


def _orders(doc_ids: Collection[str]) -> NDArray[np.uint64]:
    """Return the second halves of ids as numbers, ascending: by these documents lie in parts."""
    return np.array(sorted(int(doc_id[16:], 16) for doc_id in doc_ids), np.uint64)
