"""How well a model predicts the held-out split, in all and by domain.

    loss = sum of negative log-likelihoods / number of targets                (nats per token)
    bits per byte = sum of negative log-likelihoods / ln 2 / bytes of what is predicted

The second is comparable across tokenizers where all of the text is predicted. Both are quotients of sums over the whole
split, taken in float64, so the size of batches does not weigh anything. Documents are independent of one another, the
tokens of a document are not: so sums are kept by document, over all rows that hold a piece of it, and intervals are
those of a ratio over documents (`estimates`). Where pieces cannot be told apart (an objective that moves tokens, rows
without masks), rows take the place of documents.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import Batch, BatchSource
from headrace.trainer.evaluation.estimates import Estimate, as_record, perplexity_of, ratio_of
from headrace.trainer.learner import Learner
from headrace.trainer.objectives.contract import Question
from headrace.trainer.sharded import gathered
from headrace.trainer.streaming.beside import check_names

CORPUS = "corpus"
"""The domain that is no column: the corpus that a row is from."""
NO_VALUE = "(none)"
MOST_LOGGED = 100
"""Domains in a step's record, the largest first; the command shows all."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Sums over held-out documents.

    Attributes:
        documents: float64 (documents, 3): negative log-likelihood in nats, targets, UTF-8 bytes of them.
        domains: int64 (documents,), places in `names`.
        names: of the domains.
    """

    documents: NDArray[np.float64]
    domains: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def nll(self) -> float:
        """Nats in all."""
        return float(self.documents[:, 0].sum())

    @property
    def num_targets(self) -> float:
        """Targets in all."""
        return float(self.documents[:, 1].sum())

    @property
    def num_bytes(self) -> float:
        """UTF-8 bytes of all targets."""
        return float(self.documents[:, 2].sum())

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nll / self.num_targets

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte of text."""
        return self.nll / math.log(2) / self.num_bytes

    def loss_estimate(self) -> Estimate:
        """Return the loss with its interval over documents."""
        return ratio_of(self.documents[:, 0], self.documents[:, 1])

    def bits_estimate(self) -> Estimate:
        """Return bits per byte with their interval over documents."""
        return ratio_of(self.documents[:, 0] / math.log(2), self.documents[:, 2])

    def by_domain(self) -> "dict[str, Evaluation]":
        """Return the sums of each domain that has text, those with most targets first."""
        parts = {name: self._of(number) for number, name in enumerate(self.names)}
        whole = {name: part for name, part in parts.items() if part.num_targets and part.num_bytes}
        return dict(sorted(whole.items(), key=lambda one: (-one[1].num_targets, one[0])))

    def _of(self, number: int) -> "Evaluation":
        mine = self.domains == number
        return Evaluation(self.documents[mine], np.zeros(int(mine.sum()), np.int64), (self.names[number],))

    def record(self) -> dict[str, float]:
        """Return what the log of a run has of it: finite numbers by name, those of a domain as `NAME/DOMAIN`."""
        stderr = self.loss_estimate().stderr
        found = {"eval_loss": self.loss, "bits_per_byte": self.bits_per_byte}
        if stderr is not None:
            found["eval_loss_stderr"] = stderr
        domains = self.by_domain()
        for name, part in islice(domains.items() if len(domains) > 1 else (), MOST_LOGGED):
            found |= {f"eval_loss/{name}": part.loss, f"bits_per_byte/{name}": part.bits_per_byte}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def report(self) -> dict[str, Any]:
        """Return everything that is told of it, as JSON."""
        loss = self.loss_estimate()
        return {
            "documents": len(self.documents),
            "targets": int(self.num_targets),
            "bytes": int(self.num_bytes),
            "loss": as_record(loss),
            "perplexity": as_record(perplexity_of(loss)),
            "bits_per_byte": as_record(self.bits_estimate()),
        }


def columns_for(domain: str) -> tuple[str, ...]:
    """Return which columns held-out batches must have beside tokens."""
    return tuple(dict.fromkeys(("doc_id", *(() if domain == CORPUS else (domain,)))))


def check_domain(source: BatchSource, domain: str) -> None:
    """Raise `InputError` if a source has no such column beside its tokens, before anything is trained."""
    if domain != CORPUS:
        try:
            check_names([domain])
        except ValueError as error:
            raise InputError(f"domain {domain!r}: {error}, and {CORPUS!r}") from None
        next(source.heldout(columns_for(domain)), None)


def evaluate_source(
    learner: Learner, source: BatchSource, max_batches: int | None = None, domain: str = CORPUS
) -> Evaluation | None:
    """Measure a model on the held-out split of a source; see `evaluate`.

    Raises:
        InputError: the corpora have no such column beside their tokens.
    """
    if max_batches is not None and max_batches < len(source.names) and learner.world.is_first:
        _log.warning("max_batches = %d: not all of %d corpora are measured", max_batches, len(source.names))
    return evaluate(learner, source.heldout(columns_for(domain)), max_batches, domain, source.names)


def evaluate(
    learner: Learner,
    batches: Iterable[Batch],
    max_batches: int | None = None,
    domain: str = CORPUS,
    corpora: Sequence[str] = (),
) -> Evaluation | None:
    """Measure a model on held-out batches, each rank on its rows; None where there is nothing to predict.

    Args:
        learner: Has the model.
        batches: The same on all ranks, with the columns `columns_for(domain)`; without `doc_id` rows are documents.
        max_batches: Measure so many of them.
        domain: What domains are: `corpus`, or a column beside tokens.
        corpora: Names of the corpora, in order.
    """
    world, units = learner.world, _Units(domain, tuple(corpora))
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    masked = learner.run.data.masks == "documents"
    learner.forward.eval()
    with gathered(learner.model):
        for batch in islice(batches, max_batches):
            mine = slice(world.rank, None, world.size)
            question = learner.objective.ask(batch, learner.run.run.seed)
            numbers = units.number(batch, masked and _keeps_places(batch, question))
            parts.append(_sums(learner, batch.rows(mine), question.rows(mine), numbers[mine]))
    learner.forward.train()
    total = np.zeros((len(units), 3))
    for documents, sums in parts:
        total[documents] += sums
    total = np.array(world.sum(total.ravel().tolist())).reshape(total.shape)
    asked = total[:, 1] > 0
    found = Evaluation(total[asked], np.array(units.domains, np.int64)[asked], tuple(units.names))
    if not found.num_targets or not found.num_bytes:
        return None
    if world.is_first and not math.isfinite(found.nll):
        _log.warning("run %r, step %d: the held-out loss is %s", learner.run.run.name, learner.step, found.loss)
    return found


def _keeps_places(batch: Batch, question: Question) -> bool:
    """Return whether an objective leaves tokens in their places; one that moves them may not move any in a batch."""
    return question.left_out is None and np.array_equal(question.documents, batch.documents)


@dataclass
class _Units:
    """Numbers of documents, and of their domains, in the order in which they are first seen: alike on all ranks."""

    domain: str
    corpora: tuple[str, ...]
    known: dict[tuple[Any, ...], int] = field(default_factory=dict)
    domains: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    told: bool = False

    def __len__(self) -> int:
        """Return how many documents there are so far."""
        return len(self.known)

    def number(self, batch: Batch, apart: bool) -> NDArray[np.int64]:
        """Return the number of each position's document, -1 on padding; `apart`: pieces are documents."""
        pieces = batch.documents.max(axis=1) + 1
        ids = batch.columns.get("doc_id")
        apart = apart and ids is not None and all(len(row) == n for row, n in zip(ids, pieces.tolist(), strict=True))
        if not apart and self.domain != CORPUS and not self.told:
            self.told = True
            _log.warning("domain %r: losses cannot be told by document here; they are told by corpus", self.domain)
        numbers = np.full(batch.documents.shape, -1, np.int64)
        for row, source in enumerate(batch.sources.tolist()):
            if apart and ids is not None:
                found = [self._piece(batch, source, row, piece) for piece in range(len(ids[row]))]
                numbers[row] = np.array([*found, -1])[batch.documents[row]]
            else:
                numbers[row] = self._add((source, None, len(self)), self._corpus(source))
        return numbers

    def _piece(self, batch: Batch, source: int, row: int, piece: int) -> int:
        doc_id = batch.columns["doc_id"][row][piece]
        if self.domain == CORPUS:
            return self._add((source, doc_id), self._corpus(source))
        value = batch.columns[self.domain][row][piece]
        return self._add((source, doc_id), NO_VALUE if value is None else str(value))

    def _corpus(self, source: int) -> str:
        return self.corpora[source] if source < len(self.corpora) else f"{CORPUS} {source}"

    def _add(self, key: tuple[Any, ...], name: str) -> int:
        if key not in self.known:
            self.known[key] = len(self.known)
            self.domains.append(self.names.setdefault(name, len(self.names)))
        return self.known[key]


@torch.no_grad()
def _sums(
    learner: Learner, batch: Batch, question: Question, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the documents of some rows, each once, and of each nats, targets and bytes, (documents, 3)."""
    losses: Iterator[torch.Tensor] = (
        learner.negative_log_likelihood(batch, question, rows) for rows in learner.microbatches(batch)
    )
    parts = [part.double().cpu().numpy() for part in losses]
    nll = np.concatenate(parts) if parts else np.zeros(question.weights.shape)
    kept = (numbers >= 0) & (question.weights > 0)
    documents, places = np.unique(numbers[kept], return_inverse=True)
    values = nll, question.weights, question.weights * question.target_bytes(batch.token_bytes)
    return documents, np.stack([np.bincount(places, value[kept], len(documents)) for value in values], axis=1)
