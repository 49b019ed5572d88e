"""Attention within a window, and to everything in each `global_every`-th layer (Beltagy et al. 2020; Gemma 2)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from headrace.trainer.attention.contract import register
from headrace.trainer.attention.full import FullAttention
from headrace.trainer.attention.patterns import ALL, EVERYTHING, SPARSE, Pattern, Window

if TYPE_CHECKING:
    from headrace.trainer.model_config import ModelConfig


@register
class SlidingAttention(FullAttention):
    """Most layers look no further than `window` tokens."""

    name: ClassVar[str] = "sliding"

    @classmethod
    def pattern_of(cls, config: "ModelConfig", layer: int) -> str:
        """Return the window's name, but in each `global_every`-th layer."""
        return ALL if config.global_every and (layer + 1) % config.global_every == 0 else SPARSE

    @classmethod
    def patterns(cls, config: "ModelConfig") -> Mapping[str, Pattern]:
        """Return everything, and the window."""
        return {ALL: EVERYTHING, SPARSE: Window(config.window)}
