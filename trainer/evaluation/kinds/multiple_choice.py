"""Which of some answers a model finds likeliest, as lm-evaluation-harness 0.4 counts it.

`acc` takes the answer of the highest log-likelihood; `acc_norm` that of the highest one per character, `acc_bytes` per
UTF-8 byte, both without the delimiter, `acc_tokens` per token. Of equal ones the first is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headrace.trainer.evaluation.estimates import Estimate, share_of
from headrace.trainer.evaluation.items import Item, Template
from headrace.trainer.evaluation.kinds.contract import Model, register


@register
@dataclass(frozen=True)
class MultipleChoice:
    """Answers of an item's own.

    Attributes:
        prompt: template of what is asked.
        choices: field with the list of answers, or a template for each answer.
        answer: field that says which is right: its number from 0, its label, or its text.
        labels: field with the list of labels, or the labels.
    """

    name: ClassVar[str] = "multiple_choice"
    version: ClassVar[int] = 1

    prompt: str
    choices: str | tuple[str, ...]
    answer: str
    labels: str | tuple[str, ...] = ()
    delimiter: str = " "

    def __post_init__(self) -> None:
        for template in (self.prompt, *(self.choices if isinstance(self.choices, tuple) else ())):
            Template(template)

    def question(self, item: Item) -> str:
        """Return the prompt of an item."""
        return Template(self.prompt).fill(item)

    def answer_number(self, item: Item) -> int:
        """Return which answer is right.

        Raises:
            InputError: the item does not say it.
        """
        choices, value = self.choices_of(item), item.value(self.answer)
        if isinstance(value, int) and not isinstance(value, bool) and not self.labels:
            if 0 <= value < len(choices):
                return value
            raise item.fault(f"{self.answer} = {value}, but there are {len(choices)} answers, counted from 0")
        known = item.texts(self.labels) if isinstance(self.labels, str) else list(self.labels)
        text, known = item.text(self.answer), known or choices
        if text not in known or known.index(text) >= len(choices):
            raise item.fault(f"{self.answer} = {value!r} is none of {', '.join(map(repr, known[: len(choices)]))}")
        return known.index(text)

    def choices_of(self, item: Item) -> list[str]:
        """Return the answers of an item.

        Raises:
            InputError: there are fewer than two, or one is empty.
        """
        if isinstance(self.choices, str):
            found = item.texts(self.choices)
        else:
            found = [Template(choice).fill(item) for choice in self.choices]
        if len(found) < 2 or "" in found:
            raise item.fault(f"there must be two answers at least, and none empty, not {found}")
        return found

    def solution(self, item: Item) -> str:
        """Return the right answer."""
        return self.choices_of(item)[self.answer_number(item)]

    def measure(self, model: Model, items: Sequence[Item], prompts: Sequence[str]) -> Mapping[str, Estimate]:
        """Return the accuracies."""
        choices, right = [self.choices_of(item) for item in items], [self.answer_number(item) for item in items]
        pairs = [
            (prompt, self.delimiter + choice) for prompt, some in zip(prompts, choices, strict=True) for choice in some
        ]
        answers = iter(model.likelihoods(pairs))
        hits: dict[str, list[bool]] = {name: [] for name in ("acc", "acc_norm", "acc_bytes", "acc_tokens")}
        for some, number in zip(choices, right, strict=True):
            mine = [next(answers) for _ in some]
            totals = np.array([one.total for one in mine])
            sizes = {
                "acc": [1.0] * len(some),
                "acc_norm": [float(len(choice)) for choice in some],
                "acc_bytes": [float(len(choice.encode())) for choice in some],
                "acc_tokens": [float(one.num_tokens) for one in mine],
            }
            for name, hit in hits.items():
                hit.append(int(np.argmax(totals / np.array(sizes[name]))) == number)
        return {name: share_of(hit) for name, hit in hits.items()}
