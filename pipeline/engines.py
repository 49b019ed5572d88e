"""Engines: run bundles of tasks and report done or failed, and only that.

Results never travel through an engine: a worker commits to the store, the driver reads the store. Retries, resume,
progress and statistics live outside. An engine stops at the first failure it sees; what was running then is made again.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Protocol

from headrace.pipeline.errors import HeadraceError
from headrace.pipeline.schema import Task
from headrace.pipeline.work import run_bundle

Bundle = tuple[Task, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a bundle: None, or why it failed; `detail` is a traceback where the failure was not expected."""

    bundle: Bundle
    error: str | None = None
    detail: str = ""


class Engine(Protocol):
    """Runs bundles in any order, anywhere the store can be seen."""

    def run(self, bundles: Sequence[Bundle], store: Path) -> Iterator[Outcome]:
        """Yield an outcome for each bundle that ended; those after a failure may be missing."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


class InlineEngine:
    """Runs one bundle after another in this process."""

    def run(self, bundles: Sequence[Bundle], store: Path) -> Iterator[Outcome]:
        """See `Engine`."""
        for bundle in bundles:
            outcome = attempt(bundle, store)
            yield outcome
            if outcome.error:
                return

    def close(self) -> None:
        """Nothing is held."""


class PoolEngine:
    """Runs bundles in `workers` processes of this machine, which start with the first bundles and end with `close`."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, bundles: Sequence[Bundle], store: Path) -> Iterator[Outcome]:
        """See `Engine`. A single bundle is run in this process: there is nothing to share out."""
        if len(bundles) == 1:
            yield from InlineEngine().run(bundles, store)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), _follow_parent, (os.getpid(),))
        waiting: dict[Future[Outcome], Bundle] = {}
        with _interrupts_held_back():
            for bundle in bundles:
                waiting[_submit(self._pool, bundle, store)] = bundle
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            outcomes = [_outcome(future, waiting.pop(future)) for future in done]
            yield from (outcome for outcome in outcomes if not outcome.error)
            failed = [outcome for outcome in outcomes if outcome.error]
            if failed:
                self.close()  # so that nothing goes on for nobody, and the next run does not meet a broken pool
                yield failed[0]
                return

    def close(self) -> None:
        """End the workers at once; what they had not committed is lost, and made again by the next build."""
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def attempt(bundle: Bundle, store: Path) -> Outcome:
    """Run a bundle and turn what goes wrong into words that can travel."""
    try:
        run_bundle(bundle, store)
    except HeadraceError as error:
        return Outcome(bundle, str(error), traceback.format_exc())
    except Exception as error:
        task = bundle[0]
        named = ", ".join(item.path for item in task.inputs[:3])
        return Outcome(bundle, f"stage {task.stage} failed on {named}: {error!r}", traceback.format_exc())
    return Outcome(bundle)


def _submit(pool: ProcessPoolExecutor, bundle: Bundle, store: Path) -> "Future[Outcome]":
    """Hand a bundle to the pool; if its workers died meanwhile, that is the outcome."""
    try:
        return pool.submit(attempt, bundle, store)
    except BrokenProcessPool as error:
        failed: Future[Outcome] = Future()
        failed.set_exception(error)
        return failed


def _outcome(future: "Future[Outcome]", bundle: Bundle) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        named = ", ".join(item.path for item in bundle[0].inputs[:3])
        return Outcome(
            bundle,
            f"a worker died (killed, or out of memory) while stage {bundle[0].stage} was running on {named}; "
            "start the same command again, with fewer --workers if memory is short",
        )


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let no Ctrl-C through until the end, and none at all to processes that are started meanwhile.

    They inherit the mask, so that one which is still importing does not end in a traceback on the terminal.
    """
    resource_tracker.ensure_running()  # started later, it would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent(parent: int) -> None:
    """Leave interrupts to the driver, and end when it is gone: an orphan would go on writing for nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make_engine(workers: int) -> Engine:
    """Return the engine for so many workers on this machine."""
    return InlineEngine() if workers <= 1 else PoolEngine(workers)
