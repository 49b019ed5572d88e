"""Tables on disk: Parquet with zstd and page checksums, hashed while they are written.

`write_table` streams batches into row groups and returns the `StoredFile` that names what it wrote: sha256 of the file,
of each row group's bytes, and the fold of its rows. Row groups are cut by bytes of data, so that one is a comfortable
read (a few tens of MB) whatever the size of a document.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipeline.hashing import Fold, digest_file, digest_range, fold_batch
from headrace.pipeline.schema import RowGroup, StoredFile

ROW_GROUP_BYTES = 32 << 20
"""Arrow bytes of a row group: large enough for sequential reads, small enough to hold several."""

ROW_GROUP_ROWS = 65_536

METADATA_PREFIX = "headrace."


def write_table(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    metadata: Mapping[str, str],
    *,
    row_group_bytes: int = ROW_GROUP_BYTES,
) -> StoredFile:
    """Write batches as one Parquet file and return its record; `metadata` goes into the file under `headrace.`."""
    fold = Fold()
    stored = schema.with_metadata({METADATA_PREFIX + key: value for key, value in metadata.items()})
    with pq.ParquetWriter(
        path, stored, compression="zstd", write_page_checksum=True, store_schema=True, write_page_index=True
    ) as writer:
        for group in _row_groups(schema, batches, row_group_bytes):
            writer.write_table(group.replace_schema_metadata(stored.metadata), row_group_size=max(1, group.num_rows))
            for batch in group.to_batches():
                fold += fold_batch(batch)
    return StoredFile(
        name=path.name,
        bytes=path.stat().st_size,
        sha256=digest_file(path),
        content=fold.content_id(schema),
        rows=fold.rows,
        fold=fold.hex(),
        row_groups=tuple(row_group_digests(path)),
    )


def _row_groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch], limit: int) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        for piece in _pieces(batch, limit):
            if pending and (size + piece.nbytes > limit or rows + piece.num_rows > ROW_GROUP_ROWS):
                yield pa.Table.from_batches(pending, schema)
                pending, size, rows = [], 0, 0
            pending.append(piece)
            size, rows = size + piece.nbytes, rows + piece.num_rows
    if pending:
        yield pa.Table.from_batches(pending, schema)


def _pieces(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch in halves until each is within `limit` bytes or a single row."""
    if batch.num_rows > 1 and (batch.nbytes > limit or batch.num_rows > ROW_GROUP_ROWS):
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half), limit)
        yield from _pieces(batch.slice(half), limit)
    elif batch.num_rows:
        yield batch


def row_group_digests(path: Path) -> Iterator[RowGroup]:
    """Yield offset, length, rows and sha256 of each row group of a Parquet file."""
    metadata = pq.read_metadata(path)
    with path.open("rb") as file:
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            ends = [column_range(group.column(number)) for number in range(group.num_columns)]
            start, end = min(a for a, _ in ends), max(b for _, b in ends)
            digest = digest_range(file, start, end - start)
            yield RowGroup(offset=start, length=end - start, rows=group.num_rows, sha256=digest)


def column_range(column: Any) -> tuple[int, int]:
    """Return the half-open byte range of a column chunk, dictionary page included."""
    start = column.data_page_offset
    if column.has_dictionary_page:
        start = min(start, column.dictionary_page_offset)
    return start, start + column.total_compressed_size


def read_batches(
    path: Path, columns: Sequence[str] | None = None, *, batch_rows: int = 4096
) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows in order, a row group at a time, page checksums verified."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for index in range(file.num_row_groups):
            yield from file.read_row_group(index, columns=columns).to_batches(max_chunksize=batch_rows)


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return whole columns of a table; for those that fit in memory (ids, numbers), not for text."""
    return pq.read_table(path, columns=columns, page_checksum_verification=True, use_threads=False)
