"""Single rows of tables: found by value, read by number, a row group at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def find_rows(path: Path, column: str, value: str | int) -> list[int]:
    """Return the numbers of the rows that hold `value`; row groups whose statistics exclude it are not read."""
    rows, first = [], 0
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            if _may_hold(group, column, value):
                values = file.read_row_group(index, columns=[column]).column(0)
                wanted = pa.scalar(value, values.type)
                rows += [first + int(row) for row in pc.indices_nonzero(pc.equal(values, wanted)).to_pylist()]
            first += group.num_rows
    return rows


def _may_hold(group: Any, column: str, value: str | int) -> bool:
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == column:
            known = chunk.statistics
            return known is None or not known.has_min_max or known.min <= value <= known.max
    return True


def read_row(path: Path, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Return one row of a table as a dict; raises IndexError where it has fewer rows."""
    (found,) = read_rows(path, [row], columns)
    return found


def read_rows(path: Path, rows: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield some rows of a table, given in ascending order; raises IndexError where it has fewer rows."""
    wanted, first = list(rows), 0
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for index in range(file.num_row_groups):
            end = first + file.metadata.row_group(index).num_rows
            here = [row - first for row in wanted if first <= row < end]
            if here:
                yield from file.read_row_group(index, columns=columns).take(here).to_pylist()
            first = end
    if wanted and wanted[-1] >= first:
        raise IndexError(f"{path}: has {first} rows, row {wanted[-1]} was asked for")
