"""Learning-rate schedules: pure functions from a step to a share of the highest rate, so there is no state to save.

Every schedule begins with a linear warm-up whose first step is already above zero. Then, with `p` from 0 at the end
of the warm-up to 1 at the last step:

- `constant` stays at 1;
- `linear` falls in a line to the final fraction;
- `cosine` falls in half a cosine to it (Loshchilov and Hutter 2017);
- `wsd` stays at 1 and falls in a line over the last share of all steps (Hu et al. 2024, MiniCPM).
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
    start = max(span.warmup_steps, span.steps - 1 - round(span.decay_fraction * span.steps))
    return _blend(1 - span.progress(step, start), span)


def _blend(share: float, span: Span) -> float:
    return span.final_fraction + (1 - span.final_fraction) * share


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {"constant": _constant, "cosine": _cosine, "linear": _linear, "wsd": _wsd}
)


def rate_at(schedule: str, step: int, span: Span) -> float:
    """Return the learning rate of a step (from 0), as a share of the highest."""
    if step < span.warmup_steps:
        return (step + 1) / (span.warmup_steps + 1)
    return SCHEDULES[schedule](step, span)
