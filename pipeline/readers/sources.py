"""Random access to the bytes of a file and to what its compressed stretches inflate to.

Every parser of records asks one question, `read_at(position, length)`, and gets fewer bytes than asked for only at
the end. `FileSource` answers from a seekable file, `BytesSource` from memory, `InflatedSource` from compressed
members too large to hold: it inflates forward, keeps a window behind itself, and starts anew for what lies further
back.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import BinaryIO, Protocol

from headrace.pipeline.readers.codecs import FEED_BYTES, Codec, CorruptMemberError

CHUNK_BYTES = 1 << 20
READ_AHEAD_BYTES = 1 << 18
TRIM_PIECES = 16


class Source(Protocol):
    """Bytes by position."""

    size: int

    def read_at(self, position: int, length: int) -> bytes:
        """Return `[position, position + length)`, cut at the end."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, position: int, length: int) -> bytes:
        """Return `[position, position + length)`, cut at the end."""
        return self._data[position : position + length]


class FileSource:
    """A seekable binary file, read ahead by 256 KiB."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start, self._buffer = 0, b""
        self.size = file.seek(0, SEEK_END)

    def read_at(self, position: int, length: int) -> bytes:
        """Return `[position, position + length)`, cut at the end."""
        start = position - self._start
        if start < 0 or start + length > len(self._buffer):
            if length >= READ_AHEAD_BYTES:
                return self._fetch(position, length)
            self._start, self._buffer, start = position, self._fetch(position, READ_AHEAD_BYTES), 0
        return self._buffer[start : start + length]

    def _fetch(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        pieces = []
        while length > 0 and (piece := self._file.read(length)):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)


class InflatedSource:
    """What consecutive members inflate to, `size` bytes of it, with the last `window` bytes read kept at hand."""

    def __init__(self, stored: Source, offsets: Sequence[int], codec: Codec, size: int, window: int) -> None:
        self._stored, self._offsets, self._codec = stored, offsets, codec
        self._window = window
        self.size = size
        self._restart()

    def _restart(self) -> None:
        self._end = 0
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self._coming = self._inflate()

    def _inflate(self) -> Iterator[bytes]:
        for offset in self._offsets:
            yield from inflate_member(self._stored, offset, self._codec)

    def read_at(self, position: int, length: int) -> bytes:
        """Return `[position, position + length)`, cut at the end."""
        end = min(position + length, self.size)
        if position >= end:
            return b""
        if self._starts and position < self._starts[0]:
            self._restart()
        while self._end < end:
            self._advance(position)
        first = bisect_right(self._starts, position) - 1
        last = bisect_left(self._starts, end)
        joined = b"".join(self._pieces[first:last])
        return joined[position - self._starts[first] : end - self._starts[first]]

    def _advance(self, position: int) -> None:
        """Take the next piece in and let go of those that lie before `position` and the window."""
        piece = next(self._coming)
        self._starts.append(self._end)
        self._pieces.append(piece)
        self._end += len(piece)
        past = bisect_right(self._starts, min(position, self._end - self._window)) - 1
        if past >= TRIM_PIECES:
            del self._starts[:past], self._pieces[:past]


def inflate_member(stored: Source, offset: int, codec: Codec) -> Iterator[bytes]:
    """Yield what the member at `offset` inflates to, and quietly no more where it breaks or the file ends."""
    inflater = codec.open()
    while not inflater.eof and (data := stored.read_at(offset, FEED_BYTES)):
        try:
            yield from inflater.feed(data)
        except CorruptMemberError:
            return
        offset += len(data)


def hash_range(source: Source, start: int, end: int) -> str:
    """Return the sha256 of `[start, end)`, read in chunks."""
    digest = sha256()
    for position in range(start, end, CHUNK_BYTES):
        digest.update(source.read_at(position, min(CHUNK_BYTES, end - position)))
    return digest.hexdigest()


class FileWindow(RawIOBase):
    """The bytes `[offset, offset + length)` of a file as a file of their own; `base` is the whole one."""

    def __init__(self, base: BinaryIO, offset: int, length: int) -> None:
        self.base = base
        self._offset, self._length, self._position = offset, length, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, and return the position in the window."""
        start = {SEEK_CUR: self._position, SEEK_END: self._length}.get(whence, 0)
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes, none beyond the window."""
        rest = max(0, self._length - self._position)
        size = rest if size is None or size < 0 else min(size, rest)
        self.base.seek(self._offset + self._position)
        data = self.base.read(size)
        self._position += len(data)
        return data
