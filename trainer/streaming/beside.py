"""What stands beside tokens, for the pieces of a batch: ids, URLs, labels of the metadata, texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.pipeline.prefixes import metadata_of
from headrace.pipeline.schema import TOKENS

Int64s = NDArray[np.int64]
METADATA = "metadata"
NAMES = tuple(name for name in TOKENS.names if name not in ("order", "tokens"))


def check_names(names: Sequence[str]) -> None:
    """Refuse columns that no tokens have beside them; of the metadata any name may be asked (`metadata.NAME`).

    Raises:
        ValueError: there is no such column.
    """
    for name in names:
        if name not in NAMES and not (name.startswith(f"{METADATA}.") and name != f"{METADATA}."):
            raise ValueError(f"no {name!r} is beside tokens; there are {', '.join(NAMES)}, metadata.NAME")


def stored_columns(names: Sequence[str]) -> list[str]:
    """Return the stored columns that hold these."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def values_of(table: pa.Table, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    """Return what each row of a table of tokens has, by name; null where its metadata has no such name."""
    found: dict[str, Sequence[Any]] = {}
    parsed = metadata_of(table) if any("." in name for name in names) else []
    for name in names:
        column, _, key = name.partition(".")
        found[name] = [one.get(key) for one in parsed] if key else table.column(column).combine_chunks()
    return found


@dataclass
class Beside:
    """Values of the pieces of rows, row by row.

    Attributes:
        extents: for each row where its pieces begin and end, int64 (pieces, 2).
        values: by name for each row, a value a piece.
    """

    extents: list[Int64s]
    values: dict[str, list[list[Any]]] = field(default_factory=dict)

    @classmethod
    def empty(cls, names: Sequence[str], rows: int) -> "Beside":
        """Return places for so many rows that hold nothing yet."""
        return cls([np.zeros((0, 2), np.int64)] * rows, {name: [[] for _ in range(rows)] for name in names})

    def write(self, window: Any, rows: Int64s, places: Int64s, *, bare: bool) -> None:
        """Write rows of a window to places; with `bare` prefixes are left out. What was taken down has no values."""
        first, pieces, lines = window.layout.packed.first, window.pieces_table, window.lines
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            mine = pieces[first[row] : first[row + 1]]
            ends = np.cumsum(mine[:, 2])
            begins = ends - mine[:, 2]
            if bare:
                begins = begins + np.clip(lines[mine[:, 0], 3] - mine[:, 1], 0, mine[:, 2])
            self.extents[place] = np.stack([begins, ends], axis=1)
            documents = [None if lines[k, 2] else int(window.layout.documents[k]) for k in mine[:, 0].tolist()]
            for name, column in window.beside.items():
                self.values[name][place] = [None if k is None else _plain(column[k]) for k in documents]

    def part(self, rows: slice) -> "Beside":
        """Return some of the rows."""
        return Beside(self.extents[rows], {name: lists[rows] for name, lists in self.values.items()})

    def cut(self, sequence_length: int, length: int) -> "Beside":
        """Return every row cut into rows of a length that divides its own, each with the pieces that reach into it."""
        cuts = range(0, sequence_length, length)
        extents: list[Int64s] = []
        values: dict[str, list[list[Any]]] = {name: [] for name in self.values}
        for number, extent in enumerate(self.extents):
            for start in cuts:
                begins, ends = np.maximum(extent[:, 0], start), np.minimum(extent[:, 1], start + length)
                inside = np.flatnonzero(ends > begins).tolist()
                extents.append(np.stack([begins[inside], ends[inside]], axis=1) - start)
                for name, lists in self.values.items():
                    values[name].append([lists[number][k] for k in inside])
        return Beside(extents, values)


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value
