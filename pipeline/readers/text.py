"""Reader of plain text: one document a file, UTF-8, plain or compressed as a whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import PurePosixPath
from typing import BinaryIO, ClassVar
from urllib.parse import unquote

from headrace.pipeline.errors import InputError
from headrace.pipeline.readers.contract import Gap, Record, register
from headrace.pipeline.readers.framing import Stretch, iter_stretches
from headrace.pipeline.readers.sources import hash_range


@register
@dataclass(frozen=True)
class TextReader:
    """Reads a file as one record of kind `text`; beyond `max_record_bytes` it is counted and not held."""

    name: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".txt.gz", ".txt.zst", ".txt.lz4")

    max_record_bytes: int = 64 << 20

    def resources(self) -> Mapping[str, str]:
        """Versions of the decompressors."""
        return {name: version_of(name) for name in ("lz4", "zstandard")}

    def read(self, file: BinaryIO, uri: str) -> Iterator[Record | Gap]:
        """Yield the file's one record, and gaps for bytes behind it that do not inflate.

        Raises:
            InputError: the file is empty or nothing of it inflates.
        """
        found = False
        for stretch in iter_stretches(file, lambda _: False, self.max_record_bytes):
            if stretch.source.size and not found:
                found = True
                yield self._record(stretch, uri)
            elif stretch.stored:
                yield Gap(stretch.stored, stretch.fault or "garbage")
        if not found:
            raise InputError(f"{uri}: there is no text in it")

    def _record(self, stretch: Stretch, uri: str) -> Record:
        size = stretch.source.size
        data = stretch.source.read_at(0, size) if size <= self.max_record_bytes else None
        fault = stretch.fault
        if data is None:
            fault = fault or "too_large"
        elif not is_utf8(data):
            fault = fault or "bad_encoding"
        return Record(
            extent=stretch.extent(0, size),
            kind="text",
            url="",
            date="",
            content_type="text/plain",
            headers={},
            payload=data or b"",
            digest=hash_range(stretch.source, 0, size) if data is None else sha256(data).hexdigest(),
            block_bytes=size,
            charset="utf-8",
            fault=fault,
            metadata={"name": PurePosixPath(unquote(uri) if "://" in uri else uri).name.partition(".txt")[0]},
        )


def is_utf8(data: bytes) -> bool:
    """Tell whether bytes are valid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
