"""Compressed members of a file, inflated piece by piece.

A codec knows the magic bytes that open a member and how to inflate one without ever holding more than a piece of
its output, so that a decompression bomb costs time and no memory. Pieces grow from 1 KiB to 1 MiB: of a member
that breaks early, at least its first bytes (the head of a record) are seen. The sizes are constants, so that a
broken member always yields the same bytes.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

FIRST_PIECE_BYTES = 1 << 10
PIECE_BYTES = 1 << 20
PIECE_GROWTH = 8
FEED_BYTES = 1 << 15
SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # preceded by 0x50..0x5f; shared by zstd and LZ4
ZSTD_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"


class CorruptMemberError(Exception):
    """The compressed bytes are not what their format allows, or their checksum differs."""


class Inflater(Protocol):
    """Inflates one member."""

    eof: bool
    unused: int

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Yield bounded pieces; afterwards `eof` says if the member ended, `unused` how many bytes lie behind it."""
        ...


class GzipInflater:
    """One gzip member (RFC 1952), its checksum and length verified by zlib."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._limit = FIRST_PIECE_BYTES
        self.eof = False
        self.unused = 0

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Yield pieces of output for these stored bytes."""
        while True:
            try:
                piece = self._stream.decompress(stored, self._limit)
            except zlib.error as error:
                raise CorruptMemberError(str(error)) from None
            full = len(piece) == self._limit
            self._limit = min(PIECE_GROWTH * self._limit, PIECE_BYTES)
            self.eof, stored = self._stream.eof, self._stream.unconsumed_tail
            if self.eof:
                self.unused = len(self._stream.unused_data)
            if piece:
                yield piece
            if self.eof or not (stored or full):
                return


class Lz4Inflater:
    """One LZ4 frame."""

    def __init__(self) -> None:
        from lz4.frame import LZ4FrameDecompressor

        self._stream = LZ4FrameDecompressor()
        self._limit = FIRST_PIECE_BYTES
        self.eof = False
        self.unused = 0

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Yield pieces of output for these stored bytes."""
        while True:
            try:
                piece = self._stream.decompress(stored, self._limit)
            except (RuntimeError, EOFError) as error:
                raise CorruptMemberError(str(error)) from None
            self._limit = min(PIECE_GROWTH * self._limit, PIECE_BYTES)
            stored = b""
            self.eof = self._stream.eof
            if self.eof:
                self.unused = len(self._stream.unused_data or b"")
            if piece:
                yield piece
            if self.eof or self._stream.needs_input or not piece:
                return


class ZstdInflater:
    """One zstd frame; fed 1 KiB at a time, since its library bounds input and not output (32 MiB at worst)."""

    def __init__(self, dictionary: bytes | None = None) -> None:
        from zstandard import ZstdCompressionDict, ZstdDecompressor

        known = ZstdCompressionDict(dictionary) if dictionary else None
        self._stream: Any = ZstdDecompressor(dict_data=known).decompressobj()
        self.eof = False
        self.unused = 0

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Yield pieces of output for these stored bytes."""
        from zstandard import ZstdError

        for start in range(0, len(stored), FIRST_PIECE_BYTES):
            part = stored[start : start + FIRST_PIECE_BYTES]
            try:
                piece = self._stream.decompress(part)
            except ZstdError as error:
                raise CorruptMemberError(str(error)) from None
            self.eof = self._stream.eof
            if self.eof:
                self.unused = len(self._stream.unused_data) + len(stored) - start - len(part)
            if piece:
                yield piece
            if self.eof:
                return


@dataclass(frozen=True)
class Codec:
    """A compressed format: its name in faults and gaps, the magic of a member, and how to open one."""

    name: str
    magic: bytes
    open: Callable[[], Inflater] = field(compare=False)


def known_codecs(dictionary: bytes | None = None) -> tuple[Codec, ...]:
    """Return every codec; `dictionary` is the one that zstd frames of the file were compressed with."""
    return (
        Codec("gzip", b"\x1f\x8b\x08", GzipInflater),
        Codec("lz4", b"\x04\x22\x4d\x18", Lz4Inflater),
        Codec("zstd", b"\x28\xb5\x2f\xfd", lambda: ZstdInflater(dictionary)),
    )


def is_skippable(head: bytes) -> bool:
    """Tell whether a skippable frame (RFC 8878, 3.1.2) starts here."""
    return len(head) >= 8 and head[0] >> 4 == 5 and head[1:4] == SKIPPABLE_MAGIC


def read_dictionary(frame: bytes) -> bytes | None:
    """Return the dictionary in the skippable frame that opens a `.warc.zst` file (IIPC), itself perhaps compressed."""
    if not frame.startswith(ZSTD_DICTIONARY_MAGIC):
        return None
    content = frame[8:]
    if not content.startswith(b"\x28\xb5\x2f\xfd"):
        return content
    return b"".join(ZstdInflater().feed(content))
