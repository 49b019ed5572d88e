"""The files of a token artifact: row groups of parts, compared with the manifest's sha256 before their first use."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipeline.errors import IntegrityError, StoreError
from headrace.pipeline.hashing import digest_range
from headrace.pipeline.remote.chunks import Data
from headrace.pipeline.remote.files import PiecesFile
from headrace.pipeline.remote.folder import RemoteFolder
from headrace.pipeline.remote.mirror import MirrorStore
from headrace.pipeline.remote.ranges import Range, RangeReader
from headrace.pipeline.schema import TOKENS, Manifest, StoredFile
from headrace.pipeline.tables import column_range


class Parts(Protocol):
    """Reads row groups."""

    def read(self, part: int, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return columns of row groups of a part.

        Raises:
            IntegrityError: their bytes are not those that the manifest names, or are gone.
        """
        ...

    def ranges(self, part: int, groups: Sequence[int]) -> list[Range]:
        """Return the ranges of files elsewhere that row groups are read from; none where they lie here."""
        ...


class LocalParts:
    """Parts in a folder of this machine."""

    def __init__(self, folder: Path, files: Sequence[StoredFile]) -> None:
        self._folder, self._files = folder, files
        self._verified: set[tuple[int, int]] = set()

    def read(self, part: int, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """See `Parts`."""
        path = self._folder / self._files[part].name
        try:
            self._verify(part, groups)
            with pq.ParquetFile(path, pre_buffer=False) as parquet:
                return parquet.read_row_groups(groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise IntegrityError(f"{path}: cannot be read ({error}); restore it, or build the tokens again") from None

    def ranges(self, part: int, groups: Sequence[int]) -> list[Range]:
        """Return none."""
        return []

    def _verify(self, part: int, groups: Sequence[int]) -> None:
        """Compare row groups with their digests in the manifest, each once."""
        file = self._files[part]
        for number in groups:
            if (part, number) in self._verified:
                continue
            group = file.row_groups[number]
            with (self._folder / file.name).open("rb") as opened:
                found = digest_range(opened, group.offset, group.length)
            if found != group.sha256:
                raise IntegrityError(
                    f"{self._folder / file.name}: bytes {group.offset} to {group.offset + group.length} are not what "
                    f"the manifest's sha256 says; `headrace verify` names what is damaged, a build makes it again"
                )
            self._verified.add((part, number))


class RemoteParts:
    """Parts in a folder at a URL, row group by row group through a cache."""

    def __init__(self, remote: RemoteFolder, folder: str, files: Sequence[StoredFile], reader: RangeReader) -> None:
        self._remote, self._folder, self._files, self._reader = remote, folder, files, reader
        self._metadata = lru_cache(64)(self._read_metadata)

    def read(self, part: int, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """See `Parts`."""
        file, metadata = self._files[part], self._metadata(part)
        pieces = [(one.start, memoryview(self._reader.get(one))) for one in self._row_groups(part, groups)]
        whole = PiecesFile(file.bytes, pieces, self._footer(part).url)
        try:
            with pq.ParquetFile(whole, metadata=metadata, pre_buffer=False) as parquet:
                return parquet.read_row_groups(groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise IntegrityError(f"{self._footer(part).url}: cannot be read ({error}); put it there again") from None

    def ranges(self, part: int, groups: Sequence[int]) -> list[Range]:
        """Return the ranges of row groups, after that of the part's footer."""
        return [self._footer(part), *self._row_groups(part, groups)]

    def _path(self, part: int) -> str:
        return f"{self._folder}/{self._files[part].name}"

    def _row_groups(self, part: int, groups: Sequence[int]) -> list[Range]:
        chosen = [self._files[part].row_groups[number] for number in groups]
        where = self._remote, self._path(part)
        return [Range(*where, g.offset, g.offset + g.length, g.sha256, g.sha256) for g in chosen]

    def _footer(self, part: int) -> Range:
        """Return what comes after the last row group: page indexes, and what the file says of itself."""
        file = self._files[part]
        name = sha256(f"footer of {file.sha256}".encode()).hexdigest()
        where = self._remote, self._path(part), file.footer_start, file.bytes, name
        # without a digest it is parsed before it is kept, so that one which no reader survives does not stay
        return Range(*where, file.footer) if file.footer else Range(*where, check=lambda data: self._parsed(part, data))

    def _read_metadata(self, part: int) -> pq.FileMetaData:
        return self._parsed(part, self._reader.get(self._footer(part)))

    def _parsed(self, part: int, footer: Data) -> pq.FileMetaData:
        """Return what a part says of itself, which must agree with the manifest, and have the columns of tokens."""
        url, groups = self._remote.at(self._path(part)), self._files[part].row_groups
        try:
            metadata = pq.read_metadata(pa.BufferReader(footer))
            columns = list(metadata.schema.to_arrow_schema().remove_metadata())
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise IntegrityError(f"{url}: its end is no end of a Parquet file ({error})") from None
        agrees = metadata.num_row_groups == len(groups) and all(
            metadata.row_group(n).num_rows == group.rows and _within(metadata.row_group(n), group.offset, group.length)
            for n, group in enumerate(groups)
        )
        if not agrees:
            raise IntegrityError(f"{url}: its footer names other row groups than the manifest")
        if columns != list(TOKENS)[: len(columns)]:
            raise IntegrityError(f"{url}: its footer names other columns than tokens have")
        return metadata


class MirroredParts:
    """Parts of a store elsewhere, which may be built again meanwhile: the same rows in other bytes.

    Where bytes are not what the manifest says, the manifest is asked for again.
    """

    def __init__(self, store: MirrorStore, tokens: Manifest, reader: RangeReader) -> None:
        self._store, self._reader = store, reader
        self._current = tokens, self._of(tokens)

    def _of(self, tokens: Manifest) -> RemoteParts:
        folder = self._store.relative(self._store.artifact_folder(tokens.stage, tokens.key))
        return RemoteParts(self._store.remote, folder, _files(tokens), self._reader)

    def read(self, part: int, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """See `Parts`.

        Raises:
            StoreError: the store was built again, with other row groups.
        """
        tokens, parts = self._current
        try:
            return parts.read(part, groups, columns)
        except IntegrityError:
            renewed = self._store.renewed(tokens)
            if renewed is None:
                raise
        if _rows(renewed) != _rows(tokens):
            raise StoreError(
                f"{self._store.remote.url}: the store was built again meanwhile, {tokens.name!r} has other row groups; "
                "start the same command again"
            )
        self._current = renewed, self._of(renewed)
        return self._current[1].read(part, groups, columns)

    def ranges(self, part: int, groups: Sequence[int]) -> list[Range]:
        """Return the ranges of row groups, after that of the part's footer."""
        return self._current[1].ranges(part, groups)


def _files(tokens: Manifest) -> list[StoredFile]:
    return [part.files[tokens.table] for part in tokens.parts]


def _rows(tokens: Manifest) -> list[list[int]]:
    """Return how many rows each row group of each part has."""
    return [[group.rows for group in file.row_groups] for file in _files(tokens)]


def _within(group: pq.RowGroupMetaData, offset: int, length: int) -> bool:
    """Tell whether all columns of a row group lie in a range of bytes."""
    ranges = [column_range(group.column(number)) for number in range(group.num_columns)]
    return all(start >= offset and end <= offset + length for start, end in ranges)
