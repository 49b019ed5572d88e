"""What masked prediction shares: which tokens of a row are masked, and what stands in their place.

A row is cut into *runs*, never across pieces: single tokens, words, or spans of geometric lengths. Each run is masked
with the same probability, so the expected share of tokens is that probability, whatever the runs. Once for each masked
run it is drawn whether the mask sign, a random token for each of its tokens, or what was there stands in its place.

A token can be masked where the stream asks for it: never a piece's first, a prefix or what was taken down.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.errors import RecipeError
from headrace.trainer.batch import IGNORE, Batch

Bools = NDArray[np.bool_]
Int32s = NDArray[np.int32]


class Masked(NamedTuple):
    """What became of a row's tokens: which are to be predicted, and what the model reads; both (sequence_length,)."""

    hidden: Bools
    inputs: Int32s


@dataclass(frozen=True)
class Masking:
    """Options of masked prediction.

    Attributes:
        share: of tokens to predict; from step 0 to `share_steps` it goes straight to `last_share`, where that is given.
        unit: what is masked as a whole.
        mean_span: mean length of a span before pieces end, of the unit `span`; spans that touch make a longer one.
        to_random: share of masked units whose place random tokens take; in `to_same` stands what was there (Devlin et
            al. 2019), in all others the mask sign.
    """

    share: float = 0.3
    last_share: float | None = None
    share_steps: int = 0
    unit: Literal["token", "word", "span"] = "token"
    mean_span: float = 3.0
    to_random: float = 0.1
    to_same: float = 0.1

    def __post_init__(self) -> None:
        shares = {"share": self.share} | ({} if self.last_share is None else {"last_share": self.last_share})
        for name, share in shares.items():
            if not 0 < share <= 1:
                raise ValueError(f"{name} = {share} must be above 0 and at most 1")
        if (self.last_share is None) != (self.share_steps == 0) or self.share_steps < 0:
            raise ValueError(f"share_steps = {self.share_steps} must be at least 1 with last_share, else left out")
        if not 1 <= self.mean_span < math.inf:
            raise ValueError(f"mean_span = {self.mean_span} must be at least 1 token")
        if not (self.to_random >= 0 and self.to_same >= 0 and self.to_random + self.to_same <= 1):
            raise ValueError(
                f"to_random = {self.to_random} and to_same = {self.to_same} must be at least 0 and at most 1 together"
            )

    def share_at(self, step: int) -> float:
        """Return the share of a step."""
        if self.last_share is None:
            return self.share
        return self.share + (self.last_share - self.share) * min(1.0, step / self.share_steps)

    def mask(self, batch: Batch, row: int, random: np.random.Generator) -> Masked:
        """Draw what is masked in a row.

        Raises:
            RecipeError: words are to be masked, and it is not known where they begin.
        """
        tokens, vocab_size = batch.tokens[row], len(batch.token_bytes)
        run = self._runs(batch, row, random)
        is_masked, fate = random.random((2, len(tokens)))
        hidden = (is_masked[run] < self.share_at(batch.step)) & maskable(batch, row)
        drawn, fate = random.integers(vocab_size, size=len(tokens), dtype=np.int32), fate[run]
        instead = np.where(fate < self.to_random, drawn, np.int32(vocab_size))
        instead = np.where((fate >= self.to_random) & (fate < self.to_random + self.to_same), tokens, instead)
        return Masked(hidden, np.where(hidden, instead, tokens))

    def _runs(self, batch: Batch, row: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Return the number of the run that each token is in, counted in its row."""
        tokens = batch.tokens[row]
        if self.unit == "token":
            return np.arange(len(tokens))
        begins = piece_begins(batch.documents[row])
        if self.unit == "word":
            begins |= _word_begins(tokens, batch.token_joins)
        else:
            ends = np.cumsum(random.geometric(1 / self.mean_span, len(tokens)))
            begins[ends[ends < len(tokens)]] = True
        return np.cumsum(begins) - 1


def maskable(batch: Batch, row: int) -> Bools:
    """Return which tokens the stream asks for at the place before them, (sequence_length,)."""
    found = np.zeros(batch.tokens.shape[1], dtype=np.bool_)
    found[1:] = batch.targets[row, :-1] != IGNORE
    found &= ~piece_begins(batch.documents[row]) & (batch.documents[row] >= 0)
    return found


def piece_begins(documents: Int32s) -> Bools:
    """Return where the number of the piece changes, (sequence_length,)."""
    begins = np.ones(len(documents), dtype=np.bool_)
    begins[1:] = documents[1:] != documents[:-1]
    return begins


def _word_begins(tokens: Int32s, joins: Bools | None) -> Bools:
    if joins is None:
        raise RecipeError("unit = 'word': this stream does not say where words begin; 'token' and 'span' need not know")
    begins = np.ones(len(tokens), dtype=np.bool_)
    begins[1:] = ~(joins[tokens[1:], 0] & joins[tokens[:-1], 1])
    return begins
