"""What positions of a microbatch see of one another, before a layer's pattern leaves some of it out.

A position sees its own piece of a document alone; padding is a piece like any other, which nobody reads. Of its piece
it sees itself and what is before it (`causal`), all (`bidirectional`), or what is before it and all that is `visible`
(`prefix`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.trainer.objectives.contract import Sight

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Whether a query sees a key, from numbers of row, head, query and key; all of shapes that broadcast."""


@dataclass(frozen=True)
class Seen:
    """Number of the piece and place in it of each position, both (B, T); `visible` is (B, T), bool."""

    documents: Tensor
    positions: Tensor
    sight: Sight = "causal"
    visible: Tensor | None = None

    @classmethod
    def of(cls, documents: Tensor, sight: Sight = "causal", visible: Tensor | None = None) -> "Seen":
        """Return it with places counted from where the number of the piece changes.

        A piece goes on behind padding in its midst (where a prefix was left out), as if that were not there.
        """
        place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
        edge = torch.ones_like(documents, dtype=torch.bool)
        edge[:, 1:] = documents[:, 1:] != documents[:, :-1]
        run = place - torch.where(edge, place, 0).cummax(dim=1).values
        real = documents >= 0
        last = (
            torch.where(real, place, -1).cummax(dim=1).values
        )  # the nearest place before, or here, that is no padding
        before = torch.cat((torch.full_like(last[:, :1], -1), last[:, :-1]), dim=1)
        number = torch.where(before >= 0, documents.gather(1, before.clamp(min=0).long()), -1)
        count = real.long().cumsum(dim=1)
        begin = torch.where(real & (documents != number), count, 0).cummax(dim=1).values
        return cls(documents, torch.where(real, count - begin, run), sight, visible)

    def rule(self) -> Rule:
        """Return the rule as a function of numbers."""
        documents, visible, sight = self.documents, self.visible, self.sight

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            same = documents[row, query] == documents[row, key]
            if sight == "bidirectional":
                return same
            if visible is None:
                return same & (query >= key)
            return same & ((query >= key) | visible[row, key])

        return sees
