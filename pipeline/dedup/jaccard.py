"""True similarities: the Jaccard similarity of the shingles of two texts, for the pairs that are in question.

Only the texts of those pairs are read, each once, and only of pairs that no build of the store has compared before.
Their shingles lie in an unnamed file that is mapped, so memory holds numbers of pairs alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol, runtime_checkable
from weakref import finalize

import numpy as np
import numpy.typing as npt

from headrace.filters.contract import TextBatch
from headrace.pipeline.dedup.candidates import Int64s, ranks_of, split_rows
from headrace.pipeline.dedup.pairs import Compared, Uint64s, pair_up, remembered
from headrace.pipeline.dedup.resolving import Float64s
from headrace.pipeline.dedup.tables import DecidingTables
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.views import RAW, chosen_views

CONTENT = "content"
"""The column that names a text's shingles."""

_RIGHT = np.uint64((1 << 32) - 1)


@runtime_checkable
class Shingled(Protocol):
    """A signal whose signatures are of sets of shingles."""

    def shingle_sets(self, batch: TextBatch) -> tuple[Uint64s, Int64s]:
        """Return each text's distinct shingles as ascending hashes, end to end, and where each text's begin."""
        ...

    def shingle_options(self) -> Mapping[str, Any]:
        """Return the options that decide what a text's shingles are."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Compares texts by the shingles of the signal that a stage measured."""

    measure: Measure

    @cached_property
    def signal(self) -> Shingled:
        """The signal."""
        signal = self.measure.make()
        assert isinstance(signal, Shingled)
        return signal

    @property
    def digest(self) -> str:
        """The digest of what decides a text's shingles; on which view it was measured does not."""
        options = dict(self.signal.shingle_options())
        return digest_json({"signal": self.measure.signal, "options": options, "resources": self.measure.resources()})

    def similarities(self, tables: DecidingTables, rows: Int64s, order: Int64s) -> "TextSimilarities":
        """Return what tells how similar documents are, given by their ranks in an order of `rows`."""
        contents = tables.hashes(f"{self.measure.id}.{CONTENT}", 64, rows, ranks_of(order)).astype(np.uint64)
        distinct, numbers = np.unique(contents, axis=0, return_inverse=True)
        known = remembered(tables.store, self.digest, distinct)
        return TextSimilarities(tables, self.signal, self.measure.view, rows[order], numbers.reshape(-1), known)


class TextSimilarities:
    """Similarities of candidates, given by rank; documents of one of `contents` have the same shingles."""

    def __init__(
        self, tables: DecidingTables, signal: Shingled, view: str, rows: Int64s, contents: Int64s, known: Compared
    ) -> None:
        self._tables, self._signal, self._view = tables, signal, view
        self._rows, self.contents = rows, contents  # by rank
        self._known, self._asked = known, [np.zeros(0, np.uint64)]
        self._sets = _Sets(tables.folder, len(rows))

    @property
    def compared(self) -> Compared:
        """All pairs that were asked about."""
        return self._known.at(self._known.find(np.unique(np.concatenate(self._asked))))

    def of(self, pairs: Uint64s) -> Float64s:
        """Return the Jaccard similarity of each pair, given as `rank of one << 32 | rank of the other`."""
        left, right = (pairs >> np.uint64(32)).astype(np.int64), (pairs & _RIGHT).astype(np.int64)
        asked = pair_up(self.contents[left], self.contents[right])
        self._asked.append(asked)
        places = self._known.find(asked)
        new, missing = np.unique(asked[places < 0], return_index=True)
        if len(missing):
            missing = np.flatnonzero(places < 0)[missing]
            self._read(np.unique(np.concatenate([left[missing], right[missing]])))
            self._known = self._known.extended(new, *self._sets.compare(left[missing], right[missing]))
            places = self._known.find(asked)
        similarities: Float64s = self._known.shared[places] / self._known.total[places]
        return similarities

    def _read(self, ranks: Int64s) -> None:
        """Read the texts of documents whose shingles are not there yet."""
        absent = ranks[~self._sets.has(ranks)]
        absent = absent[np.argsort(self._rows[absent])]
        rows = self._rows[absent]
        for part, (start, mine) in enumerate(split_rows(rows, self._tables.num_rows)):
            done = mine.start
            for batch in self._texts(part, rows[mine] - start):
                self._sets.add(absent[done : done + len(batch)], *self._signal.shingle_sets(batch))
                done += len(batch)

    def _texts(self, part: int, rows: Int64s) -> Iterator[TextBatch]:
        removals = None if self._view == RAW else self._tables.paths[f"signals:{self._view}"][part]
        for views in chosen_views(self._tables.paths["documents"][part], removals, rows):
            yield views.batch


class _Sets:
    """Sets of hashes by document, in an unnamed file."""

    def __init__(self, folder: Path | None, num_documents: int) -> None:
        self._file: Any = TemporaryFile(dir=folder)  # noqa: SIM115 - it has no name, and goes with this object
        finalize(self, self._file.close)
        self._starts, self._ends = np.full((2, num_documents), -1, np.int64)
        self._size = 0

    def has(self, documents: Int64s) -> npt.NDArray[np.bool_]:
        """Return whose sets are there."""
        there: npt.NDArray[np.bool_] = self._starts[documents] >= 0
        return there

    def add(self, documents: Int64s, hashes: Uint64s, offsets: Int64s) -> None:
        """Add the sets of documents, which lie end to end."""
        self._file.write(hashes.tobytes())
        self._starts[documents], self._ends[documents] = self._size + offsets[:-1], self._size + offsets[1:]
        self._size += len(hashes)

    def compare(self, left: Int64s, right: Int64s) -> tuple[Int64s, Int64s]:
        """Return how many hashes each pair of documents shares, and how many one of both has."""
        from headrace.filters.analysis.shared import count_shared

        self._file.flush()
        held = np.memmap(self._file, np.uint64, mode="r") if self._size else np.zeros(0, np.uint64)
        ends = self._starts[left], self._ends[left], self._starts[right], self._ends[right]
        shared: Int64s = count_shared(np.asarray(held), *ends)
        return shared, (ends[1] - ends[0]) + (ends[3] - ends[2]) - shared
