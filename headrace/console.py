"""What every command has in common: results on stdout, all else on stderr, one exit status for each kind of end.

A command is a function that returns a `Result`. `@command` gives it `--json` and `--debug` and turns every way it can
end into words and a status: 0 for success, 1 for an error, 75 where a scheduler took the machine away (SIGTERM) and the
same command goes on, 130 for an interrupt, 141 where nobody reads the result any more; 2 (a command line that cannot
be) is the parser's. With `--json` stdout holds one JSON object, for an error too.
"""

import errno
import functools
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headrace.quiet import interrupts_kept, quiet

FAILED = 1
PREEMPTED = 75
"""Ended by SIGTERM with all kept: `EX_TEMPFAIL`, start the same command again."""
INTERRUPTED = 130
UNREAD = 141
DEBUG_HINT = "this is a fault in headrace or its environment; the same command with --debug shows where"
KEPT = "interrupted: what was finished is kept; start the same command again to continue"

Show = Callable[[Console], None]

_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="On an error show the traceback; show warnings of libraries.")]


@dataclass(frozen=True)
class Result:
    """What a command found: `data` for programs, `show` for people; `status` is not 0 where it found damage."""

    data: Mapping[str, Any]
    show: Show
    status: int = 0


def command(function: Callable[..., Result]) -> Callable[..., int]:
    """Make a command for the parser of a function that returns a `Result`; it returns the exit status."""

    @functools.wraps(function)
    def run(*args: Any, as_json: bool, debug: bool, **options: Any) -> int:
        with interrupts_kept(), quiet(debug, stderr):
            return _finish(lambda: function(*args, **options), as_json, debug)

    signature = inspect.signature(function)
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("as_json", _JSON), ("debug", _DEBUG))
    ]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what inspect and typer look for
        parameters=[*signature.parameters.values(), *extra], return_annotation=int
    )
    return run


def _finish(work: Callable[[], Result], as_json: bool, debug: bool) -> int:
    try:
        result = work()
        print_result(result, as_json)
        return result.status
    except (typer.Exit, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        return fail(KEPT, "Interrupted", as_json, INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return UNREAD
    except Exception as error:
        if debug:
            print(getattr(error, "detail", "") or traceback.format_exc(), file=sys.stderr, end="")
        return fail(explain(error), type(error).__name__, as_json, FAILED)


def explain(error: Exception) -> str:
    """Return what a person should read about an error: what is wrong, where, and what to do."""
    from headrace.filters.libraries import MissingLibraryError
    from headrace.filters.models import ModelFileError
    from headrace.filters.plugins import PluginError
    from headrace.filters.rules import RuleError
    from headrace.pipeline.errors import HeadraceError

    if isinstance(error, HeadraceError | RuleError | ModelFileError | MissingLibraryError | PluginError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{os.strerror(error.errno)}: free some space and start the same command again; "
            "what is finished is kept"
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "out of memory; start the same command again with fewer --workers or a smaller model"
    return f"{type(error).__name__}: {error}\n{DEBUG_HINT}"


def fail(message: str, kind: str, as_json: bool, status: int) -> int:
    """Print an error to stderr, with `as_json` as an object to stdout too; return the exit status."""
    stderr().print(f"error: {message}", style="red")
    if as_json:
        print(json.dumps({"error": message, "kind": kind}, ensure_ascii=False), flush=True)
    return status


def print_result(result: Result, as_json: bool) -> None:
    """Print a result to stdout, and make sure that it has arrived."""
    if as_json:
        print(json.dumps(dict(result.data), ensure_ascii=False, allow_nan=False))
    else:
        result.show(stdout())
    sys.stdout.flush()


class _Console(Console):
    """A console that leaves it to `@command` what happens when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise the error again; rich would end the process."""
        raise BrokenPipeError


def stdout() -> Console:
    """Return the console for results; where it is no terminal, lines are as long as they are."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console for everything that is not the result."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 1_000_000
    return _Console(stderr=stderr, width=width, soft_wrap=width is None, markup=False, highlight=False, emoji=False)


def as_data(value: Any) -> Any:
    """Return dataclasses, models and paths as what JSON knows."""
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_data(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return rows below their headings; a column of numbers stands to the right, with its thousands set apart."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | None) for row in rows)
        drawn.add_column(column, justify="right" if numbers and rows else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def facts(pairs: Mapping[str, Any]) -> Table:
    """Return names with their values, one a line; those without a value are left out."""
    drawn = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is not None:
            drawn.add_row(name, _cell(value))
    return drawn


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
