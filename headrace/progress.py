"""Progress on stderr: a bar a step on a terminal, a line a step elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from headrace.console import stderr

if TYPE_CHECKING:
    from rich.progress import TaskID

    from headrace.pipeline.artifacts import Progress

Watch = Callable[["Progress"], None]


@contextmanager
def counting(what: str) -> Iterator[Callable[[], None]]:
    """Yield what is called once for each thing done; elsewhere than on a terminal it shows nothing."""
    console = stderr()
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import Progress as Bars
    from rich.progress import TextColumn, TimeElapsedColumn

    with Bars(TextColumn("{task.completed} {task.description}"), TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(what, total=None)
        yield lambda: bars.advance(task)


@contextmanager
def training(steps: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield what training calls with the record of each step."""
    console = stderr()
    if not console.is_terminal:
        yield lambda record: _training_line(record, steps, console)
        return
    from rich.live import Live

    from headrace.live_training import LiveTraining

    view = LiveTraining(steps)
    with Live(view, console=console):
        yield view.add


def _training_line(record: Mapping[str, Any], steps: int, console: Console) -> None:
    if record["step"] % max(1, steps // 10) == 0 or "eval_loss" in record:
        note = f", held out: {record['bits_per_byte']:.3f} bits per byte" if "eval_loss" in record else ""
        console.print(f"step {record['step']} of {steps}: {_loss_in(record)}{note}")


def _loss_in(record: Mapping[str, Any]) -> str:
    return f"loss {record['loss']:.3f}" if "loss" in record else "left out"


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
