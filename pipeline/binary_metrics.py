"""How well scores tell positives from negatives: counted exactly, each ratio one division.

Average precision is the step sum over distinct scores (as scikit-learn defines it), ROC AUC the chance that a positive
scores above a negative, ties half (Mann and Whitney), the calibration error that of Naeini et al. 2015 over ten bins of
equal width. What is undefined is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 10
THRESHOLDS = tuple(number / 20 for number in range(1, 20))


@dataclass(frozen=True)
class AtThreshold:
    """What happens where scores of `threshold` and above count as positive."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of those called positive that are."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the positives that are called so."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two."""
        return ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    def as_data(self) -> dict[str, Any]:
        """Return counts and ratios by name."""
        counts = {name: getattr(self, name) for name in ("threshold", *_COUNTS)}
        return {**counts, "precision": self.precision, "recall": self.recall, "f1": self.f1}


_COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives")


@dataclass(frozen=True)
class Counted:
    """Distinct scores, highest first, with how many positives and negatives have each."""

    scores: npt.NDArray[np.float64]
    positives: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64]

    @classmethod
    def of(cls, scores: Sequence[float], positive: Sequence[bool]) -> "Counted":
        """Count scores, each with whether it is a positive's."""
        found, places = np.unique(-np.asarray(scores, np.float64), return_inverse=True)
        weights = np.asarray(positive, bool)
        hits = np.bincount(places[weights], minlength=len(found))
        return cls(-found, hits, np.bincount(places, minlength=len(found)) - hits)

    def at(self, threshold: float) -> AtThreshold:
        """Return what a threshold does."""
        above = self.scores >= threshold
        hits, misses = int(self.positives[above].sum()), int(self.negatives[above].sum())
        left = int(self.positives.sum()) - hits, int(self.negatives.sum()) - misses
        return AtThreshold(threshold, hits, misses, *left)

    def best(self) -> AtThreshold | None:
        """Return the highest threshold of all with the best F1."""
        hits, called = np.cumsum(self.positives), np.cumsum(self.positives + self.negatives)
        if not len(hits) or not hits[-1]:
            return None
        return self.at(float(self.scores[np.argmax(2 * hits / (called + hits[-1]))]))

    def average_precision(self) -> float | None:
        """Return the area under the steps of precision over recall."""
        hits, called = np.cumsum(self.positives), np.cumsum(self.positives + self.negatives)
        if not len(hits) or not hits[-1]:
            return None
        return float(np.sum(self.positives * (hits / called)) / hits[-1])

    def roc_auc(self) -> float | None:
        """Return the chance that a positive has a higher score than a negative, ties half."""
        below = self.negatives[::-1].cumsum()[::-1] - self.negatives
        doubled = int(np.sum(self.positives * (2 * below + self.negatives)))
        return ratio(doubled, 2 * int(self.positives.sum()) * int(self.negatives.sum()))

    def bins(self) -> list[dict[str, Any]]:
        """Return ten ranges of scores, closed below (the last also above): how many, mean score, share positive."""
        place = np.minimum((self.scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        found = []
        for number in range(NUM_BINS):
            inside = place == number
            hits = int(self.positives[inside].sum())
            documents = hits + int(self.negatives[inside].sum())
            weighted = float(np.sum(self.scores[inside] * (self.positives + self.negatives)[inside]))
            found.append(
                {
                    "from": number / NUM_BINS,
                    "to": (number + 1) / NUM_BINS,
                    "documents": documents,
                    "mean_score": ratio(weighted, documents),
                    "positive_frac": ratio(hits, documents),
                }
            )
        return found


def ratio(part: float, whole: int) -> float | None:
    """Return one division, None by nothing."""
    return part / whole if whole else None


def evaluate(scores: Sequence[float], positive: Sequence[bool]) -> dict[str, Any]:
    """Return all metrics of some scores between 0 and 1."""
    counted = Counted.of(scores, positive)
    bins = counted.bins()
    filled = [item for item in bins if item["documents"]]
    gaps = sum(item["documents"] * abs(item["mean_score"] - item["positive_frac"]) for item in filled)
    squares = float(np.sum((np.asarray(scores, np.float64) - np.asarray(positive, np.float64)) ** 2))
    best = counted.best()
    return {
        "documents": len(scores),
        "average_precision": counted.average_precision(),
        "roc_auc": counted.roc_auc(),
        "expected_calibration_error": ratio(gaps, len(scores)),
        "brier_score": ratio(squares, len(scores)),
        "best_f1": best.as_data() if best else None,
        "thresholds": [counted.at(threshold).as_data() for threshold in THRESHOLDS],
        "calibration": bins,
    }
