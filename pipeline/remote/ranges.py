"""Ranges of remote files, by name: from the cache where they are there, else fetched, checked and kept; some ahead."""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from hashlib import sha256
from typing import NamedTuple

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.remote.chunks import ChunkCache, Data
from headrace.pipeline.remote.folder import RemoteFolder

THREADS = 8


class Range(NamedTuple):
    """The bytes `[start, end)` of a remote file.

    `digest` is their sha256, or "" where that is not known; `check` raises `IntegrityError` for bytes that are wrong.
    """

    remote: RemoteFolder
    path: str
    start: int
    end: int
    name: str
    digest: str = ""
    check: Callable[[Data], object] | None = None

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.end - self.start

    @property
    def url(self) -> str:
        """Where the file lies."""
        return self.remote.at(self.path)


class RangeReader:
    """Gives ranges through a cache, and fetches those ahead that it is told to expect.

    Args:
        cache: where they are kept.
        ahead: bytes that are expected at once, at most.
    """

    def __init__(self, cache: ChunkCache, ahead: int) -> None:
        self._cache, self._ahead = cache, ahead
        self._checked: set[str] = set()
        self._coming: dict[str, Future[Data | None]] = {}
        self._lock = threading.Lock()
        self._workers = _Workers(THREADS)

    def get(self, wanted: Range) -> Data:
        """Return the bytes of a range.

        Raises:
            IntegrityError: the file is gone, shorter, or its bytes are not those of the digest.
            RemoteError: it cannot be read.
        """
        with self._lock:
            coming = self._coming.get(wanted.name)
            mine = coming is None or coming.cancel()  # what nobody has begun is done here
            if coming is None or mine:
                coming = self._coming[wanted.name] = Future()
                coming.set_running_or_notify_cancel()
        if mine:
            _do(coming, self._fetch, wanted)
        try:
            found = coming.result()
        finally:
            with self._lock:
                if self._coming.get(wanted.name) is coming:
                    del self._coming[wanted.name]
        return self._fetch(wanted) if found is None else found

    def expect(self, ranges: Iterable[Range]) -> None:
        """Fetch ranges ahead in this order, as many as are allowed at once; others that were expected are forgotten."""
        room, chosen = self._ahead, dict[str, Range]()
        for one in ranges:
            room -= one.size
            if room < 0:
                break
            chosen[one.name] = one
        with self._lock:
            for name in [name for name in self._coming if name not in chosen]:
                self._coming.pop(name).cancel()
            for name, one in chosen.items():
                if name not in self._coming and not self._cache.touch(name):
                    self._coming[name] = self._workers.submit(self._fetch_ahead, one)

    def _fetch_ahead(self, wanted: Range) -> Data | None:
        """Fetch into the cache; return what could not be kept there."""
        data = self._fetch(wanted)
        return None if self._cache.touch(wanted.name) else data

    def _fetch(self, wanted: Range) -> Data:
        data = self._cache.get(wanted.name)
        if data is not None:
            if len(data) == wanted.size and (wanted.name in self._checked or _is_right(wanted, data)):
                self._checked.add(wanted.name)
                return data
            self._cache.drop(wanted.name)
        fetched = self._read(wanted)
        if not _is_right(wanted, fetched):  # what was damaged on the way is right the second time
            fetched = self._read(wanted)
            _compare(wanted, fetched)
        self._cache.put(wanted.name, fetched)
        return fetched

    @staticmethod
    def _read(wanted: Range) -> bytes:
        data = wanted.remote.read(wanted.path, wanted.start, wanted.end)
        if data is None:
            raise IntegrityError(f"{wanted.url}: it is gone; put it there again, or build the tokens again")
        if len(data) != wanted.size:
            raise IntegrityError(f"{wanted.url}: it ends before byte {wanted.end}, which the manifest names")
        return data


def _compare(wanted: Range, data: Data) -> None:
    """Raise `IntegrityError` for bytes that are not those of a range."""
    if wanted.digest and sha256(data).hexdigest() != wanted.digest:
        raise IntegrityError(
            f"{wanted.url}: bytes {wanted.start} to {wanted.end} are not what the manifest's sha256 says; "
            "put the file there again, or build the tokens again"
        )
    if wanted.check is not None:
        wanted.check(data)


def _is_right(wanted: Range, data: Data) -> bool:
    try:
        _compare(wanted, data)
    except IntegrityError:
        return False
    return True


def _do(future: Future[Data | None], act: Callable[[Range], Data | None], on: Range) -> None:
    """Do something; its result or error is the future's, which runs."""
    try:
        future.set_result(act(on))
    except BaseException as error:
        future.set_exception(error)


class _Workers:
    """Threads that do what is submitted, and do not keep Python from ending."""

    def __init__(self, number: int) -> None:
        self._number, self._started = number, 0
        self._waiting: queue.SimpleQueue[tuple[Future[Data | None], Callable[[Range], Data | None], Range]] = (
            queue.SimpleQueue()
        )

    def submit(self, act: Callable[[Range], Data | None], on: Range) -> Future[Data | None]:
        """Do something soon; its result or error is the future's."""
        future: Future[Data | None] = Future()
        self._waiting.put((future, act, on))
        if self._started < self._number:
            self._started += 1
            threading.Thread(target=self._run, name=f"headrace-fetch-{self._started}", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, act, on = self._waiting.get()
            if future.set_running_or_notify_cancel():
                _do(future, act, on)
