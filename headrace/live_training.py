"""What a terminal shows while a model trains: the loss as a curve, and how fast, with what data and how long still."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

WIDTH, HEIGHT = 64, 8
"""Of the curve, in characters."""

RECENT = 20
"""Steps whose mean time makes the estimate of how long the rest takes."""

_EIGHTHS = " ▁▂▃▄▅▆▇█"


class LiveTraining:
    """The view of a run of `steps` steps; give each step's record to `add`, and the object to rich's `Live`."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._losses: list[float] = []
        self._seconds: list[float] = []
        self._last: Mapping[str, Any] = {}
        self._evaluated: Mapping[str, Any] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the record of a step."""
        if "loss" in record:  # a step that was left out may have none
            self._losses.append(record["loss"])
        self._seconds = [*self._seconds, record["seconds"]][-RECENT:]
        self._last = record
        if "bits_per_byte" in record:
            self._evaluated = record

    def __rich__(self) -> RenderableType:
        """Return the view."""
        if not self._last:
            return Text("the first step is under way")
        facts = Table.grid(padding=(0, 3))
        for name, value in self._facts():
            facts.add_row(Text(name, style="dim"), value)
        beside = Table.grid(padding=(0, 2))
        lines = curve(self._losses, WIDTH, HEIGHT) if self._losses else []
        beside.add_row(Text("\n".join(lines)), facts)
        step = self._last["step"]
        return Panel(
            Group(beside, ProgressBar(total=self._steps, completed=step)), title=f"step {step} of {self._steps}"
        )

    def _facts(self) -> list[tuple[str, str]]:
        record, left = self._last, (self._steps - self._last["step"]) * sum(self._seconds) / len(self._seconds)
        loss = "left out" if record.get("left_out") else f"{record['loss']:.4f}"
        facts = [("loss", loss), ("learning rate", f"{record['learning_rate']:.2e}")]
        if self._evaluated:
            facts.append(("held out", f"{self._evaluated['bits_per_byte']:.4f} bits per byte"))
        facts.append(("tokens", f"{record['tokens']:,} ({record['tokens_per_second']:,.0f} a second)"))
        if "mfu" in record:
            facts.append(("MFU", f"{record['mfu']:.1%}"))
        shares = [f"{key.removeprefix('share/')} {record[key]:.1%}" for key in record if key.startswith("share/")]
        if shares:
            facts.append(("data", ", ".join(shares)))
        if "experts/max_load" in record:
            facts.append(("busiest expert", f"{record['experts/max_load']:.2f} times its share"))
        return [*facts, ("left", duration(left))]


def curve(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return the lines of a chart of means, `width` columns at most, the first and last of them with the bounds."""
    size = max(1, math.ceil(len(values) / width))
    means = [sum(part) / len(part) for part in (values[at : at + size] for at in range(0, len(values), size))]
    low, high = min(means), max(means)
    levels = [round((mean - low) / ((high - low) or 1) * (8 * height - 1)) + 1 for mean in means]
    lines = []
    for row in reversed(range(height)):
        bound = f"{high:8.3f}" if row == height - 1 else f"{low:8.3f}" if row == 0 else " " * 8
        bars = "".join(_EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels)
        lines.append(f"{bound} {bars:{width}}")
    return lines


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    for unit, name, part, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} {int(seconds % unit // part)} {smaller}"
    return f"{int(seconds)} s"
