"""What a metric of generated text is, found by name; and libraries that only a metric needs."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

from headrace.pipeline.registry import ClassRegistry, make_registered
from headrace.trainer.evaluation.estimates import Estimate


class Metric(Protocol):
    """A registered metric; one that needs a library says when it is made that there is none."""

    name: ClassVar[str]
    version: ClassVar[int]

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return how well texts agree with their references; each has one at least."""
        ...


METRICS = ClassRegistry("metric", "headrace.trainer.evaluation.metrics")
register = METRICS.register
metrics = METRICS.all


def make_metric(name: str) -> Metric:
    """Return a metric.

    Raises:
        RecipeError: there is none of that name.
        MissingLibraryError: it needs a library that is not installed.
    """
    made: Any = make_registered(METRICS, name, {})
    return cast(Metric, made)
