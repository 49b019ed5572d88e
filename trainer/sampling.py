"""How the next token is drawn: from softmax(scores), of logits that are changed in this order, as transformers does.

repetition penalty   a token that the text has gets l / r where its logit l is above 0, else l * r (Keskar et al. 2019)
temperature          l / t; 0 takes the likeliest token and draws nothing
top-k                all but the k likeliest are left out; equal ones stay
top-p                of those, the fewest likeliest stay whose probabilities reach p (Holtzman et al. 2020)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.pipeline.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """What is done to logits before a token is drawn; the defaults leave them as they are."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature = {self.temperature} must be 0, which is greedy, or above")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k = {self.top_k} must be at least 1; leave it out to draw among all tokens")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p = {self.top_p} must be above 0 and at most 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise InputError(f"repetition_penalty = {self.repetition_penalty} must be above 0; 1 is none")

    def scores(self, logits: Tensor, text: Sequence[int]) -> Tensor:
        """Return the changed logits (V,), minus infinity for tokens that are left out; temperature 0 leaves none."""
        scores = logits.float()
        if self.repetition_penalty != 1 and text:
            known = torch.tensor(sorted(set(text)), device=scores.device)
            old = scores[known]
            changed = torch.where(old < 0, old * self.repetition_penalty, old / self.repetition_penalty)
            scores = scores.index_copy(0, known, changed)
        if self.temperature == 0:
            return scores
        scores = scores / self.temperature
        if self.top_k is not None and self.top_k < len(scores):
            scores = scores.masked_fill(scores < scores.topk(self.top_k).values[-1], -torch.inf)
        return scores if self.top_p == 1 else self._nucleus(scores)

    def _nucleus(self, scores: Tensor) -> Tensor:
        ordered, ids = scores.sort(descending=False)
        outside = ordered.softmax(dim=0).cumsum(dim=0) <= 1 - self.top_p
        outside[-1] = False
        return scores.masked_fill(torch.zeros_like(outside).scatter(0, ids, outside), -torch.inf)

    def draw(self, logits: Tensor, text: Sequence[int], generator: torch.Generator | None = None) -> int:
        """Return a token that follows a text, of its logits (V,) on the generator's device."""
        scores = self.scores(logits, text)
        if self.temperature == 0:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=0), 1, generator=generator))


GREEDY = Sampling(temperature=0)
