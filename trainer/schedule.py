"""Learning-rate schedules: pure functions from a step to a share of the highest rate, so there is no state to save.

Every schedule begins with a linear warm-up whose first step is already above zero. Then, with `p` from 0 at the end
of the warm-up to 1 at the last step:

- `constant` stays at 1;
- `linear` falls in a line to the final fraction;
- `cosine` falls in half a cosine to it (Loshchilov and Hutter 2017);
- `wsd` stays at 1 and cools down over the last steps (Hu et al. 2024, MiniCPM);
- `inverse_sqrt` falls as one over the root of the step (Vaswani et al. 2017) and cools down as `wsd` does (Zhai et al.
  2022), so a run can be prolonged and cooled down from anywhere.

A cool-down falls to the final fraction in a shape, with `p` from 0 to 1 over its steps: `linear` is 1 - p, `cosine`
half a cosine, `minus_sqrt` 1 - sqrt(p) (Hägele et al. 2024).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Span:
    """The steps of a run, and the shape of its decay."""

    steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.1
    decay_fraction: float = 0.2
    decay_steps: int | None = None
    """Steps of the cool-down; by default a fraction of all."""
    decay_shape: str = "linear"

    @property
    def decay_start(self) -> int:
        """The last step before the cool-down."""
        steps = round(self.decay_fraction * self.steps) if self.decay_steps is None else self.decay_steps
        return max(self.warmup_steps, self.steps - 1 - steps)

    def progress(self, step: int, start: int) -> float:
        """Return how far `step` is from `start` (0) to the last step (1)."""
        return min(1.0, max(0.0, (step - start) / max(1, self.steps - 1 - start)))


Schedule = Callable[[int, Span], float]


def _constant(step: int, span: Span) -> float:
    return 1.0


def _linear(step: int, span: Span) -> float:
    return _blend(1 - span.progress(step, span.warmup_steps), span)


def _cosine(step: int, span: Span) -> float:
    return _blend((1 + math.cos(math.pi * span.progress(step, span.warmup_steps))) / 2, span)


def _wsd(step: int, span: Span) -> float:
    return _blend(SHAPES[span.decay_shape](span.progress(step, span.decay_start)), span)


def _inverse_sqrt(step: int, span: Span) -> float:
    before = max(span.final_fraction, math.sqrt((span.warmup_steps + 1) / (min(step, span.decay_start) + 1)))
    shape = SHAPES[span.decay_shape](span.progress(step, span.decay_start))
    return span.final_fraction + (before - span.final_fraction) * shape


def _blend(share: float, span: Span) -> float:
    return span.final_fraction + (1 - span.final_fraction) * share


SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
        "linear": lambda progress: 1 - progress,
        "minus_sqrt": lambda progress: 1 - math.sqrt(progress),
    }
)
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {"constant": _constant, "cosine": _cosine, "inverse_sqrt": _inverse_sqrt, "linear": _linear, "wsd": _wsd}
)


def rate_at(schedule: str, step: int, span: Span) -> float:
    """Return the learning rate of a step (from 0), as a share of the highest."""
    if step < span.warmup_steps:
        return (step + 1) / (span.warmup_steps + 1)
    return SCHEDULES[schedule](step, span)
