"""Progress on stderr: a bar a step on a terminal, a line a step elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from headrace.console import stderr

if TYPE_CHECKING:
    from rich.progress import TaskID

    from headrace.pipeline.artifacts import Progress

Watch = Callable[["Progress"], None]


@contextmanager
def watching() -> Iterator[Watch]:
    """Yield what a build calls with its progress."""
    console = stderr()
    if not console.is_terminal:
        yield lambda progress: _line(progress, console)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
    with Bars(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(progress: "Progress") -> None:
            label, note = short_label(progress.label), cached_note(progress)
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=progress.total, note=note)
            bars.update(tasks[label], completed=progress.done, total=progress.total, note=note)

        yield watch


def _line(progress: "Progress", console: Console) -> None:
    if progress.done == progress.total:
        note = cached_note(progress)
        console.print(f"{short_label(progress.label)}: {progress.done} of {progress.total}{note and f' ({note})'}")


def short_label(label: str, limit: int = 60) -> str:
    """Return a step's label, cut where it names many signals."""
    return label if len(label) <= limit else label[: limit - 3] + "..."


def cached_note(progress: "Progress") -> str:
    """Return how many tasks were there before, in words; empty where none was."""
    return f"{progress.cached} made before" if progress.cached else ""
