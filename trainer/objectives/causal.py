"""Next-token prediction: every target of the stream counts once."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, Sight, register


@register
@dataclass(frozen=True)
class Causal:
    """Ask for the next token wherever the stream gives one."""

    name: ClassVar[str] = "causal"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "causal"
    num_signs: ClassVar[int] = 0

    def ask(self, batch: Batch, seed: int) -> Question:
        """Return the stream's own tokens and targets; nothing is drawn."""
        asked = batch.targets != IGNORE
        targets = np.where(asked, batch.targets, np.int32(0))
        return Question(batch.tokens, targets, asked.astype(np.float32), batch.positions, batch.documents)
