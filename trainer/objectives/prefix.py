"""Prefix language modelling (Liu et al. 2018; Raffel et al. 2020): all see a piece's begin, the rest is asked."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, Sight, register, row_generators
from headrace.trainer.objectives.masking import piece_begins


@register
@dataclass(frozen=True)
class Prefix:
    """Ask for the next token behind a border that is drawn in each piece; nothing is moved.

    Attributes:
        shortest: least share of a piece's tokens that is its prefix; there is at least one token, and one behind it.
        longest: largest share; the border is drawn evenly between them.
    """

    name: ClassVar[str] = "prefix"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "prefix"
    num_signs: ClassVar[int] = 0

    shortest: float = 0.0
    longest: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest <= 1:
            raise ValueError(f"shortest = {self.shortest} and longest = {self.longest} must rise within [0, 1]")

    def ask(self, batch: Batch, seed: int) -> Question:
        """Draw borders."""
        asked = batch.targets != IGNORE
        visible = np.zeros(asked.shape, np.bool_)
        for row, random in enumerate(row_generators(batch, seed)):
            visible[row] = self._prefixes(batch, row, random)
        last = visible.copy()  # of a prefix; its target is the first token behind
        last[:, :-1] &= ~(visible[:, 1:] & (batch.documents[:, 1:] == batch.documents[:, :-1]))
        asked &= ~visible | last
        targets = np.where(asked, batch.targets, np.int32(0))
        weights = asked.astype(np.float32)
        return Question(batch.tokens, targets, weights, batch.positions, batch.documents, visible)

    def _prefixes(self, batch: Batch, row: int, random: np.random.Generator) -> NDArray[np.bool_]:
        """Return which places of a row are in a prefix."""
        documents = batch.documents[row]
        begins = np.flatnonzero(piece_begins(documents))
        ends = np.append(begins[1:], len(documents))
        # Borders lie before a token that can be asked, the one behind the piece among them where the stream has it.
        borders = ends - begins - (batch.targets[row, ends - 1] == IGNORE)
        share = self.shortest + (self.longest - self.shortest) * random.random(len(begins))
        lengths = np.minimum(1 + (share * borders).astype(np.int64), np.maximum(borders, 1))
        places = np.arange(len(documents))
        found: NDArray[np.bool_] = documents >= 0
        found &= places - np.repeat(begins, ends - begins) < np.repeat(lengths, ends - begins)
        return found
