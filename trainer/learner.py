"""A model and its optimizer, and the one act of training: a step.

    loss = sum over the global batch of weight * negative log-likelihood  /  sum of all weights

Rows are cut into microbatches and spread over ranks; each part adds its gradient of the same loss, so neither changes
it beyond the rounding of the sums.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.pipeline.errors import HeadraceError, IntegrityError, RecipeError
from headrace.trainer.attention.contract import kind_of
from headrace.trainer.attention.layouts import LAYOUTS, choose_layout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.batch import Batch, BatchSource
from headrace.trainer.checkpoint import Checkpoint
from headrace.trainer.device import autocast, choose_bf16
from headrace.trainer.ema import MovingAverage, split_average
from headrace.trainer.fp8 import require_fp8, use_fp8
from headrace.trainer.loss import weighted_nll
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.objectives.contract import Objective, Question
from headrace.trainer.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors, set_rate
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.schedule import rate_at
from headrace.trainer.sharded import clip_gradients, is_sharded, put_rows
from headrace.trainer.spikes import IN_A_ROW, Spike, SpikeWatch


def _require_sight(objective: Objective, model: Transformer) -> None:
    """Raise RecipeError where an objective lets positions look ahead, which the model's attention cannot."""
    if objective.sight != "causal" and kind_of(model.config).needs_causal:
        raise RecipeError(
            f"model.attention = {model.config.attention!r} looks back alone, but the objective {objective.name!r} "
            f"needs {objective.sight} attention; choose another of the two"
        )


def _recomputed(wish: Literal["none", "all"] | int, num_layers: int) -> frozenset[int]:
    """Return the numbers of the layers whose activations are not kept."""
    if wish == "none":
        return frozenset()
    return frozenset(range(0, num_layers, 1 if wish == "all" else wish))


def _blank_row(question: Question) -> Question:
    """Return one row like those of a question, all zeros, where nothing is asked."""
    arrays = {name: array for name, array in question._asdict().items() if array is not None}
    return question._replace(**{name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in arrays.items()})


class DivergenceError(HeadraceError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class StepResult:
    """What a step measured: its loss in nats per target, before the update, and the gradient's norm before clipping.

    `lost` are the tokens that the objective found no place for, None where it moves none. Of a step that was left out,
    `num_targets` is 0, and loss and norm are NaN where they were not computed.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    num_targets: int
    shares: tuple[float, ...] = ()
    """Of each corpus, which share of the targets was from it."""
    lost: int | None = None
    spike: Spike | None = None
    computed: int = 0
    """Positions that are no padding, whether they are asked or not."""
    left_out: bool = False


class _Sums(NamedTuple):
    """Sums over the whole global batch, on all ranks.

    Attributes:
        weight: of all positions, and never quite 0.
        targets: positions with a weight; `by_source` of each corpus.
        computed: positions that are no padding, of which routers' losses are a mean.
        lost: tokens that the objective found no place for, None where it moves none.
    """

    weight: float
    targets: float
    rows: float
    computed: float
    lost: int | None
    by_source: tuple[float, ...]

    @classmethod
    def of(cls, batch: Batch, question: Question, num_sources: int, world: World) -> "_Sums":
        """Add up what the ranks' rows have."""
        asked = (question.weights > 0).sum(axis=1)
        by_source = np.bincount(batch.sources, weights=asked, minlength=num_sources).tolist()
        lost = 0.0 if question.left_out is None else float(question.left_out.sum())
        real, weight = float(question.num_positions), float(question.weights.sum())
        sums = [weight, float(asked.sum()), float(len(batch)), real, lost, *by_source]
        weight, targets, rows, computed, lost, *by_source = world.sum(sums)
        moved = None if question.left_out is None else int(lost)
        return cls(max(weight, 1e-9), targets, rows, max(computed, 1.0), moved, (*by_source,))

    def shares(self) -> tuple[float, ...]:
        """Return the share of each corpus in the targets."""
        return tuple(part / max(self.targets, 1) for part in self.by_source)


@dataclass
class Learner:
    """Takes steps; holds everything that changes while it does."""

    run: RunFile
    world: World
    model: Transformer
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    layout: str
    bf16: bool
    spikes: SpikeWatch
    average: MovingAverage | None = None
    step: int = 0
    expert_load: Tensor | None = None
    """Tokens of each expert in the newest step, (layers, experts)."""

    @classmethod
    def build(cls, run: RunFile, vocab_size: int, world: World) -> "Learner":
        """Make the model of a run file at its initial values."""
        objective = run.make_objective()
        sharded = run.run.parallel == "fsdp" and world.size > 1
        place = torch.device("cpu") if sharded else world.device  # no device need hold the whole of a sharded model
        model = build_model(run.model.resolve(vocab_size + objective.num_signs), run.run.seed, place)
        _require_sight(objective, model)
        bf16 = choose_bf16(run.run.bf16, world.device)
        if run.run.fp8:
            require_fp8(world.device)
            use_fp8(model)
        model.recompute = _recomputed(run.run.recompute, model.config.num_layers)
        if sharded:
            from headrace.trainer.fsdp import shard_model

            shard_model(model, world, bf16)
        return cls(
            run=run,
            world=world,
            model=model,
            forward=torch.compile(model) if run.run.compile else model,  # type: ignore[arg-type]  # returns a module
            optimizer=build_optimizer(model, run.optimizer),
            objective=objective,
            layout=choose_layout(world.device, run.run.compile),
            bf16=bf16,
            spikes=SpikeWatch.of(run.run),
            average=MovingAverage(model, run.optimizer.ema) if run.optimizer.ema is not None else None,
        )

    def advance(self, source: BatchSource) -> StepResult:
        """Take one step on the source's batch for it, or leave it out, where that was decided or it is a spike.

        Raises:
            DivergenceError: the loss or the gradient is NaN or infinite, or, where spikes are left out, every one of
                the newest steps is a spike; the step is not taken.
        """
        if self.step in self.spikes.left_out:
            return self._leave_out(float("nan"), float("nan"))
        batch = source.batch(self.step, self.world.rank, self.world.size)
        loss, norm, sums = self._compute(batch, len(source.names))
        spike = self._judge(loss, norm)
        if spike is not None and self.run.run.spikes != "tell":
            return self._leave_out(loss, norm, spike)
        rate = self._set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._rebalance()
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        return StepResult(loss, norm, rate, int(sums.targets), sums.shares(), sums.lost, spike, int(sums.computed))

    def _compute(self, batch: Batch, num_sources: int) -> tuple[float, float, _Sums]:
        """Make the clipped gradient of the whole global batch; return loss, norm and what the batch sums up to."""
        question = self.objective.ask(batch, self.run.run.seed)
        total = _Sums.of(batch, question, num_sources, self.world)
        local = []
        for rows in self.microbatches(batch):
            local.append(self._backward(batch, question, rows, total))
            for experts in self.model.experts():
                experts.count()
        self._keep_pace(batch, question, len(local), total)
        self.world.sum_gradients(p for p in self.model.parameters() if not is_sharded(p))
        norm = clip_gradients(self.model.parameters(), self.run.optimizer.clip, self.world)
        (loss,) = self.world.sum([sum(float(part) for part in local)])
        return loss, norm, total

    def _judge(self, loss: float, norm: float) -> Spike | None:
        """Return the spike that this step is, the same on all ranks."""
        spike = self.spikes.judge(self.step, loss, norm)
        if self.world.sum([float(spike is not None)])[0] > 0:
            spike = spike or Spike(self.step, loss)
        self.spikes.take_in(loss, spike)
        numbers = f"step {self.step + 1}: loss {loss}, gradient norm {norm}"
        if spike is not None and spike.loss is None and self.run.run.spikes == "tell":
            raise DivergenceError(f"{numbers}; its batch can be traced")
        if self.spikes.goes_on and self.run.run.spikes != "tell":
            raise DivergenceError(
                f"{numbers}: the {IN_A_ROW}th spike in a row, so it is none; its batch can be traced. "
                "Where losses are right, raise run.spike_threshold or write spikes = 'tell'"
            )
        return spike

    def _leave_out(self, loss: float, norm: float, spike: Spike | None = None) -> StepResult:
        """Go past a step without its update."""
        self.spikes.left_out.add(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        for experts in self.model.experts():
            experts.load.zero_()
        rate = self._set_rate()
        self.step += 1
        return StepResult(loss, norm, rate, 0, spike=spike, left_out=True)

    def _backward(self, batch: Batch, question: Question, rows: slice, total: _Sums) -> Tensor:
        """Add the gradient of some rows' share of the loss; return that share, without what is added to the loss."""
        loss, nll, weights = self.measure(batch, question, rows)
        share = loss / total.weight + self._router_loss() * (question.rows(rows).num_positions / total.computed)
        share.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return (nll * weights).sum() / total.weight

    def _keep_pace(self, batch: Batch, question: Question, passes: int, total: _Sums) -> None:
        """Make as many passes as the rank with most rows, of a row that is not asked about: ranks reduce together."""
        most = math.ceil(total.rows / self.world.size)
        blank = _blank_row(question)
        batch = replace(batch, sources=np.zeros(1, batch.sources.dtype))
        for _ in range(passes, math.ceil(most / (self.run.optimizer.microbatch or max(1, most)))):
            self._backward(batch, blank, slice(0, 1), total._replace(computed=math.inf))

    def measure(self, batch: Batch, question: Question, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted loss of some rows, summed, and of each position that is asked nll in nats and weight."""
        part = question.rows(rows)
        sources = np.broadcast_to(batch.sources[rows, None], part.inputs.shape)
        if self.layout == "pieces" and (self.model.patterns or part.has_gaps):  # a state goes along rows side by side
            kept = part.without_padding()
            sources = sources if kept is part else sources[part.kept][None]
            part = kept
        features = self._features(part, sources)
        targets, weights = self._to_device(part.targets).long(), self._to_device(part.weights)
        if not self.run.run.compile:  # a compiled graph takes one shape, so it computes all positions
            asked = weights > 0
            features, targets, weights = features[asked], targets[asked], weights[asked]
        cap, z_loss = self.model.config.logit_softcap, self.run.optimizer.z_loss
        with torch.autocast(self.world.device.type, enabled=False):
            features = features.flatten(0, -2).to(torch.bfloat16 if self.bf16 else torch.float32)
            head = self.model.head_weight
            loss, nll = weighted_nll(features, head, targets.flatten(), weights.flatten(), cap, z_loss)
        return loss, nll, weights.flatten()

    def _features(self, question: Question, sources: NDArray[np.int16]) -> Tensor:
        """Return the model's features of some rows, (rows, T, C)."""
        inputs, positions, documents = map(self._to_device, (question.inputs, question.positions, question.documents))
        visible = None if question.visible is None else self._to_device(question.visible)
        seen = Seen.of(documents, self.objective.sight, visible)
        layout = LAYOUTS[self.layout](seen, self.model.patterns)
        conditions = self._to_device(np.ascontiguousarray(sources)).long() if self.model.config.num_conditions else None
        with autocast(self.world.device, self.bf16):
            features: Tensor = self.forward(inputs, positions, layout, conditions)
        return features

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.world.device, non_blocking=True)

    def _router_loss(self) -> Tensor | float:
        """Return what the layers' routers add to the loss for the newest forward pass; none without experts."""
        section, added = self.run.optimizer, []
        for experts in self.model.experts():
            assert experts.routing is not None
            if experts.balance == "loss":
                added.append(section.balance_loss * experts.routing.balance_loss)
            added.append(section.router_z_loss * experts.routing.z_loss)
        return torch.stack(added).sum() if added else 0.0

    def negative_log_likelihood(self, batch: Batch, question: Question, rows: slice) -> Tensor:
        """Return weight times negative log-likelihood in nats, float32 (rows, sequence_length)."""
        _, nll, weights = self.measure(batch, question, rows)
        weighted = nll * weights
        if self.run.run.compile:
            return weighted.view(question.weights[rows].shape)
        asked = self._to_device(question.weights[rows] > 0)
        return weighted.new_zeros(asked.shape).masked_scatter(asked, weighted)

    def microbatches(self, batch: Batch) -> Iterator[slice]:
        """Yield the rows of each microbatch."""
        size = self.run.optimizer.microbatch or max(1, len(batch))
        for start in range(0, len(batch), size):
            yield slice(start, start + size)

    def _rebalance(self) -> None:
        """Let each router know how many tokens its experts had on all ranks in this step."""
        layers = list(self.model.experts())
        if not layers:
            return
        loads = torch.tensor(self.world.sum([load for layer in layers for load in layer.load.tolist()]))
        for layer, load in zip(layers, loads.view(len(layers), -1), strict=True):
            layer.rebalance(load.to(layer.bias), self.run.optimizer.balance_rate)
        self.expert_load = loads.view(len(layers), -1)

    def _set_rate(self) -> float:
        """Set the learning rate of the step that is about to be taken, and return it."""
        section = self.run.optimizer
        rate = section.learning_rate * rate_at(section.schedule, self.step, self.run.span)
        set_rate(self.optimizer, rate)
        return rate

    def tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the parameters, and by name the optimizer's moments and the average."""
        average = self.average.tensors() if self.average is not None else {}
        return dict(self.model.state_dict()), optimizer_tensors(self.model, self.optimizer) | average

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        model = dict(self.model.state_dict())
        self.model.load_state_dict(checkpoint.model_tensors(model))
        moments, average = split_average(checkpoint.optimizer_tensors(model))
        load_optimizer_tensors(self.model, self.optimizer, moments)
        if self.average is not None:
            self.average.load(average)
        self.spikes.load(checkpoint.state.get("spikes", {}))
        self.step = checkpoint.step

    def take_up(self, checkpoint: Checkpoint, with_optimizer: bool, step: int) -> None:
        """Begin with the weights of another run of the same model, and with its moments.

        Raises:
            RecipeError: the moments are of another optimizer.
        """
        model = dict(self.model.state_dict())
        self.model.load_state_dict(checkpoint.model_tensors(model))
        moments, average = split_average(checkpoint.optimizer_tensors(model))
        try:
            load_optimizer_tensors(self.model, self.optimizer, moments if with_optimizer else {})
        except IntegrityError as error:
            was = checkpoint.state["config"]["optimizer"].get("kind", "adamw")
            raise RecipeError(
                f"run.start: {checkpoint.path}: its moments are those of another optimizer (optimizer.kind is "
                f"{self.run.optimizer.kind!r}, was {was!r}): {error}; write start_optimizer = false to begin without"
            ) from error
        if self.average is not None:
            self.average = MovingAverage(self.model, self.average.decay)
            if average:
                self.average.load(average)
        self.step = step

    def begin_again(self) -> None:
        """Go back to the initial values."""
        fresh = build_model(self.model.config, self.run.run.seed).state_dict()
        for name, tensor in self.model.state_dict().items():
            put_rows(tensor, fresh[name])
        self.optimizer.state.clear()
        if self.average is not None:
            self.average = MovingAverage(self.model, self.average.decay)
        self.spikes.load({})
        self.step = 0
