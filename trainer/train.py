"""A training run: steps, a log, held-out measurements, checkpoints, and going on after any interruption.

Everything a step needs is (parameters, optimizer's moments, step number): the batch and the learning rate are pure
functions of the step. So a run that was killed at any moment and resumed gives, on a CPU, the losses and the final
weights of one that was not, bit for bit. SIGTERM and SIGINT to any rank end the step that is under way, write a
checkpoint and return; nothing else needs to happen for a run to be resumable.
"""

import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from headrace.pipeline.errors import RecipeError
from headrace.trainer.batch import BatchSource
from headrace.trainer.checkpoint_files import checkpoint_path
from headrace.trainer.device import deterministic
from headrace.trainer.metrics import MetricsLog, open_wandb
from headrace.trainer.parallel import join_world
from headrace.trainer.run_config import RunFile
from headrace.trainer.session import Session, begin
from headrace.trainer.sharded import full

_log = logging.getLogger(__name__)

OnMetrics = Callable[[Mapping[str, Any]], None]
Controller = Callable[[Mapping[str, Any]], Sequence[float] | None]
"""Is given the record of a step; returns the weights of the corpora from the next one on, or None: as they are."""


@dataclass(frozen=True)
class TrainReport:
    """How a run ended.

    Attributes:
        plan: digest of the run's intent and the stream's state; it names the run.
        step: steps taken in all; `interrupted` says that a signal ended the run before its last one, `preempted` that
            it was SIGTERM: what runs the command is to start it again.
        resumed_from: step of the checkpoint that this process started from, or None.
        loss: training loss of the last step, nats per target; `eval_loss` and `bits_per_byte` after it, where it
            was followed by an evaluation (the run's very last step always is).
        weights: sha256 over names, shapes and bytes of the final parameters.
        tokens: targets that were trained on, over the whole run.
        tokens_per_second: of this process's steps.
    """

    name: str
    plan: str
    step: int
    interrupted: bool
    preempted: bool
    resumed_from: int | None
    checkpoint: Path | None
    weights: str
    loss: float | None
    eval_loss: float | None
    bits_per_byte: float | None
    tokens: int
    seconds: float
    tokens_per_second: float


def train(
    run: RunFile,
    source: BatchSource,
    out: Path,
    resume: bool = False,
    on_metrics: OnMetrics | None = None,
    controller: Controller | None = None,
) -> TrainReport:
    """Train a model on a stream and leave log and checkpoints under `out`.

    Args:
        run: what to do.
        source: where batches come from; with `torchrun`, each rank has its own, equal one.
        out: folder of `metrics.jsonl`, `tensorboard/` and `checkpoints/`.
        resume: go on from the newest whole checkpoint, or begin where there is none.
        on_metrics: called on the first rank with the record of each step, after it is logged.
        controller: changes the mixture while the run goes, as the first rank's says; what it changed is in checkpoints,
            so a run that resumes, or is traced, has the same batches. It must not count on being asked again.

    Raises:
        InputError: the source ends before the run does: told before the first step, or, where a controller changed the
            mixture, after a checkpoint of the last step that could be taken.
        StoreError: `out` already holds a run and `resume` is False, or a checkpoint cannot be written.
        RecipeError: the checkpoint was made by another plan than this run's.
        IntegrityError: there are checkpoints and none is whole.
        DivergenceError: the loss is NaN or infinite, or spikes that are to be left out do not end.
    """
    if run.data.packing == "document":
        raise RecipeError(
            "packing = 'document' serves no tokens, and every objective reads tokens; choose another packing"
        )
    with join_world(run.run.device) as world, deterministic(world.device), catch_signals() as stop:
        session = begin(run, source, world, out, resume, controller is not None)
        out.mkdir(parents=True, exist_ok=True)
        terminated = False
        with session.saver, open_log(session) if world.is_first else nullcontext() as log:
            while not session.finished:
                stopped, terminated = session.agree([stop.is_set(), stop.number == signal.SIGTERM])
                if stopped:
                    break
                session.require_step()
                record = session.advance()
                if record["step"] > session.learner.step:  # the run went back
                    if log is not None:
                        log.cut(session.learner.step)
                    continue
                if log is not None:
                    log.write(record)
                    if on_metrics is not None:
                        on_metrics(record)
                if controller is not None:
                    session.reweigh(controller(record))
                if session.checkpoint_is_due:
                    session.save()
            session.save()
            session.saver.wait()
            return _report(session, terminated, (log.last or {}) if log is not None else session.last)


def open_log(session: Session) -> MetricsLog:
    """Return the log of a run, cut back to the step that the session begins with."""
    run = session.run
    if run.log.wandb is None:
        return MetricsLog(session.out, session.learner.step)
    config = session.record.config
    board = partial(open_wandb, run.log.wandb, run.run.name, session.plan, config, session.out)
    return MetricsLog(session.out, session.learner.step, board)


def _report(session: Session, terminated: bool, record: Mapping[str, Any]) -> TrainReport:
    """Sum up; `record` is the newest of the log."""
    return TrainReport(
        name=session.run.run.name,
        plan=session.plan,
        step=session.learner.step,
        interrupted=not session.finished,
        preempted=terminated and not session.finished,
        resumed_from=session.resumed_from,
        checkpoint=checkpoint_path(session.folder, session.saved) if session.saved else None,
        weights=digest_weights(session.learner.model),
        loss=record.get("loss"),
        eval_loss=record.get("eval_loss"),
        bits_per_byte=record.get("bits_per_byte"),
        tokens=session.tokens,
        seconds=session.seconds,
        tokens_per_second=session.tokens_here / session.seconds if session.seconds else 0.0,
    )


def digest_weights(model: torch.nn.Module) -> str:
    """Return the sha256 over each parameter's name, shape and bytes, in alphabetical order; all ranks ask together."""
    hasher = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        hasher.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        hasher.update(full(parameter).detach().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()


class Stop(threading.Event):
    """Is set by a signal; `number` says by which."""

    number: int | None = None


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into an event; a second SIGINT, a second or more later, acts as it did before.

    Launchers pass on what a terminal or a scheduler has sent to all processes, so that each signal comes twice. Who
    wants a run to end at once after SIGTERM has SIGKILL. Outside the main thread Python delivers no signals, and
    nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    heard: dict[int, float] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if number not in heard:
            _log.warning("%s: ending after this step", signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - heard[number] >= 1:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        stop.number = number
        stop.set()
        heard.setdefault(number, time.monotonic())

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
