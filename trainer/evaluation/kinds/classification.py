"""Which of a fixed set of labels a model finds likeliest, by the words that stand for them.

`f1_macro` is the unweighted mean over labels of F1, where a label that neither occurs nor is chosen is left out
(scikit-learn's `f1_score` with `average="macro"`); its interval is the bootstrap's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.evaluation.estimates import Estimate, bootstrapped, share_of
from headrace.trainer.evaluation.items import Item, Template
from headrace.trainer.evaluation.kinds.contract import Model, register


@register
@dataclass(frozen=True)
class Classification:
    """Labels that all items share.

    Attributes:
        prompt: template of what is asked.
        answer: field with the label.
        labels: what stands for each label, or the labels, where they stand for themselves.
        normalize: by what a log-likelihood is divided before the highest is taken.
    """

    name: ClassVar[str] = "classification"
    version: ClassVar[int] = 1

    prompt: str
    answer: str
    labels: dict[str, str] | tuple[str, ...]
    normalize: Literal["none", "characters", "bytes", "tokens"] = "none"
    delimiter: str = " "

    def __post_init__(self) -> None:
        Template(self.prompt)
        words = list(self.words.values())
        if len(words) < 2 or len(set(words)) < len(words) or "" in words:
            raise ValueError("labels: give two at least, each its own words")

    @property
    def words(self) -> dict[str, str]:
        """What stands for each label."""
        return self.labels if isinstance(self.labels, dict) else {label: label for label in self.labels}

    def question(self, item: Item) -> str:
        """Return the prompt of an item."""
        return Template(self.prompt).fill(item)

    def solution(self, item: Item) -> str:
        """Return the words for an item's label."""
        return self.words[self._label(item)]

    def _label(self, item: Item) -> str:
        label = item.text(self.answer)
        if label not in self.words:
            raise item.fault(f"{self.answer} = {label!r} is none of {', '.join(map(repr, self.words))}")
        return label

    def measure(self, model: Model, items: Sequence[Item], prompts: Sequence[str]) -> Mapping[str, Estimate]:
        """Return accuracy and macro F1."""
        words, names = list(self.words.values()), list(self.words)
        right = np.array([names.index(self._label(item)) for item in items])
        answers = model.likelihoods([(prompt, self.delimiter + word) for prompt in prompts for word in words])
        totals = np.array([one.total for one in answers]).reshape(len(items), len(words))
        sizes = {
            "none": [1] * len(answers),
            "characters": [len(word) for word in words] * len(items),
            "bytes": [len(word.encode()) for word in words] * len(items),
            "tokens": [one.num_tokens for one in answers],
        }[self.normalize]
        chosen = np.argmax(totals / np.array(sizes).reshape(totals.shape), axis=1)
        f1 = bootstrapped(lambda rows: macro_f1(right[rows], chosen[rows], len(words)), len(items))
        return {"acc": share_of(chosen == right), "f1_macro": f1}


def macro_f1(right: NDArray[np.int64], chosen: NDArray[np.int64], num_labels: int) -> float:
    """Return the mean over labels that occur or are chosen of 2 TP / (2 TP + FP + FN)."""
    hits = np.bincount(right[right == chosen], minlength=num_labels)
    both = np.bincount(right, minlength=num_labels) + np.bincount(chosen, minlength=num_labels)
    there = both > 0
    return float(np.mean(2 * hits[there] / both[there]))
