"""Loss spikes: found by their distance from the losses before them, told by name, and left out where a run asks for it.

A loss is a spike where it lies more than `threshold` robust deviations above the median of the last `window` losses:

    (loss - median) / max(1.4826 * median of |losses - median|, 0.001 |median|)

which is the standard deviation of normal numbers, and which a few outliers do not move (Rousseeuw and Croux 1993). The
window has to be half full. A loss or gradient that is no finite number is a spike whatever came before.

What was left out is a set of steps: their batches are asked of nobody, and their updates are not taken.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from headrace.trainer.run_config import RunSection

TO_SIGMA = 1.4826
LEAST_SHARE = 0.001
"""Of the median: the least deviation there is, so that losses that are all alike do not make of each rise a spike."""
IN_A_ROW = 10
"""So many spikes in steps that follow each other are no spikes."""


class Spike(NamedTuple):
    """A step, from 0, whose loss is a spike; the loss is None where it, or the gradient, is no finite number."""

    step: int
    loss: float | None
    deviations: float | None = None


@dataclass
class SpikeWatch:
    """The losses of the newest steps, spikes so far, and the steps that are left out."""

    threshold: float
    window: int
    losses: list[float] = field(default_factory=list)
    found: list[Spike] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, section: RunSection) -> "SpikeWatch":
        """Make the watch that a run file asks for."""
        return cls(section.spike_threshold, section.spike_window)

    def judge(self, step: int, loss: float, grad_norm: float) -> Spike | None:
        """Return the spike that a step is, or None."""
        if not (abs(loss) < float("inf") and grad_norm < float("inf")):
            return Spike(step, None)
        if len(self.losses) < max(2, self.window // 2):
            return None
        deviations = (loss - self.median) / self.scale
        return Spike(step, loss, deviations) if deviations > self.threshold else None

    @property
    def median(self) -> float:
        """The median of the window."""
        return median(self.losses)

    @property
    def scale(self) -> float:
        """What a loss may differ by: one robust deviation."""
        middle = self.median
        spread = TO_SIGMA * median(abs(loss - middle) for loss in self.losses)
        return max(spread, LEAST_SHARE * abs(middle), 1e-12)

    def take_in(self, loss: float, spike: Spike | None) -> None:
        """Remember the loss of a step that was computed, and the spike that it is."""
        if spike is not None:
            self.found.append(spike)
        if spike is None or spike.loss is not None:
            self.losses = [*self.losses, loss][-self.window :]

    @property
    def goes_on(self) -> bool:
        """Whether the newest spikes follow each other without end."""
        steps = [spike.step for spike in self.found[-IN_A_ROW:]]
        return len(steps) == IN_A_ROW and steps == list(range(steps[0], steps[0] + IN_A_ROW))

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as JSON."""
        return {
            "losses": self.losses,
            "found": [list(spike) for spike in self.found],
            "left_out": sorted(self.left_out),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned; nothing, of a run from before there were spikes."""
        self.losses = list(state.get("losses", []))
        self.found = [Spike(*spike) for spike in state.get("found", [])]
        self.left_out = set(state.get("left_out", []))


def tell(spike: Spike, run: str, out: Path, done: str) -> str:
    """Return what is said of a spike: which step of which run, how far it is off, what was done, how to look at it."""
    if spike.loss is None:
        what = "loss or gradient is no finite number"
    elif spike.deviations is None:
        what = f"loss {spike.loss:.4f} is a spike on another rank"
    else:
        what = f"loss {spike.loss:.4f} is {spike.deviations:.1f} robust deviations above those before it"
    command = shlex.join(["headrace", "trace", str(out), "--step", str(spike.step + 1), "--loss"])
    return f"run {run!r}, step {spike.step + 1}: {what}; {done}; to see its documents: {command}"
