"""Who may write into a store: any number of builds side by side, or one rewriting alone.

A build holds the store from its planning to its lock, so that nothing is removed that it has planned with, and nothing
is read by a plan that does not know yet what was erased. A rewriting (`pipeline.rewriting`) holds it alone. Locks are
those of the file system (flock), which end with the process: of drivers on `store.json`, of workers on the store's
folder, since a worker can outlive its driver for a moment.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace.pipeline.errors import StoreError
from headrace.pipeline.removal import finish_removal, is_pending
from headrace.pipeline.store import Store

log = logging.getLogger(__name__)

_alone: set[tuple[int, int]] = set()
"""The stores that this process holds alone, by device and inode of their `store.json`."""


@contextmanager
def building(store: Store) -> Iterator[None]:
    """Hold a store against rewritings; waits for one that is at work, and finishes a removal that was cut short."""
    if _identity(store) in _alone:
        yield
        return
    waiting = f"{store.root}: waiting for a takedown that rewrites this store"
    while True:
        if is_pending(store):
            _finish(store)
        with _locked(store.record, fcntl.LOCK_SH, waiting):
            if not is_pending(store):  # else the rewriting that was waited for was killed
                yield
                return


@contextmanager
def working(store: Store) -> Iterator[None]:
    """Hold a store for one bundle of a worker; see `rewriting`."""
    with _locked(store.root, fcntl.LOCK_SH):
        yield


@contextmanager
def rewriting(store: Store) -> Iterator[None]:
    """Hold a store alone: no build of it is running, nor a worker that a killed one left.

    Raises:
        StoreError: somebody builds in it, or the file system has no locks.
    """
    with _locked(store.record, fcntl.LOCK_EX | fcntl.LOCK_NB):
        with _locked(store.root, fcntl.LOCK_EX):  # workers whose driver is gone end within a second
            pass
        _alone.add(held := _identity(store))
        try:
            yield
        finally:
            _alone.remove(held)


def _identity(store: Store) -> tuple[int, int]:
    status = store.record.stat()
    return status.st_dev, status.st_ino


def _finish(store: Store) -> None:
    with suppress(BusyError), rewriting(store):  # whoever is busy finishes it
        log.warning("%s: finishing the removal of a takedown that was cut short", store.root)
        finish_removal(store)


class BusyError(StoreError):
    """Others build in the store."""


@contextmanager
def _locked(path: Path, how: int, waiting: str = "") -> Iterator[None]:
    """Hold a lock on a file or folder.

    It is given back aloud, since a process that was forked meanwhile has the file open, too; it gives nothing back.
    """
    descriptor = os.open(path, os.O_RDWR if path.is_file() and os.access(path, os.W_OK) else os.O_RDONLY)
    holder = os.getpid()
    try:
        _lock(descriptor, path, how, waiting)
        yield
    finally:
        if os.getpid() == holder:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, path: Path, how: int, waiting: str) -> None:
    try:
        if waiting:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                log.warning("%s", waiting)
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise BusyError(
            f"{path.parent}: somebody builds in this store or rewrites it; wait for its end and try again"
        ) from None
    except OSError as error:
        if how & fcntl.LOCK_EX and path.is_file():
            raise StoreError(f"{path}: cannot be locked ({error.strerror}); rewrite where it can be") from None
        log.debug("%s: cannot be locked (%s)", path, error.strerror)
