"""Where the time of a step goes: stream, forward pass, backward pass, optimizer, and the dearest operators.

Some steps warm up, some are timed part by part, with the device waited for at each border, and some are watched by
torch's profiler, which writes a trace for https://ui.perfetto.dev and slows them; so shares are those of the timed
ones. Nothing of the run is written.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from headrace.pipeline.errors import InputError
from headrace.pipeline.store import writing
from headrace.trainer.batch import Batch, BatchSource
from headrace.trainer.device import deterministic
from headrace.trainer.flops import peak_flops, utilization
from headrace.trainer.learner import Learner
from headrace.trainer.objectives.contract import Question
from headrace.trainer.parallel import join_world
from headrace.trainer.run_config import RunFile

STREAM, FORWARD, BOTH, OPTIMIZER = "stream", "forward", "forward and backward", "optimizer"
SUFFIXES = (".json", ".json.gz")
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class Operator:
    """An operator in the watched steps: calls, and seconds without those that it calls, on the device that computes."""

    name: str
    calls: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Profiled:
    """What was found.

    Attributes:
        trace: the file.
        device: what computed.
        steps: how many were timed, and as many watched.
        seconds: of a timed step.
        shares: of it, by part; `other` is the objective, clipping, and what stands between.
        tokens_per_second: targets; `mfu` where the peak of the device is known.
        peak_bytes: most memory that was allocated on a GPU, or that the process had.
        operators: the dearest first.
    """

    trace: str
    device: str
    steps: int
    seconds: float
    shares: dict[str, float]
    tokens_per_second: float
    mfu: float | None
    peak_bytes: int
    operators: tuple[Operator, ...]


@dataclass
class _Clock:
    """Seconds by part, while it runs; parts have their names in traces, too."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        started = self.now()
        with record_function(name):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - started

    def now(self) -> float:
        """Return the time when the device has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass
class _Timed(Learner):
    """A learner whose parts are timed."""

    clock: _Clock = field(default_factory=lambda: _Clock(torch.device("cpu")))

    def _backward(self, *arguments: Any) -> Tensor:
        with self.clock.part(BOTH):
            return super()._backward(*arguments)

    def measure(self, batch: Batch, question: Question, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Do the forward pass, timed."""
        with self.clock.part(FORWARD):
            return super().measure(batch, question, rows)

    def watch_optimizer(self) -> None:
        """Time the optimizer's steps from now on."""
        parts: list[Any] = []

        def begin(*_: Any) -> None:
            parts.append(self.clock.part(OPTIMIZER))
            parts[-1].__enter__()

        self.optimizer.register_step_pre_hook(begin)
        self.optimizer.register_step_post_hook(lambda *_: parts.pop().__exit__(None, None, None))


class _TimedSource:
    """A source whose batches are timed."""

    def __init__(self, source: BatchSource, clock: _Clock) -> None:
        self._source, self._clock = source, clock

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return a batch."""
        with self._clock.part(STREAM):
            return self._source.batch(step, rank, world)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def profile_run(
    run: RunFile, source: BatchSource, trace: Path, *, warmup: int = 3, steps: int = 5, operators: int = 15
) -> Profiled:
    """Profile the first steps of a run.

    Args:
        run: what to do.
        source: its batches.
        trace: the file to write, `.json` or `.json.gz`; one that is there is replaced.
        warmup: steps that nothing is measured of.
        steps: steps that are timed, and as many that are watched.
        operators: how many of the dearest to name.

    Raises:
        InputError: the trace has another suffix, or a number cannot be.
        StoreError: it cannot be written.
    """
    if not trace.name.endswith(SUFFIXES):
        raise InputError(f"{trace}: a trace is a file {' or '.join(SUFFIXES)}")
    if warmup < 0 or steps < 1 or operators < 0:
        raise InputError(
            f"warmup = {warmup} and operators = {operators} must be at least 0, steps = {steps} at least 1"
        )
    with join_world(run.run.device) as world, deterministic(world.device):
        learner = _Timed.build(run, source.vocab_size, world)
        assert isinstance(learner, _Timed)
        learner.clock = _Clock(world.device)
        learner.watch_optimizer()
        timed: Any = _TimedSource(source, learner.clock)
        for _ in range(warmup):
            learner.advance(timed)
        learner.clock.seconds.clear()
        started = learner.clock.now()
        taken = [learner.advance(timed) for _ in range(steps)]
        seconds = learner.clock.now() - started
        shares = _shares(learner.clock.seconds, seconds)
        peak = _peak_bytes(world.device)
        found = _watch(learner, timed, steps, trace, operators)
    config, most = learner.model.config, run.run.peak_flops or peak_flops(world.device)
    computed = sum(one.computed for one in taken)
    used = utilization(config, source.sequence_length, computed, seconds, most * world.size) if most else None
    return Profiled(
        trace=str(trace),
        device=torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type,
        steps=steps,
        seconds=seconds / steps,
        shares=shares,
        tokens_per_second=sum(one.num_targets for one in taken) / seconds,
        mfu=used,
        peak_bytes=peak,
        operators=found,
    )


def _shares(seconds: dict[str, float], total: float) -> dict[str, float]:
    """Return the parts of a step as shares that add up to 1."""
    forward, both = seconds[FORWARD], seconds[BOTH]
    parts = {
        "stream": seconds[STREAM],
        "forward": forward,
        "backward": both - forward,
        "optimizer": seconds[OPTIMIZER],
    }
    return {name: part / total for name, part in {**parts, "other": total - sum(parts.values())}.items()}


def _watch(learner: Learner, source: BatchSource, steps: int, trace: Path, operators: int) -> tuple[Operator, ...]:
    """Take steps under torch's profiler, and write its trace."""
    on_gpu = learner.world.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    stages = schedule(wait=0, warmup=1, active=steps, repeat=1)  # the profiler's own first step is slow
    with profile(activities=activities, schedule=stages, acc_events=True) as found:
        for _ in range(steps + 1):
            learner.advance(source)
            found.step()
    aside = trace.with_name(f".{trace.name}.aside{_suffix(trace)}")
    with writing(trace):
        aside.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(aside))
        aside.replace(trace)
    own = [(event, event.self_device_time_total if on_gpu else event.self_cpu_time_total) for event in _events(found)]
    total = sum(spent for _, spent in own) or 1
    own.sort(key=lambda item: -item[1])
    return tuple(
        Operator(str(event.key), int(event.count), spent * _MICROSECOND, spent / total)
        for event, spent in own[:operators]
    )


def _suffix(trace: Path) -> str:
    return next(suffix for suffix in reversed(SUFFIXES) if trace.name.endswith(suffix))


def _events(found: Any) -> list[Any]:
    """Return what was computed, without the names of parts and of the profiler's own steps."""
    names = {STREAM, FORWARD, BOTH, OPTIMIZER}
    return [event for event in found.key_averages() if event.key not in names and not event.is_user_annotation]


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
