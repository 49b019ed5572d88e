"""The tables beside documents that decide about duplicates, asked about the candidates alone."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.filters.judging import failures
from headrace.filters.rules import Rule
from headrace.pipeline.dedup.candidates import Int64s, gather_hashes, split_rows
from headrace.pipeline.dedup.entries import Bools, Hashes
from headrace.pipeline.dedup.ranking import Survivor, rank
from headrace.pipeline.doc_ids import id_words
from headrace.pipeline.schema import Tally
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows
from headrace.pipeline.views import role_of_column, roles_of_columns


@dataclass(frozen=True)
class Facts:
    """Candidates in row order: their ids as two numbers each, whether they were taken down; and their ranking.

    `order` are their numbers (of candidates, not of documents) from the most to the least preferred.
    """

    ids: npt.NDArray[np.uint64]
    taken_down: Bools
    order: Int64s


@dataclass(frozen=True)
class DecidingTables:
    """Paths of the tables of all parts by role, in row order."""

    paths: Mapping[str, Sequence[Path]]
    store: Store

    @property
    def folder(self) -> Path | None:
        """Where unnamed files may lie: in the store, or where others do if that cannot be written."""
        return self.store.root if os.access(self.store.root, os.W_OK) else None

    @cached_property
    def _lengths(self) -> tuple[list[int], int]:
        rows, num_bytes = [], 0
        for path in self.paths["verdicts"]:
            column = read_columns(path, ["text_bytes"]).column(0)
            rows.append(len(column))
            num_bytes += pc.sum(column).as_py() or 0
        return rows, num_bytes

    @property
    def num_rows(self) -> list[int]:
        """How many documents each part has."""
        return self._lengths[0]

    @property
    def total(self) -> Tally:
        """How many documents there are, and how much text."""
        return Tally(records=sum(self.num_rows), bytes=self._lengths[1])

    def facts(self, rows: Int64s, survivor: Survivor, rules: Sequence[Rule], taken_down: set[int]) -> Facts:
        """Rank the documents of these numbers, which are ascending.

        Args:
            rows: Their numbers among the documents of all parts.
            survivor: Which is preferred.
            rules: What later steps ask: those that fail are preferred to none.
            taken_down: Numbers of documents that were taken down.
        """
        ids = np.zeros((len(rows), 2), np.uint64)
        eligible = np.ones(len(rows), dtype=bool)
        names = [*survivor.columns(), *(name for rule in rules for name in rule.columns)]
        grades: list[list[npt.NDArray[np.float64]]] = []
        for part, (start, mine) in enumerate(split_rows(rows, self.num_rows)):
            doc_ids, columns = self._rows(part, rows[mine] - start, names)
            ids[mine] = id_words(doc_ids)
            grades.append(survivor.grades(columns, len(doc_ids), str(self.paths["verdicts"][part])))
            if rules:
                eligible[mine] = ~failures(rules, columns).any(axis=1)
        down = np.isin(rows, np.array(sorted(taken_down), np.int64))
        together = [np.concatenate(pieces) for pieces in zip(*grades, strict=True)]
        return Facts(ids, down, rank(ids, together, eligible, down))

    def _rows(
        self, part: int, rows: Int64s, names: Sequence[str]
    ) -> tuple[pa.ChunkedArray, dict[str, pa.ChunkedArray]]:
        """Return ids and columns of some rows of a part."""
        taken = pa.array(rows)
        ids = read_columns(self.paths["verdicts"][part], ["doc_id"]).column("doc_id").take(taken)
        columns: dict[str, pa.ChunkedArray] = {}
        for role, own in roles_of_columns(names).items():
            path = self.paths[role][part]
            table = read_columns(path, list(dict.fromkeys(["doc_id", *own]))).take(taken)
            same_rows(ids, table.column("doc_id"), path)
            columns |= {name: table.column(name) for name in own}
        return ids, columns

    def hashes(self, column: str, bits: int, rows: Int64s, places: Int64s) -> Hashes:
        """Return hashes of the documents of these numbers; see `gather_hashes`."""
        paths = self.paths[role_of_column(column)]
        return gather_hashes(paths, column, bits, rows, self.num_rows, places, self.folder)
