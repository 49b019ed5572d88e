"""A model and its optimizer, and the one act of training: a step.

    loss = sum over the global batch of weight * negative log-likelihood  /  sum of all weights

Rows are cut into microbatches and spread over ranks; each part adds its gradient of the same loss, so neither changes
it beyond the rounding of the sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.pipeline.errors import HeadraceError
from headrace.trainer.attention import LAYOUTS, choose_layout
from headrace.trainer.batch import Batch, BatchSource
from headrace.trainer.checkpoint import Checkpoint
from headrace.trainer.device import autocast, choose_bf16
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.objectives.contract import Question, objectives
from headrace.trainer.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile
from headrace.trainer.schedule import Span, rate_at


class DivergenceError(HeadraceError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class StepResult:
    """What a step measured: its loss in nats per target, before the update, and the gradient's norm before clipping."""

    loss: float
    grad_norm: float
    learning_rate: float
    num_targets: int


@dataclass
class Learner:
    """Takes steps; holds everything that changes while it does."""

    run: RunFile
    world: World
    model: Transformer
    forward: nn.Module
    optimizer: torch.optim.AdamW
    layout: str
    bf16: bool
    step: int = 0

    @classmethod
    def build(cls, run: RunFile, vocab_size: int, world: World) -> "Learner":
        """Make the model of a run file at its initial values."""
        model = build_model(run.model.resolve(vocab_size), run.run.seed, world.device)
        return cls(
            run=run,
            world=world,
            model=model,
            forward=torch.compile(model) if run.run.compile else model,  # type: ignore[arg-type]  # returns a module
            optimizer=build_optimizer(model, run.optimizer),
            layout=choose_layout(world.device, run.run.compile),
            bf16=choose_bf16(run.run.bf16, world.device),
        )

    def advance(self, source: BatchSource) -> StepResult:
        """Take one step on the source's batch for it.

        Raises:
            DivergenceError: the loss or the gradient is NaN or infinite; the step is not taken.
        """
        batch = source.batch(self.step, self.world.rank, self.world.size)
        question = objectives()[self.run.run.objective](batch)
        total, num_targets = self.world.sum([float(question.weights.sum()), float((question.weights > 0).sum())])
        local = [self._backward(batch, question, rows, max(total, 1e-9)) for rows in self.microbatches(batch)]
        self.world.sum_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.run.optimizer.clip or float("inf"))
        (loss,) = self.world.sum([sum(float(part) for part in local)])
        if not (abs(loss) < float("inf") and float(norm) < float("inf")):
            raise DivergenceError(
                f"step {self.step + 1}: loss {loss}, gradient norm {float(norm)}; its batch can be traced"
            )
        rate = self._set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return StepResult(loss, float(norm), rate, int(num_targets))

    def _backward(self, batch: Batch, question: Question, rows: slice, total: float) -> Tensor:
        """Add the gradient of some rows' share of the loss; return that share."""
        share = (self.negative_log_likelihood(batch, question, rows) / total).sum()
        share.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return share.detach()

    def negative_log_likelihood(self, batch: Batch, question: Question, rows: slice) -> Tensor:
        """Return weight times negative log-likelihood in nats, float32 (rows, sequence_length)."""
        inputs, targets, positions, documents, weights = (
            torch.from_numpy(array[rows]).to(self.world.device, non_blocking=True)
            for array in (question.inputs, question.targets, batch.positions, batch.documents, question.weights)
        )
        with autocast(self.world.device, self.bf16):
            logits = self.forward(inputs, positions, LAYOUTS[self.layout](documents))
        nll = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten().long(), reduction="none")
        return nll.view(weights.shape) * weights

    def microbatches(self, batch: Batch) -> Iterator[slice]:
        """Yield the rows of each microbatch."""
        size = self.run.optimizer.microbatch or max(1, len(batch))
        for start in range(0, len(batch), size):
            yield slice(start, start + size)

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
        self.model.load_state_dict(checkpoint.model_tensors())
        load_optimizer_tensors(self.model, self.optimizer, checkpoint.optimizer_tensors())
        self.step = checkpoint.step
