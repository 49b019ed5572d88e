"""What a model writes, greedily, held against references by the metrics that are named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from headrace.trainer.evaluation.estimates import Estimate
from headrace.trainer.evaluation.items import Item, Template
from headrace.trainer.evaluation.kinds.contract import Model, register
from headrace.trainer.evaluation.metrics.contract import make_metric


@register
@dataclass(frozen=True)
class Generation:
    """Free answers.

    Attributes:
        prompt: template of what is asked.
        references: field with what would be right, a text or a list of texts, or templates of them.
        metrics: names of metrics.
        until: what ends an answer, beside the end of the text.
        max_tokens: how long an answer is at most.
    """

    name: ClassVar[str] = "generation"
    version: ClassVar[int] = 1

    prompt: str
    references: str | tuple[str, ...]
    metrics: tuple[str, ...]
    until: tuple[str, ...] = ("\n",)
    max_tokens: int = 64
    delimiter: str = " "

    def __post_init__(self) -> None:
        for template in (self.prompt, *(self.references if isinstance(self.references, tuple) else ())):
            Template(template)
        for name in self.metrics:
            make_metric(name)
        if not self.metrics or not self.references or "" in self.until or self.max_tokens < 1:
            raise ValueError("give metrics, references, stop strings that are not empty, and max_tokens above 0")

    def question(self, item: Item) -> str:
        """Return the prompt of an item."""
        return Template(self.prompt).fill(item)

    def solution(self, item: Item) -> str:
        """Return the first reference."""
        return self.references_of(item)[0]

    def references_of(self, item: Item) -> list[str]:
        """Return all references; where there is none, the empty answer is right."""
        if isinstance(self.references, str):
            return item.texts(self.references) or [""]
        return [Template(one).fill(item) for one in self.references]

    def measure(self, model: Model, items: Sequence[Item], prompts: Sequence[str]) -> Mapping[str, Estimate]:
        """Return each metric; white space around answers and references counts for nothing."""
        references = [[one.strip() for one in self.references_of(item)] for item in items]
        written = [text.strip() for text in model.generate(prompts, self.until, self.max_tokens)]
        return {name: make_metric(name).measure(written, references) for name in self.metrics}
