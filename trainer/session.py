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
from headrace.trainer.checkpoint import Checkpoint, find_checkpoints, latest_checkpoint, set_aside_newer
from headrace.trainer.device import describe_environment
from headrace.trainer.evaluate import evaluate
from headrace.trainer.flops import flops_per_token, peak_flops
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.run_record import History, RunRecord, require_same_run
from headrace.trainer.saving import Saver
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
        saver: writes checkpoints, in a thread of its own; `saved` is the step of the newest, written or under way.
        last: record of the newest step of this process.
    """

    run: RunFile
    source: BatchSource
    world: World
    out: Path
    learner: Learner
    record: RunRecord
    saver: Saver
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

    def agree(self, told: Sequence[bool]) -> list[bool]:
        """Return which of several things any rank was told, the same on all of them.

        Raises:
            StoreError: a checkpoint that was begun could not be written.
        """
        *counts, failed = self.world.sum([*map(float, told), float(self.saver.has_failed)])
        if failed:
            self.saver.wait()
            raise StoreError(f"{self.folder}: another rank could not write a checkpoint, and says why")
        return [count > 0 for count in counts]

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
        measured = evaluate(self.learner, self.source.heldout(), self.run.eval.max_batches)
        return {"eval_loss": measured.loss, "bits_per_byte": measured.bits_per_byte} if measured else {}

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether the run file asks for a checkpoint after this step."""
        every = self.run.checkpoint.every
        return bool(every) and self.learner.step % (every or 1) == 0

    def reweigh(self, weights: Sequence[float] | None) -> None:
        """Give the corpora other weights from the next step on, those of the first rank; None changes nothing."""
        told = [float(weights is not None), *(weights or ())] if self.world.is_first else [0.0]
        told = self.world.tell(told)
        if told[0]:
            self.source.reweigh(self.learner.step, told[1:])

    def save(self) -> None:
        """Begin to write a checkpoint, unless this step's is there; `saver.wait` returns when it is on the disk.

        Before the first step there is nothing that the run file does not say.
        """
        if self.learner.step and self.saved != self.learner.step:
            self.saved = self.learner.step
            self._share_quarantine()
            values = self._state() if self.world.is_first else generator_states()
            self.saver.start(self.learner.step, *self.learner.tensors(), values)

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
        if self.world.size > 1 and self.run.run.parallel != "ddp":
            how["parallel"] = self.run.run.parallel
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
        generators = checkpoint.generators(self.world.rank, self.world.size)
        if generators is not None:
            restore_generators(generators)
        if self.world.is_first:
            set_aside_newer(self.folder, checkpoint.step)
            if checkpoint.state["environment"] != self._environment():
                _log.warning("%s was written in another environment: bits may differ from here on", checkpoint.path)


def begin(run: RunFile, source: BatchSource, world: World, out: Path, resume: bool) -> Session:
    """Make the session of a new run, or the one that goes on from the newest whole checkpoint.

    Raises:
        StoreError: there is a run already, or the folder cannot be written.
        RecipeError: the run there is of another plan.
    """
    folder = out / "checkpoints"
    if not resume and find_checkpoints(folder):
        raise StoreError(f"{out} already holds a run: resume it, or choose another folder")
    record = RunRecord.of(run, source)
    if resume:
        require_same_run(record, out)
    learner = Learner.build(run, source.vocab_size, world)
    session = Session(run, source, world, out, learner, record, Saver(folder, run.checkpoint, world))
    checkpoint = latest_checkpoint(folder, world) if resume else None
    seed_generators(derive_seed(run.run.seed, "rank", world.rank, "step", checkpoint.step if checkpoint else 0))
    if checkpoint is not None:
        session.restore(checkpoint)
    world.wait()
    if world.is_first:
        record.write(out)
    return session
