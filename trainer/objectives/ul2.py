"""UL2's mixture of denoisers (Tay et al. 2022): for each piece one is drawn, and a sign says which kind it is.

`R` corrupts short spans, `X` long spans or many, `S` asks for the end of a piece behind the rest of it. The default is
the paper's mixture: seven denoisers, equally likely.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import ConfigDict

from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Question, Sight, register
from headrace.trainer.objectives.denoising import ContinuationForm, SpanForm, check_noise, require_sentinels
from headrace.trainer.objectives.pieces import Form, rewrite

MODES = ("R", "S", "X")


@dataclass(frozen=True)
class Denoiser:
    """One of a mixture; `S` has one span, at the end, so that `mean_span` says nothing there."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Literal["R", "S", "X"]
    density: float
    mean_span: float = 3.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_noise(self.density, self.mean_span, 2)
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight = {self.weight} must be above 0 and finite")

    def form(self, mode: int, first_sentinel: int) -> Form:
        """Return what it makes of a piece."""
        if self.mode == "S":
            return ContinuationForm(self.density, mode)
        return SpanForm(self.density, self.mean_span, first_sentinel, mode)


PAPER = (
    *(Denoiser("R", 0.15, 3.0), Denoiser("R", 0.15, 8.0)),
    Denoiser("S", 0.25),
    *(Denoiser("X", 0.5, 3.0), Denoiser("X", 0.5, 8.0), Denoiser("X", 0.15, 64.0), Denoiser("X", 0.5, 64.0)),
)


@register
@dataclass(frozen=True)
class UL2:
    """Ask for what a drawn denoiser takes away; the signs are the three modes, then the sentinels."""

    name: ClassVar[str] = "ul2"
    version: ClassVar[int] = 1
    sight: ClassVar[Sight] = "prefix"

    denoisers: tuple[Denoiser, ...] = PAPER
    sentinels: int = 512

    def __post_init__(self) -> None:
        if not self.denoisers:
            raise ValueError("denoisers must be at least one")
        check_noise(0.5, 1.0, self.sentinels)

    @property
    def num_signs(self) -> int:
        """The modes and the sentinels."""
        return len(MODES) + self.sentinels

    def require_length(self, sequence_length: int) -> None:
        """Raise RecipeError if rows of this length can have more spans than there are sentinels."""
        require_sentinels(self._forms(0), sequence_length, self.sentinels)

    def _forms(self, first: int) -> list[Form]:
        """Return what the denoisers make of pieces where the first sign has this id."""
        return [one.form(first + MODES.index(one.mode), first + len(MODES)) for one in self.denoisers]

    def ask(self, batch: Batch, seed: int) -> Question:
        """Draw a denoiser for each piece, and let it.

        Raises:
            RecipeError: rows can have more spans than there are sentinels.
        """
        self.require_length(batch.tokens.shape[1])
        forms = self._forms(len(batch.token_bytes))
        bounds = np.cumsum([one.weight for one in self.denoisers])
        bounds /= bounds[-1]

        def choose(random: np.random.Generator) -> Form:
            return forms[int(np.searchsorted(bounds, random.random(), side="right"))]

        return rewrite(batch, seed, choose, prefix=True)
