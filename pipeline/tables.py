"""Tables on disk: Parquet with zstd and page checksums, hashed while they are written.

`TableWriter` gathers batches into row groups and returns the `StoredFile` that names what it wrote: sha256 of the file,
of each row group's bytes, and the fold of its rows. Row groups are cut by bytes of data, so that one is a comfortable
read (a few tens of MB) whatever the size of a document.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.hashing import Fold, digest_file, digest_range, fold_batch
from headrace.pipeline.remote.files import opened
from headrace.pipeline.schema import RowGroup, StoredFile

ROW_GROUP_BYTES = 32 << 20
"""Arrow bytes of a row group: large enough for sequential reads, small enough to hold several."""

ROW_GROUP_ROWS = 65_536

METADATA_PREFIX = "headrace."


class TableWriter:
    """Writes one table: `write` batches, then `close` returns the record of the file.

    Columns named by `plain` are not compressed; a table with such has no nested columns.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        metadata: Mapping[str, str],
        row_group_bytes: int = ROW_GROUP_BYTES,
        plain: Collection[str] = (),
    ) -> None:
        self._path, self._schema, self._limit = path, schema, row_group_bytes
        named = {METADATA_PREFIX + key: value for key, value in metadata.items()}
        self._stored = schema.with_metadata(named)
        codecs = {name: "none" if name in plain else "zstd" for name in schema.names}
        self._writer = pq.ParquetWriter(
            path,
            self._stored,
            compression=codecs if plain else "zstd",
            use_dictionary=[name for name in schema.names if name not in plain] if plain else True,
            write_page_checksum=True,
            write_page_index=True,
        )
        self._pending: list[pa.RecordBatch] = []
        self._bytes = self._rows = 0
        self._fold = Fold()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch."""
        for piece in _pieces(batch, self._limit):
            if self._bytes + piece.nbytes > self._limit or self._rows + piece.num_rows > ROW_GROUP_ROWS:
                self.end_row_group()
            self._pending.append(piece)
            self._bytes, self._rows = self._bytes + piece.nbytes, self._rows + piece.num_rows
            self._fold += fold_batch(piece)

    def end_row_group(self) -> None:
        """Write what is pending; the next row begins a row group."""
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            table = table.replace_schema_metadata(self._stored.metadata)
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._pending, self._bytes, self._rows = [], 0, 0

    def close(self) -> StoredFile:
        """Finish the file and return its record."""
        self.end_row_group()
        self._writer.close()
        made = StoredFile(
            name=self._path.name,
            bytes=self._path.stat().st_size,
            sha256=digest_file(self._path),
            content=self._fold.content_id(self._schema),
            rows=self._fold.rows,
            fold=self._fold.hex(),
            row_groups=tuple(row_group_digests(self._path)),
        )
        return made.model_copy(update={"footer": footer_digest(self._path, made)})

    def abandon(self) -> None:
        """Remove the unfinished file."""
        self._writer.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def table_writers(*writers: TableWriter) -> Iterator[None]:
    """Remove all the files if the writing fails, so that a failed task leaves nothing behind."""
    try:
        yield
    except BaseException:
        for writer in writers:
            with suppress(OSError, pa.ArrowException):
                writer.abandon()
        raise


def write_table(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    metadata: Mapping[str, str],
    row_group_bytes: int = ROW_GROUP_BYTES,
) -> StoredFile:
    """Write batches as one Parquet file and return its record; `metadata` goes into the file under `headrace.`."""
    writer = TableWriter(path, schema, metadata, row_group_bytes)
    with table_writers(writer):
        for batch in batches:
            writer.write(batch)
        return writer.close()


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


def footer_digest(path: Path, record: StoredFile) -> str:
    """Return the sha256 of what comes after the last row group of a table."""
    with path.open("rb") as file:
        return digest_range(file, record.footer_start, record.bytes - record.footer_start)


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
    with _parquet(path) as file:
        for index in range(file.num_row_groups):
            yield from file.read_row_group(index, columns=columns).to_batches(max_chunksize=batch_rows)


def _parquet(path: Path) -> pq.ParquetFile:
    """Open a table, page checksums verified; one that lies elsewhere is read in few, long ranges."""
    source = opened(path)
    return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=source is not path)


def rows_beside(
    path: Path, columns: Sequence[str], batches: Iterable[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield each batch with as many rows of the table at `path`, in order; it raises `IntegrityError` if that ends."""
    found, waiting = read_batches(path, columns), read_schema(path).empty_table().select(columns)
    for batch in batches:
        while waiting.num_rows < batch.num_rows:
            part = next(found, None)
            if part is None:
                raise IntegrityError(f"{path}: it ends before the documents that it stands beside")
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([part])])
        if batch.num_rows:
            (beside,) = waiting.slice(0, batch.num_rows).combine_chunks().to_batches()
            waiting = waiting.slice(batch.num_rows)
            yield batch, beside


def take_rows(
    path: Path, columns: Sequence[str], rows: npt.NDArray[np.int64], *, batch_rows: int = 512
) -> Iterator[pa.RecordBatch]:
    """Yield some rows of a table, given by number and ascending, `batch_rows` at a time, however the table is cut.

    Row groups that hold none of them are not read.
    """
    first, pending = 0, read_schema(path).empty_table().select(columns)
    with _parquet(path) as file:
        for index in range(file.num_row_groups):
            end = first + file.metadata.row_group(index).num_rows
            low, high = np.searchsorted(rows, [first, end])
            if high > low:
                found = file.read_row_group(index, columns=columns).take(pa.array(rows[low:high] - first))
                pending = pa.concat_tables([pending, found])
            while pending.num_rows >= batch_rows:
                yield _one_batch(pending.slice(0, batch_rows))
                pending = pending.slice(batch_rows)
            first = end
    if pending.num_rows:
        yield _one_batch(pending)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches()
    return batch


def as_numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column of integers without nulls as an array, not by way of pandas, which pyarrow imports for it."""
    if column.null_count:
        raise ValueError("a column with nulls has no numbers for them")
    dtype = np.dtype(str(column.type))
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    arrays = [np.frombuffer(one.buffers()[1], dtype)[one.offset : one.offset + len(one)] for one in chunks if len(one)]
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0, dtype), *arrays])


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return whole columns of a table; for those that fit in memory (ids, numbers), not for text."""
    source: Any = opened(path)
    metadata = pq.read_metadata(source)
    if source is not path and columns is not None:
        source = source.pieces(_ranges(metadata, columns))
    with pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True) as file:
        return file.read(columns, use_threads=False)


def _ranges(metadata: pq.FileMetaData, columns: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes that columns of a file take."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        yield from (column_range(chunk) for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns)


def same_rows(expected: Sequence[str], found: Sequence[str], path: Path) -> None:
    """Raise `IntegrityError` unless two tables that are joined by position hold the same documents.

    Both are lists, or both Arrow columns.
    """
    if expected == found:
        return
    for row, (left, right) in enumerate(zip(expected, found, strict=False)):
        if left != right:
            raise IntegrityError(f"{path}: row {row} is document {right}, the documents have {left} there")
    raise IntegrityError(f"{path}: {len(found)} rows stand beside {len(expected)} documents")


def read_aligned(path: Path, names: Sequence[str], doc_ids: pa.ChunkedArray) -> Mapping[str, pa.ChunkedArray]:
    """Return columns of a table that must hold these documents; raises IntegrityError where it holds others."""
    table = read_columns(path, ["doc_id", *names])
    same_rows(doc_ids, table.column("doc_id"), path)
    return {name: table.column(name) for name in names}


def read_schema(path: Path) -> pa.Schema:
    """Return the schema of a table as it was declared, without the file's metadata."""
    return pq.read_schema(opened(path)).remove_metadata()
