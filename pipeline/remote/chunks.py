"""Ranges of remote files on this machine: named by what they hold, at most so many bytes together.

Several processes may use one folder. What is written gets its name when it is whole; what has not been used for longest
is removed. How much there is stands in one file, which is locked while room is made: what is to be written has its
length from then on, so that the limit holds at any moment, however many write. Only files that are named as these are,
in folders as these are, are ever removed: whatever else somebody keeps there stays, behind links too.
"""

import fcntl
import logging
import mmap
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}\.chunk")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.chunk-[0-9a-f]{16}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_ABANDONED = 3600.0  # seconds after which nobody goes on writing a file
_LEFT = 0.9
"""Share of the limit that is left where room is made, so that it is not made for each chunk."""

Data = bytes | mmap.mmap


class _Held(NamedTuple):
    used: int
    size: int
    path: Path


class ChunkCache:
    """Chunks below a folder.

    Args:
        folder: where they lie, in a folder `chunks` of its own.
        limit: bytes that they take together; a chunk that does not fit alone is not kept.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder / "chunks", limit
        self._looked = False
        self._told: set[str] = set()

    def get(self, name: str) -> Data | None:
        """Return a chunk by its name (64 hexadecimal digits), or None where it is not."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # it is not there, was removed meanwhile, or is empty
            return None
        self.touch(name)
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep a chunk, if there is room on the disk for it."""
        if not data or len(data) > self._limit:
            return
        path = self._path(name)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            if self._has_room(temporary, len(data)):
                _fill(temporary, data)
                with self._counted():  # who lists files meanwhile could miss both of its names
                    os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            self._tell(str(error.strerror))

    def touch(self, name: str) -> bool:
        """Tell whether a chunk is there, and count that as a use of it."""
        path = self._path(name)
        try:
            os.utime(path)
        except OSError:  # it is not there, or is somebody else's
            return path.exists()
        return True

    def drop(self, name: str) -> None:
        """Remove a chunk."""
        with suppress(OSError):  # what stays is not used: it is compared with its digest
            os.unlink(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.chunk"

    def _tell(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            log.warning("%s: what was fetched is not kept: %s", self._folder, why)

    def _has_room(self, temporary: Path, wanted: int) -> bool:
        """Make room for a file, and the file with its length; tell whether there is enough."""
        with self._counted() as counter:
            size = _number(os.pread(counter, 32, 0)) if self._looked else None
            if size is None or size + wanted > self._limit:
                size, self._looked = self._make_room(wanted), True
            if fits := size + wanted <= self._limit:
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.touch()
                os.truncate(temporary, wanted)
                size += wanted
            os.pwrite(counter, f"{size:<32}".encode(), 0)
        return fits

    @contextmanager
    def _counted(self) -> Iterator[int]:
        """Open the file that says how many bytes there are, for nobody else meanwhile.

        It may say too many, where a chunk was removed, replaced or not finished; that is seen when room is made.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        counter = os.open(self._folder / "size", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: the limit holds nearly
                fcntl.flock(counter, fcntl.LOCK_EX)
            yield counter
        finally:
            with suppress(OSError):  # said aloud, since a process that was forked meanwhile has the file open, too
                fcntl.flock(counter, fcntl.LOCK_UN)
            os.close(counter)

    def _make_room(self, wanted: int) -> int:
        """Remove what has not been used for longest until so many bytes fit; return what is left, in bytes."""
        chunks, unfinished = self._all()
        size = sum(held.size for held in chunks) + unfinished
        if unfinished + wanted > self._limit:
            return size
        for held in chunks:
            if size + wanted <= _LEFT * self._limit:
                break
            with suppress(OSError):
                os.unlink(held.path)
                size -= held.size
        return size

    def _all(self) -> tuple[list[_Held], int]:
        """Return all chunks, the one used longest ago first, and the bytes of those that are being written.

        What a killed process left half-written is removed on the way.
        """
        chunks, unfinished = [], 0
        for path, status in _files(self._folder):
            if _NAME.fullmatch(path.name):
                chunks.append(_Held(status.st_mtime_ns, status.st_size, path))
            elif _UNFINISHED.fullmatch(path.name) and time.time() - status.st_mtime > _ABANDONED:
                with suppress(OSError):
                    os.unlink(path)
            elif _UNFINISHED.fullmatch(path.name):
                unfinished += status.st_size
        return sorted(chunks), unfinished


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files in the folders of a cache; links are none, and what cannot be looked at is left out."""
    for inner in folder.iterdir():
        if _FOLDER.fullmatch(inner.name) and stat.S_ISDIR(inner.lstat().st_mode):
            with suppress(PermissionError):
                for path in inner.iterdir():
                    with suppress(FileNotFoundError):  # another process was faster
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            yield path, status


def _number(text: bytes) -> int | None:
    try:
        return int(text)
    except ValueError:  # it is new, or somebody wrote something else there
        return None


def _fill(path: Path, data: bytes) -> None:
    """Write bytes over a file that has their length."""
    with path.open("r+b") as file:
        file.write(data)
