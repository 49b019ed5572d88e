"""Where a stored file differs from its record.

The record (`StoredFile`) is trusted: it lies in a JSON record that bears its own digest. A file is compared from coarse
to fine: size, sha256 of the whole, sha256 of each row group, checksums of the pages of each column. Where all bytes
are right, the rows are folded anew, so that a record which was wrong from the beginning is found too. Nothing larger
than a row group is held in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from headrace.pipeline.hashing import digest_file, digest_range, fold_batches
from headrace.pipeline.schema import RowGroup, StoredFile
from headrace.pipeline.tables import column_range, footer_digest, read_batches, read_schema, row_group_digests

MAGIC = b"PAR1"


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file, and in which part of it (empty: the file as a whole)."""

    what: str
    where: str = ""


def find_damage(path: Path, record: StoredFile) -> list[Damage]:
    """Return every difference between a file and its record, none for a whole file."""
    if not path.is_file():
        return [Damage("the file is missing")]
    size = path.stat().st_size
    if size != record.bytes:
        return [Damage(f"has {size} bytes, its record says {record.bytes}", _lost(size, record))]
    if (digest := digest_file(path)) != record.sha256:
        what = f"has the sha256 {digest}, its record says {record.sha256}"
        return [Damage(what, where) for where in _damaged_places(path, record)]
    if record.rows is None:
        return [] if record.content == record.sha256 else [Damage("the content id is not the sha256 of its bytes")]
    return list(_check_rows(path, record))


def _lost(size: int, record: StoredFile) -> str:
    """Name what a file that was cut short has lost first."""
    lost = [index for index, group in enumerate(record.row_groups) if group.offset + group.length > size]
    if lost:
        return f"from row group {lost[0]} on"
    return "footer" if record.row_groups and size < record.bytes else "end of file"


def _damaged_places(path: Path, record: StoredFile) -> list[str]:
    if record.rows is None:
        return ["contents"]
    with path.open("rb") as file:
        damaged = [
            index
            for index, group in enumerate(record.row_groups)
            if digest_range(file, group.offset, group.length) != group.sha256
        ]
        file.seek(0)
        head = file.read(len(MAGIC))
    places = [f"row group {index}{_columns_at(path, index)}" for index in damaged]
    if head != MAGIC:
        places.append("first bytes")
    return places or ["footer"]


def _columns_at(path: Path, index: int) -> str:
    """Name the columns of a row group whose pages cannot be read, with their bytes in the file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            group = file.metadata.row_group(index)
            damaged = [number for number in range(group.num_columns) if not _readable(file, index, number)]
            names = [
                "column {} (bytes {} to {})".format(group.column(n).path_in_schema, *column_range(group.column(n)))
                for n in damaged
            ]
    except Exception:  # the footer is damaged too: whatever the library raises, no column can be named
        return ", and the footer"
    return ", " + ", ".join(names) if names else ", in the header of a page"


def _readable(file: pq.ParquetFile, index: int, number: int) -> bool:
    try:
        file.reader.read_row_group(index, column_indices=[number], use_threads=False)
    except Exception:  # damaged bytes make the library raise errors of any kind
        return False
    return True


def _check_rows(path: Path, record: StoredFile) -> Iterator[Damage]:
    groups = tuple(row_group_digests(path))
    if groups != record.row_groups:
        yield Damage("the record names other row groups than the file has", _first_difference(groups, record))
    elif record.footer is not None and record.footer != footer_digest(path, record):
        yield Damage("the record names another footer than the file has", "footer")
    fold = fold_batches(read_batches(path))
    if (fold.rows, fold.hex()) != (record.rows, record.fold):
        yield Damage(f"its {fold.rows} rows fold to {fold.hex()}, its record says {record.rows} and {record.fold}")
    elif (content := fold.content_id(read_schema(path))) != record.content:
        yield Damage(f"its rows have the content id {content}, its record says {record.content}")


def _first_difference(groups: tuple[RowGroup, ...], record: StoredFile) -> str:
    pairs = zip(groups, record.row_groups, strict=False)
    different = (index for index, (found, named) in enumerate(pairs) if found != named)
    return f"row group {next(different, min(len(groups), len(record.row_groups)))}"
