"""A folder at a URL, read through fsspec: whole files, ranges of them, and lists of names.

A read that takes too long or fails is tried again, each time after a longer pause; what goes on failing is named. That
there is no such file, or no permission to read it, is said at once. How to reach a service (keys, endpoints) is left to
fsspec's own settings and the service's environment variables, and stands in no file of ours.
"""

import logging
import os
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from headrace.pipeline.errors import InputError, RemoteError

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)
T = TypeVar("T")

FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, InputError)
"""What another try would not change."""


_PASSWORD = re.compile(r"(https?://)[^/]+@|(://)[^/]*:[^/]*@")
_QUERY = re.compile(r"(https?://[^?]*)\?.*")


def is_remote(place: str) -> bool:
    """Tell whether a place is a URL, and not a path of this machine."""
    return "://" in place


def refuse_secrets(url: str) -> None:
    """Raise `InputError` for a URL that has a password or a query: it would stand in logs, plans and checkpoints."""
    shown = _QUERY.sub(r"\1?***", _PASSWORD.sub(r"\1\2***@", url))
    if shown != url:
        raise InputError(
            f"{shown}: a URL of a store has no password and no query, which would stand in logs and checkpoints; give "
            "keys by the service's environment variables or in fsspec's configuration (~/.config/fsspec)"
        )


@dataclass(frozen=True)
class Patience:
    """How long is waited: seconds for one read, tries, and the longest pause between two of them, in seconds."""

    seconds: float = 60.0
    tries: int = 5
    longest_pause: float = 8.0


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at `url`; paths are relative to it.

    Raises, from each method:
        InputError: nothing reads such a URL here, or there is no permission.
        RemoteError: every try failed.
    """

    url: str
    patience: Patience = field(default=Patience(), compare=False)

    def at(self, relative: str) -> str:
        """Return the URL of a path."""
        return f"{self.url.rstrip('/')}/{relative}".rstrip("/")

    def read(self, relative: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Return the bytes `[start, end)` of a file, all where no range is given; None where there is no such file.

        Fewer come where the file ends before; that it does is asked twice, since answers may be cut short on the way.
        """

        def read(system: Any, path: str) -> bytes:
            return bytes(system.cat_file(path, start=start, end=end))

        data = self._ask(relative, read)
        short = data is not None and end is not None and len(data) < end - (start or 0)
        return self._ask(relative, read) if short else data

    def size(self, relative: str) -> int | None:
        """Return the length of a file in bytes; None where there is no such file."""
        return self._ask(relative, lambda system, path: int(system.size(path)))

    def names(self, relative: str) -> list[str]:
        """Return the names in a folder below this one, sorted; none where there is no such folder."""

        def names(system: Any, path: str) -> list[str]:
            system.invalidate_cache()
            return sorted(str(found).rstrip("/").rpartition("/")[2] for found in system.ls(path, detail=False))

        return self._ask(relative, names) or []

    def _ask(self, relative: str, ask: Callable[[Any, str], T]) -> T | None:
        """Return an answer of the file system about a path, asked again while it fails; None where nothing is there."""
        url, name = self.at(relative), (os.getpid(), self.url)

        def once() -> T:
            connected = _OURS.connections.pop(name, None)

            def connect_and_ask() -> tuple[_Connection, T]:
                there = connected or _connect(self.url)
                return there, ask(there.system, f"{there.root.rstrip('/')}/{relative}".rstrip("/"))

            there, answer = within(self.patience.seconds, connect_and_ask)
            _OURS.connections[name] = there  # one that failed, or goes on for nobody, is not used again
            return answer

        try:
            answer: T = _retrying(url, self.patience)(once)
        except FileNotFoundError:
            return None
        except InputError:
            raise
        except FINAL as error:
            raise InputError(f"{url}: cannot be read: {_said(error)}") from None
        except Exception as error:
            raise RemoteError(
                f"{url}: cannot be read, tried {self.patience.tries} times (last: {_said(error)}); look whether the "
                "service answers and start the same command again"
            ) from error
        return answer


class _Connection(NamedTuple):
    """A file system of fsspec's, and the path of a folder in it."""

    system: Any
    root: str


class _Connections(threading.local):
    """The connections of a thread, by process and URL: most file systems cannot be used by several at once."""

    def __init__(self) -> None:
        self.connections: dict[tuple[int, str], _Connection] = {}


_OURS = _Connections()


def _connect(url: str) -> _Connection:
    """Return the file system for a folder; some connect to their service here, so that this takes time and may fail."""
    from fsspec.core import url_to_fs
    from fsspec.registry import get_filesystem_class

    try:
        shared = get_filesystem_class(re.split("::|://", url)[0]).async_impl  # those may be used by all threads
        return _Connection(*url_to_fs(url, skip_instance_cache=not shared))
    except ImportError as error:
        raise InputError(f"{url}: {error}; pip install 'headrace[remote]' brings what S3 needs") from None
    except ValueError as error:
        raise InputError(f"{url}: {error}") from None


def _retrying(url: str, patience: Patience) -> Any:
    """Return what calls a function again while it fails for reasons that may pass."""
    try:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
    except ImportError:
        raise InputError(f"{url}: reading from elsewhere needs tenacity; pip install 'headrace[remote]'") from None

    def tell(state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("%s: %s; trying again", url, _said(error))

    return Retrying(
        stop=stop_after_attempt(patience.tries),
        wait=wait_random_exponential(multiplier=0.5, max=patience.longest_pause),
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and not isinstance(error, FINAL)),
        before_sleep=tell,
        reraise=True,
    )


def _said(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, or raise `TimeoutError` when it takes longer; it then goes on for nobody."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, name="headrace-remote", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # what the call returned
