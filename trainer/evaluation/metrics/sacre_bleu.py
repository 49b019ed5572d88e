"""BLEU and chrF by sacreBLEU (Post 2018), with its signature.

Intervals are the bootstrap's over items, by what sacreBLEU counts of each. Its own bootstrap is not used: it ends with
an error where some resamples of chrF have nothing in common with their references (2.6.0), and its intervals, the same
on both sides of the resamples' mean, can leave 0 to 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from headrace.filters.libraries import library_version
from headrace.trainer.evaluation.estimates import Estimate, bootstrapped
from headrace.trainer.evaluation.metrics.contract import register


class _SacreBleu:
    name: ClassVar[str]
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        library_version("sacrebleu", extra="eval", purpose=f"the metric {self.name!r}")

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the corpus's score; sacreBLEU takes the first references of all texts, then the second ones."""
        import sacrebleu.metrics

        scorer: Any = getattr(sacrebleu.metrics, self.name.upper())()
        streams = [list(stream) for stream in zip_longest(*references)]
        counts = np.array(scorer._extract_corpus_statistics(list(written), streams), np.int64)

        def score(rows: NDArray[np.int64]) -> float:
            return float(scorer._compute_score_from_stats(counts[rows].sum(axis=0).tolist()).score)

        return replace(bootstrapped(score, len(written)), signature=str(scorer.get_signature()))


@register
@dataclass(frozen=True)
class Bleu(_SacreBleu):
    """BLEU (Papineni et al. 2002), 13a tokens, from 0 to 100."""

    name: ClassVar[str] = "bleu"


@register
@dataclass(frozen=True)
class Chrf(_SacreBleu):
    """chrF2 (Popovic 2015), from 0 to 100."""

    name: ClassVar[str] = "chrf"
