"""Share of texts that are a reference, character by character."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headrace.trainer.evaluation.estimates import Estimate, share_of
from headrace.trainer.evaluation.metrics.contract import register


@register
@dataclass(frozen=True)
class ExactMatch:
    """Equality."""

    name: ClassVar[str] = "exact_match"
    version: ClassVar[int] = 1

    def measure(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Estimate:
        """Return the share, from 0 to 1."""
        return share_of([text in known for text, known in zip(written, references, strict=True)])
