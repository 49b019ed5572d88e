"""What a kind of attention is: a module that mixes positions, found by name; one file is one kind.

`Mixer(config, layer)` makes the mixer of a layer. Its `forward(x, context)` takes normed (B, T, C) and what all layers
share, and returns (B, T, C); it must keep to `context.layout`: no document ever reaches another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

from headrace.pipeline.registry import ClassRegistry
from headrace.trainer.attention.layouts import Layout
from headrace.trainer.attention.patterns import Pattern
from headrace.trainer.norms import Conditions
from headrace.trainer.rotary import Rotation

if TYPE_CHECKING:
    from headrace.trainer.model_config import ModelConfig


Memory = dict[str, Any]
"""What a layer remembers of the tokens before, while text is generated; empty at first, each kind fills its own."""


class Passed:
    """What a layer gives to later ones: one object, though FSDP hands each block a copy of its context.

    Attributes:
        first_values: values of the first layer, for value residuals.
    """

    first_values: Tensor | None = None


@dataclass
class Context:
    """What all layers of one forward pass share.

    Attributes:
        rotation: rotary angles of the positions.
        layout: where documents lie, and how to attend within them.
        condition: which condition holds where, of models that have any.
        passed: what a layer gives to later ones.
        counted: (B, T), where there is no padding, of models with experts.
        memory: of the layer that is being computed, while text is generated.
    """

    rotation: Rotation
    layout: Layout
    condition: Conditions | None = None
    passed: Passed = field(default_factory=Passed)
    counted: Tensor | None = None
    memory: Memory | None = None


class Kind(Protocol):
    """A registered kind of attention."""

    name: ClassVar[str]
    needs_causal: ClassVar[bool]
    """Whether it cannot look ahead, so only objectives with the sight `causal` can train it."""

    @classmethod
    def patterns(cls, config: "ModelConfig") -> Mapping[str, Pattern]:
        """Return the patterns of all layers by name; a model's layout has a mask for each."""
        ...

    def keys_in_view(self, length: int) -> int:
        """Return how many keys a query has to be multiplied with, of a row of some length: what a layer costs."""
        ...


ATTENTIONS = ClassRegistry("attention", "headrace.trainer.attention")
register = ATTENTIONS.register


def kind_of(config: "ModelConfig") -> Any:
    """Return the class of a model's attention."""
    return ATTENTIONS.all()[config.attention]


def make_mixer(config: "ModelConfig", layer: int) -> nn.Module:
    """Return the mixer of a layer."""
    mixer: nn.Module = kind_of(config)(config, layer)
    return mixer
