"""`headrace lr-find` and `headrace profile`: a few steps of a run, to learn how to run it; nothing of it is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.commands.train import RunFilePath
from headrace.console import Result, as_data, facts, stderr, table
from headrace.live_training import curve

if TYPE_CHECKING:
    from headrace.trainer.rate_test import RateTest, Tried
    from headrace.trainer.run_config import RunFile
    from headrace.trainer.stream import Stream

ROWS = 24
"""Of the table of rates, at most."""

CURVE = (64, 8)
"""Characters that the curve is wide and high."""

Steps = Annotated[int, typer.Option(metavar="N", help="How many rates to try, one a step.")]
First = Annotated[float, typer.Option("--from", metavar="RATE", help="The lowest rate.")]
Last = Annotated[float, typer.Option("--to", metavar="RATE", help="The highest rate.")]
Smoothing = Annotated[float, typer.Option(metavar="SHARE", help="What the mean of losses keeps at each step.")]
Trace = Annotated[Path, typer.Option("--out", metavar="FILE", help="The trace, .json or .json.gz, for Perfetto.")]
Warmup = Annotated[int, typer.Option(metavar="N", help="Steps that nothing is measured of.")]
Timed = Annotated[int, typer.Option("--steps", metavar="N", help="Steps that are timed, and as many that are traced.")]
Top = Annotated[int, typer.Option(metavar="N", help="How many operators to name.")]


def _open(path: Path) -> "tuple[RunFile, Stream]":
    """Return a run file with its stream."""
    from headrace.trainer.run_config import load_run
    from headrace.trainer.stream import open_stream

    run = load_run(path).beside(path.parent)
    return run, open_stream(run.data, run.run.seed)


def lr_find(
    run: RunFilePath, steps: Steps = 100, first: First = 1e-6, last: Last = 1.0, smoothing: Smoothing = 0.9
) -> Result:
    """Try learning rates from low to high, one a step, and suggest the highest for the schedule.

    The test ends early where the loss rises again. The run itself is left as it is.
    """
    from headrace.trainer.rate_test import find_rate

    loaded, stream = _open(run)
    found = find_rate(loaded, stream, steps=steps, first=first, last=last, smoothing=smoothing, on_step=_tell(steps))
    data = {"suggestion": found.suggestion, **as_data(found)}
    return Result(data, lambda console: _show_rates(found, console))


def _tell(steps: int) -> "Callable[[Tried], None]":
    def tell(one: "Tried") -> None:
        if one.step % max(1, steps // 10) == 0:
            stderr().print(f"step {one.step} of {steps}: rate {one.learning_rate:.2e}, loss {one.loss:.3f}")

    return tell


def _show_rates(found: "RateTest", console: Console) -> None:
    every = max(1, -(-len(found.tried) // ROWS))
    rows = [
        (one.step, f"{one.learning_rate:.2e}", f"{one.loss:.4f}", f"{one.smoothed:.4f}") for one in found.tried[::every]
    ]
    console.print(table(("step", "learning rate", "loss", "smoothed"), rows))
    if found.tried:
        console.print("\n" + "\n".join(curve([one.smoothed for one in found.tried], *CURVE)) + "\n")
    told = {
        "ended by": found.ended_by,
        "steepest": _rate(found.steepest),
        "lowest loss": _rate(found.lowest),
        "suggestion": _rate(found.suggestion),
    }
    console.print(facts(told))
    if found.suggestion is None:
        console.print("the loss never fell: try other rates (--from, --to), or more steps", style="yellow")


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.2e}"


def profile(
    run: RunFilePath, out: Trace = Path("trace.json.gz"), steps: Timed = 5, warmup: Warmup = 3, top: Top = 15
) -> Result:
    """Time the first steps of a run part by part, and trace as many more with torch's profiler.

    Tells the share of the stream, of the passes and of the optimizer, peak memory, and the dearest operators.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler's library talks on stderr; it asks when it loads
    from headrace.trainer.profiling import profile_run

    loaded, stream = _open(run)
    found = profile_run(loaded, stream, out, warmup=warmup, steps=steps, operators=top)

    def show(console: Console) -> None:
        told = {
            "device": found.device,
            "a step": f"{found.seconds * 1e3:.1f} ms",
            "tokens a second": f"{found.tokens_per_second:,.0f}",
            "MFU": None if found.mfu is None else f"{found.mfu:.1%}",
            **{name: f"{share:.1%}" for name, share in found.shares.items()},
            "peak memory": f"{found.peak_bytes / (1 << 20):,.0f} MiB",
            "trace": found.trace,
        }
        console.print(facts(told))
        rows = [(one.name, one.calls, f"{one.seconds * 1e3:.2f}", f"{one.share:.1%}") for one in found.operators]
        console.print()
        console.print(table(("operator", "calls", "ms in itself", "share"), rows))

    return Result(as_data(found), show)
