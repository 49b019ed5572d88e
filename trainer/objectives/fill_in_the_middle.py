"""Fill-in-the-middle (Bavarian et al. 2022): a stretch is moved behind what follows it, at the level of tokens.

Two cuts of a piece, drawn evenly, make a prefix, a middle and a suffix, each perhaps empty. Behind the piece's first
token, which is `<|endoftext|>` or context, stands

    PSM:  [PREFIX] prefix [SUFFIX] suffix [MIDDLE] middle [END]
    SPM:  [PREFIX] [SUFFIX] suffix [MIDDLE] prefix middle [END]

Every token is asked for as often as without, and [END]; the other signs are a reader's to give and are not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Question, Sight, register
from headrace.trainer.objectives.pieces import Form, Piece, Written, rewrite

SIGNS = ("PREFIX", "SUFFIX", "MIDDLE", "END")


@dataclass(frozen=True)
class _Plain:
    """A piece as it is."""

    def num_positions(self, num_tokens: int) -> int:
        """Return the tokens but the last."""
        return max(0, num_tokens - 1)

    def write(self, piece: Piece, num_tokens: int, random: np.random.Generator) -> Written:
        """Return its begin."""
        return Written(*piece.begin(num_tokens))


@dataclass(frozen=True)
class _Moved:
    """A piece whose middle is at the end; `signs` is the id of the first sign."""

    signs: int
    suffix_first: bool

    def num_positions(self, num_tokens: int) -> int:
        """Return the tokens but the last, and the signs."""
        return num_tokens - 1 + len(SIGNS) if num_tokens >= 2 else 0

    def write(self, piece: Piece, num_tokens: int, random: np.random.Generator) -> Written:
        """Cut the begin of a piece behind its first token, and put it together anew."""
        tokens, asked = piece.begin(num_tokens)
        one, two = np.sort(random.integers(1, num_tokens + 1, size=2)).tolist()
        place = np.concatenate([np.array(part, np.int64) for part in self._order(num_tokens, one, two)])
        token = np.maximum(place, 0)
        ids = np.where(place < 0, self.signs - 1 - place, tokens[token]).astype(np.int32)
        weights = (place >= 0) & asked[token]
        weights[-1] = asked.any()
        return Written(ids, weights)

    def _order(self, num_tokens: int, one: int, two: int) -> list[Sequence[int]]:
        """Return the places of tokens in their new order; signs are their numbers below zero, from -1 downwards."""
        first, before, middle, after = range(1), range(1, one), range(one, two), range(two, num_tokens)
        prefix, suffix, to_middle, end = ([-1 - number] for number in range(len(SIGNS)))
        if self.suffix_first:
            return [first, prefix, suffix, after, to_middle, before, middle, end]
        return [first, prefix, before, suffix, after, to_middle, middle, end]


@register
@dataclass(frozen=True)
class FillInTheMiddle:
    """Ask for each next token, in a share of pieces of ones whose middle is moved to their end.

    Attributes:
        rate: share of pieces with a middle moved; each is drawn.
        suffix_first: share of these in the order SPM, the others are PSM.
    """

    name: ClassVar[str] = "fill_in_the_middle"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "causal"
    num_signs: ClassVar[int] = len(SIGNS)

    rate: float = 0.5
    suffix_first: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rate", "suffix_first"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} must lie in [0, 1]")

    def ask(self, batch: Batch, seed: int) -> Question:
        """Draw a form for each piece."""
        first = len(batch.token_bytes)

        def choose(random: np.random.Generator) -> Form:
            moved, suffix_first = (random.random(2) < (self.rate, self.suffix_first)).tolist()
            return _Moved(first, suffix_first) if moved else _Plain()

        return rewrite(batch, seed, choose, prefix=False)
