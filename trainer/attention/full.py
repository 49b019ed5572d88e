"""Softmax attention to everything that is seen.

Grouped-query attention (Ainslie et al. 2023), rotary positions, queries and keys normed where asked (Dehghani et al.
2023), values mixed with the first layer's where asked (Zhou et al. 2024): v = v + lambda (v_first - v), lambda
learned, a half at first.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from headrace.trainer.attention.contract import Context, register
from headrace.trainer.attention.decoding import attend_cached
from headrace.trainer.attention.patterns import ALL, EVERYTHING, Pattern
from headrace.trainer.linear import make_linear
from headrace.trainer.norms import RMSNorm
from headrace.trainer.rotary import rotate

if TYPE_CHECKING:
    from headrace.trainer.model_config import ModelConfig


@register
class FullAttention(nn.Module):
    """Attention to everything that is seen."""

    name: ClassVar[str] = "full"
    needs_causal: ClassVar[bool] = False

    def __init__(self, config: "ModelConfig", layer: int) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        self.head_width = config.head_width
        self.pattern = self.pattern_of(config, layer)
        self.rule = self.patterns(config)[self.pattern]
        self.qkv = make_linear(config.width, sum(self.heads) * self.head_width, config.standardize_weights)
        self.out = make_linear(config.num_heads * self.head_width, config.width, config.standardize_weights)
        normed = config.qk_norm
        self.q_norm = RMSNorm(self.head_width, config.norm_eps) if normed else nn.Identity()
        self.k_norm = RMSNorm(self.head_width, config.norm_eps) if normed else nn.Identity()
        self.value_mix = nn.Parameter(torch.empty(())) if config.value_residual and layer else None
        self.gives_values = config.value_residual and not layer

    def fused_rows(self) -> Mapping[str, Sequence[int]]:
        """Return the rows of queries, keys and values in their common matrix."""
        return {"qkv.weight": [heads * self.head_width for heads in self.heads]}

    @classmethod
    def pattern_of(cls, config: "ModelConfig", layer: int) -> str:
        """Return the name of the pattern that a layer uses."""
        return ALL

    @classmethod
    def patterns(cls, config: "ModelConfig") -> Mapping[str, Pattern]:
        """Return the patterns of all layers by name."""
        return {ALL: EVERYTHING}

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Attend over (B, T, C)."""
        rows, length, _ = x.shape
        split = self.qkv(x).view(rows, length, -1, self.head_width).transpose(1, 2).split(self.heads, dim=1)
        q, k = (rotate(part, context.rotation) for part in (self.q_norm(split[0]), self.k_norm(split[1])))
        v = self._values(split[2], context)
        if context.memory is not None:
            attended = attend_cached(q, k, v, context.memory, self.rule, context.layout.seen.visible)
        else:
            # Repeated by hand: the fused CPU kernel takes equal numbers of heads only.
            shared = self.heads[0] // self.heads[1]
            if shared > 1:
                k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
            attended = context.layout.attend(q, k, v, self.pattern)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(rows, length, -1))
        return mixed

    def _values(self, v: Tensor, context: Context) -> Tensor:
        if self.gives_values:
            context.passed.first_values = v
        first = context.passed.first_values
        if self.value_mix is None or first is None:
            return v
        return v + self.value_mix.to(v.dtype) * (first - v)

    def keys_in_view(self, length: int) -> int:
        """Return the length of the row, or what the pattern has of it at most."""
        return min(length, self.rule.most(length))
