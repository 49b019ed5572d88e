"""Masked next-token prediction beside causal rows: one stack does both (GPT-BERT, Charpentier and Samuel 2024).

In a masked row a hidden token is predicted one place before its own, as the next token is in a causal row; every place
sees all of its piece. The token behind a row's last place is in no input, so it counts as hidden when it is drawn.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, Sight, register, row_generators
from headrace.trainer.objectives.masking import Masking


@register
@dataclass(frozen=True)
class MaskedNext(Masking):
    """Ask for masked tokens in a share of rows, for all next tokens in the others; the one sign is the mask.

    Attributes:
        masked_rows: share of masked rows; each is drawn.
        weigh: with `rows` a target of a masked row counts 1 / share, so that masked and causal rows weigh alike, as in
            the paper; with `targets` all targets do.
    """

    masked_rows: float = 0.9375
    weigh: Literal["rows", "targets"] = "rows"

    name: ClassVar[str] = "masked_next"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "prefix"
    num_signs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.masked_rows <= 1:
            raise ValueError(f"masked_rows = {self.masked_rows} must lie in [0, 1]")

    def ask(self, batch: Batch, seed: int) -> Question:
        """Draw which rows are masked, and mask them."""
        asked = batch.targets != IGNORE
        inputs, weights, visible = batch.tokens.copy(), asked.astype(np.float32), np.zeros(asked.shape, np.bool_)
        of_masked = 1.0 if self.weigh == "targets" else 1 / self.share_at(batch.step)
        for row, random in enumerate(row_generators(batch, seed)):
            if random.random() < self.masked_rows:
                hidden, inputs[row] = self.mask(batch, row, random)
                weights[row] = of_masked * (asked[row] & self._hidden_behind(batch, row, hidden, random))
                visible[row] = batch.documents[row] >= 0
        targets = np.where(asked, batch.targets, np.int32(0))
        return Question(inputs, targets, weights, batch.positions, batch.documents, visible)

    def _hidden_behind(
        self, batch: Batch, row: int, hidden: NDArray[np.bool_], random: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return for each place whether the token behind it is hidden; behind a piece that is drawn."""
        behind = random.random(len(hidden)) < self.share_at(batch.step)
        inside = batch.documents[row, 1:] == batch.documents[row, :-1]
        behind[:-1] = np.where(inside, hidden[1:], behind[:-1])
        return behind
