"""BLEU and chrF by sacreBLEU (Post 2018), with its signature; intervals are its own bootstrap's."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ClassVar

from headrace.filters.libraries import library_version
from headrace.trainer.evaluation.estimates import NUM_RESAMPLES, Estimate
from headrace.trainer.evaluation.metrics.contract import register


def _measure(metric: str, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
    """Return a corpus's score; sacreBLEU takes the first references of all texts, then the second ones."""
    library_version("sacrebleu", extra="eval", purpose=f"the metric {metric!r}")
    import sacrebleu.metrics

    scorer: Any = getattr(sacrebleu.metrics, metric.upper())()
    streams = [list(stream) for stream in zip_longest(*references)]
    resamples = NUM_RESAMPLES if len(written) > 1 else 1
    found: Any = scorer.corpus_score(list(written), streams, n_bootstrap=resamples)
    signature = str(scorer.get_signature())
    if resamples == 1:
        return Estimate(float(found.score), len(written), signature=signature)
    middle, half = float(found._mean), float(found._ci)
    return Estimate(float(found.score), len(written), None, middle - half, middle + half, signature)


@register
@dataclass(frozen=True)
class Bleu:
    """BLEU (Papineni et al. 2002), 13a tokens, from 0 to 100."""

    name: ClassVar[str] = "bleu"
    version: ClassVar[int] = 1

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the corpus's score."""
        return _measure(self.name, written, references)


@register
@dataclass(frozen=True)
class Chrf:
    """chrF2 (Popovic 2015), from 0 to 100."""

    name: ClassVar[str] = "chrf"
    version: ClassVar[int] = 1

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the corpus's score."""
        return _measure(self.name, written, references)
