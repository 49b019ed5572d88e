"""What a metric of generated text is, found by name; and libraries that only a metric needs."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

from headrace.pipeline.registry import ClassRegistry, make_registered
from headrace.trainer.evaluation.estimates import Estimate


class Metric(Protocol):
    """A registered metric."""

    name: ClassVar[str]
    version: ClassVar[int]

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return how well texts agree with their references; each has one at least."""
        ...


METRICS = ClassRegistry("metric", "headrace.trainer.evaluation.metrics")
register = METRICS.register
metrics = METRICS.all


def make_metric(name: str) -> Metric:
    """Return a metric; raises `RecipeError` where there is none of that name."""
    made: Any = make_registered(METRICS, name, {})
    return cast(Metric, made)
