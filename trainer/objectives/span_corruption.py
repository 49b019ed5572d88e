"""Span corruption (Raffel et al. 2020, T5) for one stack: what is left of a piece, then what is missing from it."""

from dataclasses import dataclass
from typing import ClassVar

from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Question, Sight, register
from headrace.trainer.objectives.denoising import SpanForm, check_noise, require_sentinels
from headrace.trainer.objectives.pieces import rewrite


@register
@dataclass(frozen=True)
class SpanCorruption:
    """Ask for spans that sentinels stand for; the signs are the sentinels.

    Attributes:
        density: share of a piece's tokens that is missing, at least one token and never all.
        mean_span: their mean length.
        sentinels: how many there are, one more than a row can have spans.
    """

    name: ClassVar[str] = "span_corruption"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "prefix"

    density: float = 0.15
    mean_span: float = 3.0
    sentinels: int = 256

    def __post_init__(self) -> None:
        check_noise(self.density, self.mean_span, self.sentinels)

    @property
    def num_signs(self) -> int:
        """The sentinels."""
        return self.sentinels

    def require_length(self, sequence_length: int) -> None:
        """Raise RecipeError if rows of this length can have more spans than there are sentinels."""
        require_sentinels([self._form(0)], sequence_length, self.sentinels)

    def _form(self, first_sentinel: int) -> SpanForm:
        return SpanForm(self.density, self.mean_span, first_sentinel)

    def ask(self, batch: Batch, seed: int) -> Question:
        """Corrupt each piece.

        Raises:
            RecipeError: rows can have more spans than there are sentinels.
        """
        self.require_length(batch.tokens.shape[1])
        form = self._form(len(batch.token_bytes))
        return rewrite(batch, seed, lambda random: form, prefix=True)
