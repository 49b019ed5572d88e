"""How well a model predicts the held-out split.

    loss = sum of negative log-likelihoods / number of targets                (nats per token)
    bits per byte = sum of negative log-likelihoods / ln 2 / bytes of what is predicted

The second is comparable across tokenizers where all of the text is predicted. Both are quotients of sums over the whole
split, taken in float64, so the size of batches does not weigh anything.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch

from headrace.trainer.batch import Batch
from headrace.trainer.learner import Learner
from headrace.trainer.sharded import gathered


@dataclass(frozen=True)
class Evaluation:
    """Sums over held-out rows: negative log-likelihood in nats, targets, UTF-8 bytes."""

    nll: float
    num_targets: float
    num_bytes: float

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nll / self.num_targets

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte of text."""
        return self.nll / math.log(2) / self.num_bytes


def evaluate(learner: Learner, batches: Iterable[Batch], max_batches: int | None = None) -> Evaluation | None:
    """Measure a model on held-out batches, each rank on its rows; None where there is nothing to predict."""
    sums = [0.0, 0.0, 0.0]
    world = learner.world
    learner.forward.eval()
    with gathered(learner.model):
        for batch in islice(batches, max_batches):
            rows = batch.rows(slice(world.rank, None, world.size))
            sums = [before + more for before, more in zip(sums, _measure(learner, rows), strict=True)]
    learner.forward.train()
    total = Evaluation(*world.sum(sums))
    return total if total.num_targets and total.num_bytes else None


@torch.no_grad()
def _measure(learner: Learner, batch: Batch) -> tuple[float, float, float]:
    question = learner.objective.ask(batch, learner.run.run.seed)
    nll = sum(
        float(learner.negative_log_likelihood(batch, question, rows).double().sum())
        for rows in learner.microbatches(batch)
    )
    return nll, float(question.weights.sum()), float(question.num_bytes(batch.token_bytes))
