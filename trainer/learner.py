"""A model and its optimizer, and the one act of training: a step.

    loss = sum over the global batch of weight * negative log-likelihood  /  sum of all weights

Rows are cut into microbatches and spread over ranks; each part adds its gradient of the same loss, so neither changes
it beyond the rounding of the sums.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.pipeline.errors import HeadraceError, RecipeError
from headrace.trainer.attention.contract import kind_of
from headrace.trainer.attention.layouts import LAYOUTS, choose_layout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.batch import Batch, BatchSource
from headrace.trainer.checkpoint import Checkpoint
from headrace.trainer.device import autocast, choose_bf16
from headrace.trainer.loss import weighted_nll
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.objectives.contract import Objective, Question
from headrace.trainer.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.schedule import Span, rate_at
from headrace.trainer.sharded import clip_gradients, is_sharded


def _require_sight(objective: Objective, model: Transformer) -> None:
    """Raise RecipeError where an objective lets positions look ahead, which the model's attention cannot."""
    if objective.sight != "causal" and kind_of(model.config).needs_causal:
        raise RecipeError(
            f"model.attention = {model.config.attention!r} looks back alone, but the objective {objective.name!r} "
            f"needs {objective.sight} attention; choose another of the two"
        )


def _blank_row(question: Question) -> Question:
    """Return one row like those of a question, all zeros, where nothing is asked."""
    arrays = {name: array for name, array in question._asdict().items() if array is not None}
    return question._replace(**{name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in arrays.items()})


class DivergenceError(HeadraceError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class StepResult:
    """What a step measured: its loss in nats per target, before the update, and the gradient's norm before clipping."""

    loss: float
    grad_norm: float
    learning_rate: float
    num_targets: int


class _Total(NamedTuple):
    """Sums over the whole global batch, on all ranks."""

    weight: float
    rows: float


@dataclass
class Learner:
    """Takes steps; holds everything that changes while it does."""

    run: RunFile
    world: World
    model: Transformer
    forward: nn.Module
    optimizer: torch.optim.AdamW
    objective: Objective
    layout: str
    bf16: bool
    step: int = 0
    expert_load: list[list[float]] = field(default_factory=list)
    """Tokens of each expert in the newest step, by layer."""

    @classmethod
    def build(cls, run: RunFile, vocab_size: int, world: World) -> "Learner":
        """Make the model of a run file at its initial values."""
        objective = run.make_objective()
        sharded = run.run.parallel == "fsdp" and world.size > 1
        place = torch.device("cpu") if sharded else world.device  # no device need hold the whole of a sharded model
        model = build_model(run.model.resolve(vocab_size + objective.num_signs), run.run.seed, place)
        _require_sight(objective, model)
        bf16 = choose_bf16(run.run.bf16, world.device)
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
        )

    def advance(self, source: BatchSource) -> StepResult:
        """Take one step on the source's batch for it.

        Raises:
            DivergenceError: the loss or the gradient is NaN or infinite; the step is not taken.
        """
        batch = source.batch(self.step, self.world.rank, self.world.size)
        question = self.objective.ask(batch, self.run.run.seed)
        sums = [float(question.weights.sum()), float((question.weights > 0).sum()), float(len(batch))]
        weight, num_targets, num_rows = self.world.sum(sums)
        total = _Total(max(weight, 1e-9), num_rows)
        local = [self._backward(batch, question, rows, total) for rows in self.microbatches(batch)]
        self._keep_pace(batch, question, len(local), total)
        self.world.sum_gradients(p for p in self.model.parameters() if not is_sharded(p))
        norm = clip_gradients(self.model.parameters(), self.run.optimizer.clip, self.world)
        (loss,) = self.world.sum([sum(float(part) for part in local)])
        if not (abs(loss) < float("inf") and norm < float("inf")):
            raise DivergenceError(f"step {self.step + 1}: loss {loss}, gradient norm {norm}; its batch can be traced")
        rate = self._set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._rebalance()
        self.step += 1
        return StepResult(loss, norm, rate, int(num_targets))

    def _backward(self, batch: Batch, question: Question, rows: slice, total: _Total) -> Tensor:
        """Add the gradient of some rows' share of the loss; return that share, without what is added to the loss."""
        loss, nll, weights = self.measure(batch, question, rows)
        share = loss / total.weight + self._router_loss() * (len(batch.tokens[rows]) / total.rows)
        share.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return (nll * weights).sum() / total.weight

    def _keep_pace(self, batch: Batch, question: Question, passes: int, total: _Total) -> None:
        """Make as many passes as the rank with most rows, of a row that is not asked about: ranks reduce together."""
        most = math.ceil(total.rows / self.world.size)
        blank = _blank_row(question)
        batch = replace(batch, tokens=blank.inputs, sources=np.zeros(1, batch.sources.dtype))
        for _ in range(passes, math.ceil(most / (self.run.optimizer.microbatch or max(1, most)))):
            loads = [experts.load.clone() for experts in self.model.experts()]
            self._backward(batch, blank, slice(0, 1), total._replace(rows=math.inf))
            for experts, load in zip(self.model.experts(), loads, strict=True):
                experts.load.copy_(load)

    def measure(self, batch: Batch, question: Question, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted loss of some rows, summed, and of each position that is asked nll in nats and weight."""
        asked = self._to_device(question.weights[rows] > 0)
        features = self._features(batch, question, rows)
        targets, weights = self._to_device(question.targets[rows]).long(), self._to_device(question.weights[rows])
        if not self.run.run.compile:  # a compiled graph takes one shape, so it computes all positions
            features, targets, weights = features[asked], targets[asked], weights[asked]
        cap, z_loss = self.model.config.logit_softcap, self.run.optimizer.z_loss
        with torch.autocast(self.world.device.type, enabled=False):
            features = features.flatten(0, -2).to(torch.bfloat16 if self.bf16 else torch.float32)
            loss, nll = weighted_nll(
                features, self.model.head_weight, targets.flatten(), weights.flatten(), cap, z_loss
            )
        return loss, nll, weights.flatten()

    def _features(self, batch: Batch, question: Question, rows: slice) -> Tensor:
        """Return the model's features of some rows, (rows, T, C)."""
        inputs, positions, documents = map(
            self._to_device, (question.inputs[rows], question.positions[rows], question.documents[rows])
        )
        visible = None if question.visible is None else self._to_device(question.visible[rows])
        seen = Seen.of(documents, self.objective.sight, visible)
        layout = LAYOUTS[self.layout](seen, self.model.patterns)
        conditions = self._to_device(batch.sources[rows]).long() if self.model.config.num_conditions else None
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
        self.expert_load = loads.view(len(layers), -1).tolist()

    def _set_rate(self) -> float:
        """Set the learning rate of the step that is about to be taken, and return it."""
        section = self.run.optimizer
        span = Span(self.run.run.steps, section.warmup_steps, section.final_fraction, section.decay_fraction)
        rate = section.learning_rate * rate_at(section.schedule, self.step, span)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the parameters and the optimizer's moments, by name."""
        return dict(self.model.state_dict()), optimizer_tensors(self.model, self.optimizer)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        model = dict(self.model.state_dict())
        self.model.load_state_dict(checkpoint.model_tensors(model))
        load_optimizer_tensors(self.model, self.optimizer, checkpoint.optimizer_tensors(model))
        self.step = checkpoint.step
