"""Estimates with their uncertainty: means over items, ratios of sums, and 95 % intervals.

A ratio R = sum(y) / sum(x) over n independent units (documents) has, by the delta method (Cochran 1977, section 2.11),

    stderr(R)^2 = n / (n - 1) * sum((y - R x)^2) / sum(x)^2

and an interval of 1.96 standard errors on both sides. It is taken rather than a bootstrap for means and ratios, because
it is exact arithmetic: no seed, one pass, the same on any number of ranks; tests hold it against the bootstrap.
A share of items has Wilson's interval instead, which keeps within 0 and 1 where items are few.
What is no mean and no ratio (macro F1, BLEU) has the bootstrap's interval, over items, by a fixed seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORMAL_95 = 1.959963984540054
NUM_RESAMPLES, BOOTSTRAP_SEED = 1000, 12345


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    Attributes:
        value: what was measured.
        n: independent units that it is over.
        stderr: standard error; None where one unit cannot tell.
        low: lower end of the 95 % interval; `high` the upper.
        signature: of the library that measured, where it has one.
    """

    value: float
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    signature: str | None = None

    def mapped(self, function: Callable[[float], float], slope: float) -> "Estimate":
        """Return the estimate of an increasing function of the value, whose derivative at the value is `slope`."""
        low, high = (None if end is None else function(end) for end in (self.low, self.high))
        stderr = None if self.stderr is None else self.stderr * abs(slope)
        return Estimate(function(self.value), self.n, stderr, low, high, self.signature)


def ratio_of(y: ArrayLike, x: ArrayLike) -> Estimate:
    """Return sum(y) / sum(x) over units.

    Raises:
        ValueError: the sum of x is 0.
    """
    tops, bottoms = np.asarray(y, np.float64), np.asarray(x, np.float64)
    n, total = len(tops), float(bottoms.sum())
    if not total:
        raise ValueError("a ratio to nothing")
    value = float(tops.sum()) / total
    if n < 2:
        return Estimate(value, n)
    with np.errstate(invalid="ignore"):  # of what is no finite number there is no interval either
        variance = n / (n - 1) * float(np.square(tops - value * bottoms).sum()) / total**2
    return _normal(value, n, math.sqrt(variance))


def mean_of(values: ArrayLike) -> Estimate:
    """Return a mean over items; its standard error is the sample's standard deviation over the root of n.

    Raises:
        ValueError: there are no items.
    """
    items = np.asarray(values, np.float64)
    return ratio_of(items, np.ones(len(items)))


def share_of(hits: ArrayLike) -> Estimate:
    """Return the share of items that are a hit: a mean, with the interval of Wilson (1927).

    That one stays within 0 and 1, and is no point where all or no items are hits.

    Raises:
        ValueError: there are no items.
    """
    mean = mean_of(hits)
    share, n, square = mean.value, mean.n, NORMAL_95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL_95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return replace(mean, low=max(0.0, middle - half), high=min(1.0, middle + half))


def perplexity_of(loss: Estimate) -> Estimate:
    """Return exp of a loss in nats; the ends of its interval are exp of the loss's."""
    return loss.mapped(_exp, _exp(loss.value))


def bootstrapped(statistic: Callable[[NDArray[np.int64]], float], n: int) -> Estimate:
    """Return a statistic of items with the percentile bootstrap (Efron 1979) over them.

    Args:
        statistic: of items by number, each as often as its number is there.
        n: how many items there are.
    """
    value = statistic(np.arange(n))
    if n < 2:
        return Estimate(value, n)
    random = np.random.Generator(np.random.Philox(BOOTSTRAP_SEED))
    drawn = np.array([statistic(random.integers(n, size=n)) for _ in range(NUM_RESAMPLES)])
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Estimate(value, n, float(drawn.std(ddof=1)), low, high)


def _normal(value: float, n: int, stderr: float) -> Estimate:
    return Estimate(value, n, stderr, value - NORMAL_95 * stderr, value + NORMAL_95 * stderr)


def _exp(value: float) -> float:
    """Return exp of a value, the largest number where it would be infinite."""
    return math.exp(min(value, 709.0))


def as_record(estimate: Estimate) -> dict[str, Any]:
    """Return what an estimate has, for JSON; null where it is no finite number."""
    known = {name: value for name, value in vars(estimate).items() if value is not None}
    lost = {name for name, value in known.items() if isinstance(value, float) and not math.isfinite(value)}
    return known | dict.fromkeys(lost)


def shown(estimate: Estimate, digits: int = 4) -> str:
    """Return a value and its interval for people."""
    text = f"{estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
