"""Whether a model goes on exactly as a text does: its last word (LAMBADA, Paperno et al. 2016), or what is given.

`acc` is the share of items where each token of the continuation is the model's likeliest, `perplexity` the exponential
of the mean negative log-likelihood of continuations, both as lm-evaluation-harness 0.4 has them; `bits_per_byte` is
over the continuations' UTF-8 bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from headrace.trainer.evaluation.estimates import Estimate, mean_of, perplexity_of, ratio_of, share_of
from headrace.trainer.evaluation.items import Item, Template
from headrace.trainer.evaluation.kinds.contract import Model, register


@register
@dataclass(frozen=True)
class Cloze:
    """A text whose end is to be found.

    Attributes:
        text: template of the whole text, the last word of which is asked for.
        prompt: instead: template of what stands before; `target`: template of what follows.
    """

    name: ClassVar[str] = "cloze"
    version: ClassVar[int] = 1

    text: str | None = None
    prompt: str | None = None
    target: str | None = None
    delimiter: str = " "

    def __post_init__(self) -> None:
        given = [one for one in (self.text, self.prompt, self.target) if one is not None]
        if (self.text is None) == (self.prompt is None) or (self.prompt is None) != (self.target is None):
            raise ValueError("give text, whose last word is asked for, or both prompt and target")
        for template in given:
            Template(template)

    def question(self, item: Item) -> str:
        """Return what stands before the continuation."""
        return self._split(item)[0]

    def solution(self, item: Item) -> str:
        """Return the continuation."""
        return self._split(item)[1]

    def _split(self, item: Item) -> tuple[str, str]:
        if self.prompt is not None and self.target is not None:
            prompt, target = Template(self.prompt).fill(item), Template(self.target).fill(item)
        else:
            text = Template(self.text or "").fill(item).rstrip()
            words = text.rsplit(maxsplit=1)
            target = words[-1] if len(words) == 2 else ""
            prompt = text.removesuffix(target).rstrip()
        if not target:
            raise item.fault("nothing is to be found there; a text needs two words, a target one character")
        return prompt, target

    def measure(self, model: Model, items: Sequence[Item], prompts: Sequence[str]) -> Mapping[str, Estimate]:
        """Return accuracy, perplexity and bits per byte."""
        targets = [self.delimiter + self.solution(item) for item in items]
        answers = model.likelihoods(list(zip(prompts, targets, strict=True)))
        bits = [-one.total / math.log(2) for one in answers]
        return {
            "acc": share_of([one.is_greedy for one in answers]),
            "perplexity": perplexity_of(mean_of([-one.total for one in answers])),
            "bits_per_byte": ratio_of(bits, [len(target.encode()) for target in targets]),
        }
