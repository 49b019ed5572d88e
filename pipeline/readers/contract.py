"""What a reader is: bytes of one file in, every byte accounted for, as records and gaps in file order.

A reader never decides what is worth keeping. It yields a `Record` for everything that the format calls one, also for
those that can never be a document (`warcinfo`, `request`), and a `Gap` for every stretch of bytes that belongs to no
record. `extents` of what it yields tile the file: sorted by offset they cover [0, size) exactly once, where the
records of one shared compressed stream share the extent of that stream and differ in `inner`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, ClassVar, Protocol, cast

from headrace.filters.registry import ClassRegistry
from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.registry import make_registered


@dataclass(frozen=True, slots=True)
class Extent:
    """Where bytes lie in a stored file: `[offset, offset + length)`, and `digest`, the sha256 of exactly those.

    `inner` is set where the extent holds more than this record (a whole-file gzip, say): the half-open range of the
    record in the extent's decompressed bytes.
    """

    offset: int
    length: int
    digest: str
    inner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file, decompressed and with its HTTP layer (chunking, content encoding) undone.

    `kind` is the format's own word (`response`, `resource`, `conversion`, `request`, `text`, ...). `digest` is the
    sha256 of the record's decompressed block, before anything is undone, so it survives moving and recompression.
    `fault` names why the record cannot be trusted to be whole (`truncated`, `bad_length`, `corrupt_gzip`, `bad_http`,
    `bad_transfer_encoding`, `bad_content_encoding`, `bad_encoding`, `bad_json`, `too_large`); a faulty record is
    never a document, but it is counted. `content_type` is a media type in lower case without parameters, empty where
    none is stated; `headers` are the HTTP fields by lower-case name, or the record's own where it has no HTTP layer;
    `metadata` is what else a document should remember.
    """

    extent: Extent
    kind: str
    url: str
    date: str
    content_type: str
    headers: Mapping[str, str]
    payload: bytes
    digest: str
    block_bytes: int
    status: int | None = None
    charset: str | None = None
    fault: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that belong to no record, and why (`garbage`, `corrupt_gzip`, `truncated`, `padding`)."""

    extent: Extent
    reason: str


class Reader(Protocol):
    """Reads one file format; its dataclass fields are its configuration."""

    name: ClassVar[str]
    version: ClassVar[int]
    suffixes: ClassVar[tuple[str, ...]]

    def resources(self) -> Mapping[str, str]:
        """Name and version of each library that can change what is read."""
        ...

    def read(self, file: BinaryIO, uri: str) -> Iterator[Record | Gap]:
        """Yield the records and gaps of a seekable binary file in order of offset.

        Raises:
            InputError: the file is empty or not of this format at all (nothing in it could be read as a record).
        """
        ...


READERS = ClassRegistry("reader", "headrace.pipeline.readers")
register = READERS.register
reader_classes = READERS.all


def read_extent(file: BinaryIO, extent: Extent, reader: Reader) -> Record:
    """Read one record (without a fault of length) again from the bytes that its extent names, and from those alone.

    Raises:
        IntegrityError: the bytes are not those that were digested, or the record is no longer found in them.
    """
    from headrace.pipeline.readers.sources import FileSource, FileWindow, hash_range

    window = cast(BinaryIO, FileWindow(file, extent.offset, extent.length))
    digest = hash_range(FileSource(window), 0, extent.length)
    if digest != extent.digest:
        where = f"bytes [{extent.offset}, {extent.offset + extent.length})"
        raise IntegrityError(f"{where} have the digest {digest}, not {extent.digest}: the file has changed")
    for item in reader.read(window, "extent"):
        same = (item.extent.length, item.extent.inner) == (extent.length, extent.inner)
        if isinstance(item, Record) and same:
            return replace(item, extent=extent)
    raise IntegrityError(f"no record at {extent}: its reader or configuration has changed")


def make_reader(name: str, options: Mapping[str, Any]) -> Reader:
    """Return a configured reader.

    Raises:
        RecipeError: there is no such reader, or it refuses the options.
    """
    reader: Reader = make_registered(READERS, name, options)
    return reader
