"""One process's share of a run: what it knows between steps, and how it comes back from a checkpoint.

The *plan* is the run's intent (`RunFile.intent`) and the stream's state; its digest names the run. A checkpoint of
another plan is refused, and the error says what differs.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import StoreError
from headrace.trainer.batch import BatchSource
from headrace.trainer.checkpoint import (
    Checkpoint,
    checkpoint_path,
    find_checkpoints,
    latest_checkpoint,
    open_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    set_aside_newer,
)
from headrace.trainer.device import describe_environment
from headrace.trainer.evaluation.heldout import check_domain, evaluate_source
from headrace.trainer.flops import flops_per_token, peak_flops
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.run_record import History, RunRecord, require_same_run
from headrace.trainer.seeds import derive_seed, generator_states, restore_generators, seed_generators
from headrace.trainer.streaming.mending import Quarantined

_log = logging.getLogger(__name__)


@dataclass
class Session:
    """What one process of a run knows between steps.

    Attributes:
        record: the run's plan, and what it is made of.
        resumed_from: step of the checkpoint that this process started from.
        tokens: targets of the whole run so far; `tokens_here` and `seconds` are of this process.
        saved: step of the newest checkpoint.
        last: record of the newest step of this process.
    """

    run: RunFile
    source: BatchSource
    world: World
    out: Path
    learner: Learner
    record: RunRecord
    resumed_from: int | None = None
    tokens: int = 0
    tokens_here: int = 0
    seconds: float = 0.0
    saved: int | None = None
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> str:
        """Digest of the run's intent and the stream's state."""
        return self.record.plan

    @property
    def finished(self) -> bool:
        """Whether the last step was taken."""
        return self.learner.step >= self.run.run.steps

    @property
    def folder(self) -> Path:
        """Where checkpoints lie."""
        return self.out / "checkpoints"

    def agree(self, stop: bool) -> bool:
        """Return whether any rank was told to stop, the same on all of them."""
        return self.world.sum([float(stop)])[0] > 0

    def advance(self) -> dict[str, Any]:
        """Take a step, and evaluate where it is time to; return the step's record."""
        start = time.perf_counter()
        result = self.learner.advance(self.source)
        seconds = time.perf_counter() - start
        self.tokens += result.num_targets
        self.tokens_here += result.num_targets
        self.seconds += seconds
        self.last = {
            "step": self.learner.step,
            "loss": result.loss,
            "learning_rate": result.learning_rate,
            "grad_norm": result.grad_norm,
            "tokens": self.tokens,
            **self._speed(result.num_targets, seconds),
            **self._evaluate(),
        }
        return self.last

    def _speed(self, num_targets: int, seconds: float) -> dict[str, float]:
        speed = {"seconds": round(seconds, 6), "tokens_per_second": round(num_targets / seconds, 1)}
        peak = self.run.run.peak_flops or peak_flops(self.world.device)
        if peak:
            flops = num_targets * flops_per_token(self.learner.model.config, self.source.sequence_length)
            speed["mfu"] = round(flops / seconds / (peak * self.world.size), 4)
        return speed

    def _evaluate(self) -> dict[str, float]:
        """Measure the held-out split after every `eval.every` steps and after the last."""
        every = self.run.eval.every
        if not self.finished and not (every and self.learner.step % every == 0):
            return {}
        section = self.run.eval
        measured = evaluate_source(self.learner, self.source, section.max_batches, section.domain)
        return measured.record() if measured else {}

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether the run file asks for a checkpoint after this step."""
        every = self.run.checkpoint.every
        return bool(every) and self.learner.step % (every or 1) == 0

    def reweigh(self, weights: Sequence[float] | None) -> None:
        """Give the corpora other weights from the next step on, those of the first rank; None changes nothing."""
        told = [float(weights is not None), *(weights or ())] if self.world.is_first else [0.0]
        if self.world.size > 1:
            told = self._first_rank_s(told)
        if told[0]:
            self.source.reweigh(self.learner.step, told[1:])

    def _first_rank_s(self, values: Sequence[float]) -> list[float]:
        """Return the numbers that the first rank has."""
        length = int(self.world.sum([float(len(values)) if self.world.is_first else 0.0])[0])
        return self.world.sum(list(values) if self.world.is_first else [0.0] * length)

    def save(self) -> None:
        """Write a checkpoint on the first rank, unless this step's is there; then remove what is too old.

        Before the first step there is nothing that the run file does not say.
        """
        if self.learner.step and self.saved != self.learner.step:
            self.saved = self.learner.step
            self._share_quarantine()
            if self.world.is_first:
                save_checkpoint(self.folder, *self.learner.tensors(), self._state())
                prune_checkpoints(self.folder, self.run.checkpoint.keep)
        self.world.wait()

    def _share_quarantine(self) -> None:
        """Tell all ranks which windows any of them replaces, so that the checkpoint has them, and all go on alike."""
        mine = [number for step, corpus, window, _ in self.source.quarantined for number in (step, corpus, window)]
        counts = self.world.sum([float(len(mine) if rank == self.world.rank else 0) for rank in range(self.world.size)])
        before, total = int(sum(counts[: self.world.rank])), int(sum(counts))
        numbers = [0.0] * before + [float(number) for number in mine]
        found = [int(number) for number in self.world.sum(numbers + [0.0] * (total - len(numbers)))] if total else []
        places = zip(found[::3], found[1::3], found[2::3], strict=True)
        others = [Quarantined(step, corpus, window, "found by another rank") for step, corpus, window in places]
        self.source.mend(others)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.learner.step,
            "tokens": self.tokens,
            "plan": self.plan,
            "intent": self.record.intent,
            "stream": self.record.stream,
            "schedule": [[entry.step, list(entry.weights)] for entry in self.source.log],
            "quarantined": [list(entry) for entry in self.source.quarantined],
            "model": self.learner.model.config.model_dump(mode="json"),
            "config": self.record.config,
            "generators": generator_states(),
            "environment": self._environment(),
        }

    def _environment(self) -> dict[str, Any]:
        """Return what the bits depend on beside the plan."""
        how = {"bf16": self.learner.bf16, "attention": self.learner.layout, "ranks": self.world.size}
        return {**describe_environment(self.world.device), **how, "microbatch": self.run.optimizer.microbatch}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same plan."""
        state = checkpoint.state
        self.record.require_same(checkpoint.path, state["plan"], state["intent"], state["stream"])
        self.learner.restore(checkpoint)
        history = History.of(state)
        self.source.replay(history.schedule)
        self.source.mend(history.quarantined)
        self.tokens = int(checkpoint.state["tokens"])
        self.resumed_from = self.saved = checkpoint.step
        if self.world.is_first:
            restore_generators(checkpoint.state["generators"])
            set_aside_newer(self.folder, checkpoint.step)
            if checkpoint.state["environment"] != self._environment():
                _log.warning("%s was written in another environment: bits may differ from here on", checkpoint.path)


def begin(run: RunFile, source: BatchSource, world: World, out: Path, resume: bool) -> Session:
    """Make the session of a new run, or the one that goes on from the newest whole checkpoint.

    Raises:
        StoreError: there is a run already, or the folder cannot be written.
        RecipeError: the run there is of another plan.
        InputError: the corpora have no such column as `eval.domain` names.
    """
    folder = out / "checkpoints"
    if not resume and find_checkpoints(folder):
        raise StoreError(f"{out} already holds a run: resume it, or choose another folder")
    check_domain(source, run.eval.domain)
    record = RunRecord.of(run, source)
    if resume:
        require_same_run(record, out)
    learner = Learner.build(run, source.vocab_size, world)
    session = Session(run, source, world, out, learner, record)
    checkpoint = _agree_on_checkpoint(folder, world) if resume else None
    seed_generators(derive_seed(run.run.seed, "rank", world.rank, "step", checkpoint.step if checkpoint else 0))
    if checkpoint is not None:
        session.restore(checkpoint)
    world.wait()
    if world.is_first:
        record.write(out)
    return session


def _agree_on_checkpoint(folder: Path, world: World) -> Checkpoint | None:
    """Return the checkpoint that the first rank chose."""
    chosen = latest_checkpoint(folder) if world.is_first else None
    step = int(world.sum([float(chosen.step) if chosen else 0.0])[0])
    if world.is_first or step == 0:
        return chosen
    return open_checkpoint(checkpoint_path(folder, step))
