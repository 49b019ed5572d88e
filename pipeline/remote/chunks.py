"""Ranges of remote files on this machine: named by what they hold, at most so many bytes together.

Several processes may use one folder. What is written gets its name when it is whole; what has not been used for longest
is removed. Only files that are named as these are, in folders as these are, are ever removed: whatever else somebody
keeps there stays.
"""

import logging
import mmap
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from headrace.pipeline.errors import StoreError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}\.chunk")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.chunk-[0-9a-f]{16}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_ABANDONED = 3600.0  # seconds after which nobody goes on writing a file
_ROOM = 0.9
"""Share of the limit that is filled: what other processes write unseen has the rest."""
_LOOK = 64
"""What others wrote is looked for whenever as much as the limit divided by this was written."""

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
        self._lock = Lock()
        self._size = self._being_written = 0
        self._unseen: int | None = None
        """What was written since all chunks were looked at, by this process; None before."""

    def get(self, name: str) -> Data | None:
        """Return a chunk by its name (64 hexadecimal digits), or None where it is not."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            os.utime(path)
        except (OSError, ValueError):  # it is not there, was removed meanwhile, or is empty
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep a chunk, if there is room on the disk for it."""
        if not data or not self._has_room(len(data)):
            return
        path = self._path(name)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            log.warning("%s: what was fetched is not kept: %s", self._folder, error.strerror)
        finally:
            with self._lock:
                self._being_written -= len(data)

    def _has_room(self, wanted: int) -> bool:
        """Make room before anything is written, so that the limit holds at any moment; tell whether there is enough."""
        most = _ROOM * self._limit
        with self._lock:
            if self._unseen is None or self._unseen > self._limit / _LOOK or self._size + wanted > most:
                self._size, self._unseen = self._make_room(self._being_written + wanted) + self._being_written, 0
            if self._size + wanted > most:
                return False
            self._size, self._unseen = self._size + wanted, self._unseen + wanted
            self._being_written += wanted
        return True

    def touch(self, name: str) -> bool:
        """Tell whether a chunk is there, and count that as a use of it."""
        try:
            os.utime(self._path(name))
        except OSError:
            return False
        return True

    def drop(self, name: str) -> None:
        """Remove a chunk."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.chunk"

    def _all(self) -> Iterator[_Held]:
        """Yield all chunks that are there; what a killed process left half-written is removed on the way."""
        try:
            folders = [path for path in self._folder.iterdir() if _FOLDER.fullmatch(path.name)]
            paths = [path for folder in folders for path in folder.iterdir()]
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}; name another folder for the cache") from None
        for path in paths:
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            if _NAME.fullmatch(path.name):
                yield _Held(status.st_mtime_ns, status.st_size, path)
            elif _UNFINISHED.fullmatch(path.name) and time.time() - status.st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> int:
        """Remove what has not been used for longest until so many bytes fit; return what is left, in bytes."""
        everything = sorted(self._all())
        size = sum(held.size for held in everything)
        for held in everything:
            if size + wanted <= _ROOM * self._limit:
                break
            held.path.unlink(missing_ok=True)
            size -= held.size
        return size
