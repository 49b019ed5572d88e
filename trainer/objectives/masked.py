"""Masked language modelling (Devlin et al. 2019): tokens are hidden and predicted in their own places, from both sides.

A share of 0.3 rather than 0.15 follows Wettig et al. 2023; spans follow Joshi et al. 2020.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Question, Sight, register, row_generators
from headrace.trainer.objectives.masking import Masking


@register
@dataclass(frozen=True)
class MaskedTokens(Masking):
    """Ask for masked tokens where they stood; the one sign is the mask."""

    name: ClassVar[str] = "masked"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "bidirectional"
    num_signs: ClassVar[int] = 1

    def ask(self, batch: Batch, seed: int) -> Question:
        """Mask, and ask for what was masked."""
        inputs, weights = batch.tokens.copy(), np.zeros(batch.tokens.shape, np.float32)
        for row, random in enumerate(row_generators(batch, seed)):
            weights[row], inputs[row] = self.mask(batch, row, random)
        return Question(inputs, batch.tokens, weights, batch.positions, batch.documents)
