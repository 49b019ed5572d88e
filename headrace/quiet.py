"""What of the inside reaches the outside: no chatter of libraries, and every Ctrl-C."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

RETRY_SECONDS = 0.01


class _OnStderr(logging.Handler):
    """Prints our own log, a line each, on a console made when it is needed."""

    def __init__(self, console: Callable[[], Console]) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        self._console().print(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow")


@contextmanager
def quiet(debug: bool, console: Callable[[], Console]) -> Iterator[None]:
    """Keep warnings and logs of libraries from the terminal, here and in worker processes; our own log is shown."""
    ours, root, before = logging.getLogger("headrace"), logging.getLogger(), os.environ.get("PYTHONWARNINGS")
    handlers: list[tuple[logging.Logger, logging.Handler]] = [(ours, _OnStderr(console))]
    if not debug:
        handlers.append((root, logging.NullHandler()))  # takes the place of Python's handler of last resort
    try:
        for logger, handler in handlers:
            logger.addHandler(handler)
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
                os.environ["PYTHONWARNINGS"] = "ignore"
            yield
    finally:
        for logger, handler in handlers:
            logger.removeHandler(handler)
        _restore("PYTHONWARNINGS", before)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let no Ctrl-C be lost.

    One that arrives while Python runs a finalizer or the callback of a weak reference is only reported as unraisable
    (pages parsed by the thousand make that likely); it is then sent again, until it arrives between two of them.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
            return
        timer = threading.Timer(RETRY_SECONDS, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
