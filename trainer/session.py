"""One process's share of a run: what it knows between steps, and how it comes back from a checkpoint.

The *plan* is the run's intent (`RunFile.intent`) and the stream's state; its digest names the run. A checkpoint of
another plan is refused, and the error says what differs.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError, StoreError
from headrace.trainer.batch import BatchSource
from headrace.trainer.checkpoint import Checkpoint, find_checkpoints, latest_checkpoint, set_aside_newer
from headrace.trainer.device import describe_environment
from headrace.trainer.evaluation.heldout import check_domain, evaluate_source
from headrace.trainer.flops import peak_flops, utilization
from headrace.trainer.learner import Learner, StepResult
from headrace.trainer.objectives.contract import require_length
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.run_record import History, RunRecord, known_start, require_same_run
from headrace.trainer.saving import Saver
from headrace.trainer.seeds import derive_seed, generator_states, restore_generators, seed_generators
from headrace.trainer.spikes import Spike, tell
from headrace.trainer.start import Start, find_start
from headrace.trainer.streaming.mending import Quarantined
from headrace.trainer.streaming.plan import ARITHMETIC

_log = logging.getLogger(__name__)


@dataclass
class Session:
    """What one process of a run knows between steps.

    Attributes:
        record: the run's plan, and what it is made of.
        start: the checkpoint of another run that it began with.
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
    start: Start | None = None
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
    def first_step(self) -> int:
        """The step, from 0, that the run began with."""
        return self.start.first_step if self.start is not None else 0

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

    def require_step(self) -> None:
        """Raise `InputError` if the source has no batch for the next step, after a checkpoint was written."""
        try:
            self.source.require(self.learner.step + 1, self.world.size)
        except InputError:
            self.save()
            self.saver.wait()
            raise

    def advance(self) -> dict[str, Any]:
        """Take a step, and evaluate where it is time to; return the step's record."""
        start = time.perf_counter()
        result = self.learner.advance(self.source)
        seconds = time.perf_counter() - start
        self.tokens += result.num_targets
        self.tokens_here += result.num_targets
        self.seconds += seconds
        step = self.learner.step
        if result.spike is not None and self._answer(result.spike):
            return {"step": step}
        measured = {"loss": result.loss, "grad_norm": result.grad_norm}
        self.last = {
            "step": step,
            **{name: value for name, value in measured.items() if math.isfinite(value)},
            "learning_rate": result.learning_rate,
            "tokens": self.tokens,
            **({} if result.lost is None else {"tokens_left_out": result.lost}),
            **self._speed(result, seconds),
            **self._shares(result.shares),
            **self._experts(),
            **({"left_out": True} if result.left_out else {}),
            **({"spike": result.spike.deviations} if result.spike and result.spike.deviations else {}),
            **self._evaluate(),
        }
        return self.last

    def _answer(self, spike: Spike) -> bool:
        """Say that a step is a spike, and go back where the run file asks for it; return whether that was done."""
        policy = self.run.run.spikes
        first = max(self.first_step, spike.step + 1 - self.run.run.spike_batches)
        done = {
            "tell": "its update is taken",
            "skip": "its update is left out",
            "rewind": f"going back, to leave out steps {first + 1} to {spike.step + 1}",
        }[policy]
        if self.world.is_first:
            _log.warning("%s", tell(spike, self.run.run.name, self.out, done))
        if policy != "rewind":
            return False
        watch = self.learner.spikes
        found, left_out = watch.found, watch.left_out | set(range(first, spike.step + 1))
        self.saver.wait()  # the one under way may be what the run goes back to, or what it is to set aside
        checkpoint = latest_checkpoint(self.folder, self.world, first)
        if checkpoint is None:
            self._begin()
        else:
            self._go_to(checkpoint)
        watch.found, watch.left_out = found, left_out
        return True

    def _speed(self, result: StepResult, seconds: float) -> dict[str, float]:
        """Return targets a second, and the utilisation by all positions that are computed, asked or not."""
        speed = {"seconds": round(seconds, 6), "tokens_per_second": round(result.num_targets / seconds, 1)}
        peak = self.run.run.peak_flops or peak_flops(self.world.device)
        if peak:
            config, length = self.learner.model.config, self.source.sequence_length
            speed["mfu"] = round(utilization(config, length, result.computed, seconds, peak * self.world.size), 4)
        return speed

    def _shares(self, shares: Sequence[float]) -> dict[str, float]:
        """Return the share of each corpus in a step's targets, where there are several."""
        if len(shares) < 2:
            return {}
        return {f"share/{name}": round(share, 6) for name, share in zip(self.source.names, shares, strict=True)}

    def _experts(self) -> dict[str, float]:
        """Return the tokens of the busiest and of the idlest expert of any layer, as multiples of an equal share."""
        load = self.learner.expert_load
        if load is None:
            return {}
        relative = load / load.mean(dim=1, keepdim=True)
        return {
            "experts/max_load": round(float(relative.max()), 4),
            "experts/min_load": round(float(relative.min()), 4),
        }

    def _evaluate(self) -> dict[str, float]:
        """Measure the held-out split after every `eval.every` steps and after the last; the average too."""
        every = self.run.eval.every
        if not self.finished and not (every and self.learner.step % every == 0):
            return {}
        found = self._measure("")
        if self.learner.average is not None:
            with self.learner.average.in_place(self.learner.model):
                found |= self._measure("ema_")
        return found

    def _measure(self, prefix: str) -> dict[str, float]:
        section = self.run.eval
        measured = evaluate_source(self.learner, self.source, section.max_batches, section.domain)
        return {f"{prefix}{name}": value for name, value in measured.record().items()} if measured else {}

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
        if self.learner.step > self.first_step and self.saved != self.learner.step:
            self.saved = self.learner.step
            self._share_quarantine()
            values = self._state() if self.world.is_first else generator_states()
            self.saver.start(self.learner.step, *self.learner.tensors(), values, self._back_to)

    @property
    def _back_to(self) -> int | None:
        """The earliest step that a spike may have the run go back to, from the next step on; None where none may."""
        return self.learner.step + 1 - self.run.run.spike_batches if self.run.run.spikes == "rewind" else None

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
            "arithmetic": ARITHMETIC,
            "schedule": [[entry.step, list(entry.weights)] for entry in self.source.log],
            "quarantined": [list(entry) for entry in self.source.quarantined],
            "model": self.learner.model.config.model_dump(mode="json"),
            "config": self.record.config,
            "spikes": self.learner.spikes.state(),
            "generators": generator_states(),
            "environment": self._environment(),
        }

    def _environment(self) -> dict[str, Any]:
        """Return what the bits depend on beside the plan."""
        how = {"bf16": self.learner.bf16, "attention": self.learner.layout, "ranks": self.world.size}
        if self.run.run.fp8:
            how["fp8"] = True
        if self.world.size > 1 and self.run.run.parallel != "ddp":
            how["parallel"] = self.run.run.parallel
        return {**describe_environment(self.world.device), **how, "microbatch": self.run.optimizer.microbatch}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same plan."""
        state = checkpoint.state
        self.record.require_same(checkpoint.path, state["plan"], state["intent"], state["stream"])
        self._go_to(checkpoint)
        self.resumed_from = checkpoint.step
        if self.world.is_first and checkpoint.state["environment"] != self._environment():
            _log.warning("%s was written in another environment: bits may differ from here on", checkpoint.path)

    def take_up(self) -> None:
        """Begin with what the checkpoint of another run has."""
        if self.start is None:
            return
        checkpoint = self.start.open(self.learner.model.config, self.world)
        self.learner.take_up(checkpoint, self.start.with_optimizer, self.first_step)
        if not self.start.recount:
            self.tokens = int(checkpoint.state["tokens"])
            if checkpoint.state["stream"] == self.record.stream:  # its batches go on as they would have
                history = History.of(checkpoint.state)
                self.source.replay(history.schedule)
                self.source.mend(history.quarantined)

    def _begin(self) -> None:
        """Be where the run began."""
        self.learner.begin_again()
        self.source.replay(())
        self.tokens, self.saved = 0, None
        self.take_up()
        self._seed(0)
        if self.world.is_first:
            set_aside_newer(self.folder, self.first_step)

    def _seed(self, step: int) -> None:
        """Give this rank generators of its own, where no checkpoint has them."""
        seed_generators(derive_seed(self.run.run.seed, "rank", self.world.rank, "step", step))

    def _go_to(self, checkpoint: Checkpoint) -> None:
        """Be where a checkpoint was written; what is newer is set aside."""
        self.learner.restore(checkpoint)
        history = History.of(checkpoint.state)
        self.source.replay(history.schedule)
        self.source.mend(history.quarantined)
        self.tokens = int(checkpoint.state["tokens"])
        self.saved = checkpoint.step
        generators = checkpoint.generators(self.world.rank, self.world.size)
        if generators is not None:
            restore_generators(generators)
        else:
            self._seed(checkpoint.step)
        if self.world.is_first:
            set_aside_newer(self.folder, checkpoint.step)


def begin(
    run: RunFile, source: BatchSource, world: World, out: Path, resume: bool, controlled: bool = False
) -> Session:
    """Make the session of a new run, or the one that goes on from the newest whole checkpoint.

    Where the mixture is not `controlled`, the source must have batches for all steps.

    Raises:
        InputError: it has not.
        StoreError: there is a run already, or the folder cannot be written.
        RecipeError: the run there is of another plan, or cannot start from what it names, or the objective cannot be
            asked about rows as long as the source's.
        InputError: what it starts from is not there, or the corpora have no such column as `eval.domain` names.
    """
    folder = out / "checkpoints"
    if not resume and find_checkpoints(folder):
        raise StoreError(f"{out} already holds a run: resume it, or choose another folder")
    check_domain(source, run.eval.domain)
    require_length(run.make_objective(), source.sequence_length)
    start = find_start(run, known_start(run, out) if resume else None, world)
    record = RunRecord.of(run, source, start.intent() if start is not None else None)
    if resume:
        require_same_run(record, out)
    learner = Learner.build(run, source.vocab_size, world)
    session = Session(run, source, world, out, learner, record, Saver(folder, run.checkpoint, world), start)
    checkpoint = latest_checkpoint(folder, world) if resume else None
    if checkpoint is not None:
        session.restore(checkpoint)
    else:
        session._seed(0)
        session.take_up()
    source.require(session.learner.step if controlled else run.run.steps, world.size)
    world.wait()
    if world.is_first:
        record.write(out)
    return session
