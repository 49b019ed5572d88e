"""ROUGE (Lin 2004) by Google's rouge-score: the mean F-measure over texts, from 0 to 1, without stemming.

Of several references the best counts. `rougeLsum` takes lines for sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.filters.libraries import library_version
from headrace.trainer.evaluation.estimates import Estimate, mean_of
from headrace.trainer.evaluation.metrics.contract import register


class _Rouge:
    name: ClassVar[str]
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._version()

    def _version(self) -> str:
        return library_version("rouge-score", extra="eval", purpose=f"the metric {self.name!r}")

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the mean F-measure."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer: Any = RougeScorer([self.name], use_stemmer=False)
        found = mean_of(
            [
                scorer.score_multi(list(known), text)[self.name].fmeasure
                for text, known in zip(written, references, strict=True)
            ]
        )
        return Estimate(**{**vars(found), "signature": f"rouge-score {self._version()}, no stemmer"})


@register
@dataclass(frozen=True)
class Rouge1(_Rouge):
    """Single words."""

    name: ClassVar[str] = "rouge1"


@register
@dataclass(frozen=True)
class Rouge2(_Rouge):
    """Pairs of words."""

    name: ClassVar[str] = "rouge2"


@register
@dataclass(frozen=True)
class RougeL(_Rouge):
    """The longest common subsequence."""

    name: ClassVar[str] = "rougeL"


@register
@dataclass(frozen=True)
class RougeLsum(_Rouge):
    """Longest common subsequences of sentences, together."""

    name: ClassVar[str] = "rougeLsum"
