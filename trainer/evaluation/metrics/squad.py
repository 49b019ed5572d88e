"""Exact match and F1 of answers as SQuAD's official script defines them (`evaluate-v1.1.py`, Rajpurkar et al. 2016).

Texts are lower-cased, ASCII punctuation and the words a, an and the are taken out, white space is one space. F1 is that
of the bags of words. Of several references the best counts. Both are percentages, as the script prints them. Where one
of two texts is empty after that, F1 is whether both are, as in the script of version 2.0.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from headrace.trainer.evaluation.estimates import Estimate, mean_of, share_of
from headrace.trainer.evaluation.metrics.contract import register

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return what is compared of a text."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact(text: str, reference: str) -> float:
    """Return 1 if two texts are the same, else 0."""
    return float(normalized(text) == normalized(reference))


def f1(text: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of a text's words."""
    given, right = normalized(text).split(), normalized(reference).split()
    if not given or not right:
        return float(given == right)
    shared = sum((Counter(given) & Counter(right)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(right)
    return 2 * precision * recall / (precision + recall)


def _best(
    score: Callable[[str, str], float], written: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    return [max(score(text, one) for one in known) for text, known in zip(written, references, strict=True)]


def _per_cent(estimate: Estimate) -> Estimate:
    return estimate.mapped(lambda share: 100 * share, slope=100)


@register
@dataclass(frozen=True)
class SquadExact:
    """Exact match."""

    name: ClassVar[str] = "squad_em"
    version: ClassVar[int] = 1

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the percentage."""
        return _per_cent(share_of(_best(exact, written, references)))


@register
@dataclass(frozen=True)
class SquadF1:
    """F1."""

    name: ClassVar[str] = "squad_f1"
    version: ClassVar[int] = 1

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the mean percentage."""
        return _per_cent(mean_of(_best(f1, written, references)))
