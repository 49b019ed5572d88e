"""Side tables by column id: whole columns of a part, or the values of one document, found by what they are called."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from headrace.filters.rules import RuleError, near_miss
from headrace.pipeline.errors import InputError
from headrace.pipeline.rows import read_row
from headrace.pipeline.schema import Manifest, Upstream
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_aligned, read_schema
from headrace.pipeline.views import roles_of_columns

Value = int | float | bool | str | None


@dataclass(frozen=True)
class SideTables:
    """The tables beside the documents that some artifacts were made from, by role."""

    roles: Mapping[str, Upstream]
    store: Store
    _loaded: dict[str, Manifest] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, manifests: Iterable[Manifest], store: Store) -> "SideTables":
        """Return the side tables that artifacts name as their inputs."""
        items = [item for manifest in manifests for item in manifest.inputs]
        return cls({item.role: item for item in items if item.role == "documents" or _is_signal(item.role)}, store)

    def check(self, names: Sequence[str]) -> None:
        """Refuse columns that are nowhere.

        Raises:
            InputError: no table is there of a column's signal.
            RuleError: the table of its signal has no such column.
        """
        for table, columns in self._tables(names):
            known = read_schema(self.store.part_path(table, 0)).names if table.parts else columns
            for column in columns:
                if column not in known:
                    raise RuleError(f"no column {column!r}{near_miss(column, known)}; it has {', '.join(known)}")

    def columns(self, names: Sequence[str], part: int, doc_ids: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
        """Return columns of one part by id.

        Raises:
            InputError: no table is there of a column's signal.
            IntegrityError: a table holds other documents than these.
        """
        found: dict[str, pa.ChunkedArray] = {}
        for table, columns in self._tables(names):
            found |= read_aligned(self.store.part_path(table, part), columns, doc_ids)
        return found

    def row(self, names: Sequence[str], part: int, row: int) -> dict[str, Value]:
        """Return one document's values by column id; see `columns` for errors."""
        found: dict[str, Value] = {}
        for table, columns in self._tables(names):
            found |= read_row(self.store.part_path(table, part), row, columns)
        return found

    def _tables(self, names: Sequence[str]) -> Iterator[tuple[Manifest, list[str]]]:
        for role, columns in roles_of_columns(names).items():
            if role not in self.roles:
                known = [name.removeprefix("signals:") for name in self.roles if _is_signal(name)]
                signal = role.removeprefix("signals:")
                raise InputError(
                    f"no step on the way to this artifact reads the signal {signal!r}{near_miss(signal, known)}; "
                    "to measure it takes the texts: add it to the recipe and build"
                )
            yield self._load(role), columns

    def _load(self, role: str) -> Manifest:
        if role not in self._loaded:
            item = self.roles[role]
            self._loaded[role] = Manifest.load(self.store.artifact_folder(item.stage, item.key) / MANIFEST)
        return self._loaded[role]


def _is_signal(role: str) -> bool:
    return role.startswith("signals:")
