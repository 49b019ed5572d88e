"""Files of which ranges can be read: those that a mirror does not have, and those put together of pieces."""

import io
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.remote.folder import RemoteFolder
from headrace.pipeline.schema import Signed

RECORD = "mirror.json"

_GAP = 1 << 18
"""Bytes between two ranges that are rather fetched than asked for apart."""
_AT_ONCE = 8


class MirrorRecord(Signed):
    """`mirror.json`: which store this folder stands for."""

    kind: Literal["headrace.mirror"] = "headrace.mirror"
    url: str


_KNOWN: dict[Path, RemoteFolder] = {}


def know(root: Path, remote: RemoteFolder) -> None:
    """Have tables of a mirror that this process opened read with the patience that it was opened with."""
    _KNOWN[root] = remote


def opened(path: Path) -> "Path | RangesFile":
    """Return what a table is read from: its path, or in a mirror that does not have it the file at its URL."""
    if path.exists():
        return path
    root = next((folder for folder in path.parents if (folder / RECORD).exists()), None)
    if root is None:
        return path
    remote = _KNOWN.get(root) or RemoteFolder(MirrorRecord.load(root / RECORD).url)
    relative = path.relative_to(root).as_posix()
    size = remote.size(relative)
    if size is None:
        raise InputError(f"{remote.at(relative)}: it is gone; its manifest names it")
    return RangesFile(remote, relative, size)


class SeekableFile(io.RawIOBase):
    """A file of a known size of which any range can be read."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0

    @abstractmethod
    def range(self, start: int, end: int) -> bytes | memoryview:
        """Return the bytes `[start, end)`."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        data = self.range(self._at, end) if end > self._at else b""
        self._at = max(self._at, end)
        return data  # type: ignore[return-value]  # pyarrow takes any buffer


class RangesFile(SeekableFile):
    """A file at a URL, fetched range by range."""

    def __init__(self, remote: RemoteFolder, relative: str, size: int) -> None:
        super().__init__(size)
        self._remote, self._relative = remote, relative

    def pieces(self, ranges: Iterable[tuple[int, int]]) -> "PiecesFile":
        """Fetch ranges side by side; return a file that has only these, ranges that lie close together as one."""
        joined: list[list[int]] = []
        for start, end in sorted(ranges):
            if joined and start <= joined[-1][1] + _GAP:
                joined[-1][1] = max(end, joined[-1][1])
            else:
                joined.append([start, end])
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda one: (one[0], memoryview(self.range(*one))), joined))
        return PiecesFile(self._size, found, self._remote.at(self._relative))

    def range(self, start: int, end: int) -> bytes:
        """Fetch a range."""
        data = self._remote.read(self._relative, start, end)
        if data is None or len(data) != end - start:
            raise InputError(f"{self._remote.at(self._relative)}: it became shorter, or is gone")
        return data


class PiecesFile(SeekableFile):
    """A file of which some pieces are in memory; to read anything else is an error."""

    def __init__(self, size: int, pieces: Sequence[tuple[int, memoryview]], name: str) -> None:
        super().__init__(size)
        self._pieces, self._name = pieces, name

    def range(self, start: int, end: int) -> bytes | memoryview:
        """Return a range that lies within one piece."""
        for offset, data in self._pieces:
            if offset <= start and end <= offset + len(data):
                return data[start - offset : end - offset]
        raise IntegrityError(f"{self._name}: its footer names bytes {start} to {end}, which the manifest does not")
