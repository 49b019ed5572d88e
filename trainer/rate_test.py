"""The learning-rate range test (Smith 2017): the rate goes up exponentially step by step, and the loss is watched.

Too low a rate changes nothing, a good one lowers the loss fast, too high a one raises it again. The loss is smoothed by
an exponential mean without the bias of its begin. The steps are those of the run: its model, batches and optimizer,
without warm-up and decay. Nothing is written.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import BatchSource
from headrace.trainer.device import deterministic
from headrace.trainer.learner import DivergenceError, Learner
from headrace.trainer.parallel import join_world
from headrace.trainer.run_config import RunFile

RISE = 0.5
"""How far above its lowest the smoothed loss ends the test: as a share of it, or in nats where it is below 1."""

MARGIN = 3
"""Steps at either end of the curve whose slope is not looked at: smoothing has seen too little there."""


@dataclass(frozen=True)
class Tried:
    """A step: its rate, its loss before the update in nats per target, and the smoothed loss."""

    step: int
    learning_rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class RateTest:
    """What a test found.

    Attributes:
        tried: the steps in order.
        ended_by: whether all steps were taken, or the loss rose or was no number.
        steepest: rate at which the smoothed loss fell fastest, by the rate's logarithm; None where it never fell.
        lowest: rate at which the smoothed loss was lowest; None where it never fell.
    """

    tried: tuple[Tried, ...]
    ended_by: Literal["steps", "rising loss", "no number"]
    steepest: float | None
    lowest: float | None

    @property
    def suggestion(self) -> float | None:
        """The steepest rate, but at most half of the one with the lowest loss; a highest rate for a schedule."""
        if self.steepest is None or self.lowest is None:
            return None
        return min(self.steepest, self.lowest / 2)


def find_rate(
    run: RunFile,
    source: BatchSource,
    *,
    steps: int = 100,
    first: float = 1e-6,
    last: float = 1.0,
    smoothing: float = 0.9,
    on_step: Callable[[Tried], None] | None = None,
) -> RateTest:
    """Try learning rates on a run.

    Args:
        run: the model, the optimizer and the device; its own learning rate and schedule do not count.
        source: batches from the first on.
        steps: how many rates.
        first: the lowest of them.
        last: the highest.
        smoothing: what the mean keeps of itself at each step.
        on_step: is told each step.

    Raises:
        InputError: a number cannot be.
    """
    _check(steps, first, last, smoothing)
    tried: list[Tried] = []
    ended: Literal["steps", "rising loss", "no number"] = "steps"
    with join_world(run.run.device) as world, deterministic(world.device):
        learner = Learner.build(run, source.vocab_size, world)
        mean = 0.0
        for step in range(steps):
            rate = first * (last / first) ** (step / (steps - 1))
            learner.run = _at(run, rate)
            try:
                loss = learner.advance(source).loss
            except DivergenceError:
                ended = "no number"
                break
            mean = smoothing * mean + (1 - smoothing) * loss
            tried.append(Tried(step + 1, rate, loss, mean / (1 - smoothing ** (step + 1))))
            if on_step is not None and world.is_first:
                on_step(tried[-1])
            if _has_risen(tried):
                ended = "rising loss"
                break
    return RateTest(tuple(tried), ended, *_read(tried))


def _check(steps: int, first: float, last: float, smoothing: float) -> None:
    if steps < 2 * MARGIN + 4:
        raise InputError(f"steps = {steps} are too few for a curve; take at least {2 * MARGIN + 4}")
    if not 0 < first < last < math.inf:
        raise InputError(f"the first rate ({first}) must be above 0, and the last ({last}) above the first")
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing = {smoothing} must be at least 0 and below 1")


def _at(run: RunFile, rate: float) -> RunFile:
    """Return the run with one rate for all steps."""
    changed = {"learning_rate": rate, "schedule": "constant", "warmup_steps": 0}
    return run.model_copy(update={"optimizer": run.optimizer.model_copy(update=changed)})


def _has_risen(tried: Sequence[Tried]) -> bool:
    lowest = min(one.smoothed for one in tried)
    return tried[-1].smoothed > lowest + RISE * max(1.0, lowest)


def _read(tried: Sequence[Tried]) -> tuple[float | None, float | None]:
    """Return the rates at which the loss fell fastest, and was lowest."""
    if len(tried) < 2 * MARGIN + 2:
        return None, None
    lowest = min(tried, key=lambda one: one.smoothed)
    slope, steepest = min(_slopes(tried), default=(0.0, 0.0))
    return (steepest, lowest.learning_rate) if slope < 0 and lowest is not tried[0] else (None, None)


def _slopes(tried: Sequence[Tried]) -> Iterator[tuple[float, float]]:
    """Yield slopes of the smoothed loss, of lines through some steps before and after, and the rate in their middle."""
    for middle in range(MARGIN, len(tried) - MARGIN):
        before, after = tried[middle - MARGIN], tried[middle + MARGIN]
        width = math.log(after.learning_rate / before.learning_rate)
        yield (after.smoothed - before.smoothed) / width, tried[middle].learning_rate
