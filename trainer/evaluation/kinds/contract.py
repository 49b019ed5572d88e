"""What a kind of task is: what is asked about an item, what would be right, and how answers are counted.

One file is one kind: a frozen dataclass whose fields are the options of a task file, so that a task of it is data
alone. A prompt ends without a space; the `delimiter` stands between it and what answers it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

from headrace.pipeline.registry import ClassRegistry, make_registered
from headrace.trainer.evaluation.estimates import Estimate
from headrace.trainer.evaluation.items import Item
from headrace.trainer.evaluation.scorer import Likelihood


class Model(Protocol):
    """What answers."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Return the log-likelihood of each continuation after its context."""
        ...

    def generate(self, prompts: Sequence[str], until: Sequence[str], max_tokens: int) -> list[str]:
        """Return what follows each prompt greedily."""
        ...


class Kind(Protocol):
    """A registered kind of task with the options of one."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def delimiter(self) -> str:
        """What stands between a prompt and its answer."""
        ...

    def question(self, item: Item) -> str:
        """Return the prompt of an item."""
        ...

    def solution(self, item: Item) -> str:
        """Return the right answer, as examples show it.

        It is asked for every item before a model answers any.

        Raises:
            InputError: the item lacks something that `measure` takes of it.
        """
        ...

    def measure(self, model: Model, items: Sequence[Item], prompts: Sequence[str]) -> Mapping[str, Estimate]:
        """Return metrics by name, over all items; `prompts` are theirs, examples included."""
        ...


KINDS = ClassRegistry("task kind", "headrace.trainer.evaluation.kinds")
register = KINDS.register
kinds = KINDS.all


def make_kind(name: str, options: Mapping[str, Any]) -> Kind:
    """Return a kind with the options of a task.

    Raises:
        RecipeError: there is none of that name, it has no such option, lacks one, or refuses a value.
    """
    return cast(Kind, make_registered(KINDS, name, options))
