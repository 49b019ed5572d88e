"""Normalisation before each block, and of queries and keys; also conditional on a vector.

RMSNorm (Zhang and Sennrich 2019) divides by the root mean square, LayerNorm (Ba et al. 2016, here without bias) takes
the mean off first. A conditional norm multiplies by 1 + scale and adds a shift, both linear in a vector and zero at
first (adaLN-Zero: Peebles and Xie 2023), so that a model begins as the one without condition.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.trainer.model_config import NormKind


class Conditions(NamedTuple):
    """The vector of each condition, (K, C), and which one holds, (B, 1) for rows or (B, T) for positions."""

    vectors: Tensor
    numbers: Tensor


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis, then scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor, condition: Conditions | None = None) -> Tensor:
        """Normalise (..., C); a condition changes nothing."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Take off the mean of the last axis, divide by its standard deviation, then scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor, condition: Conditions | None = None) -> Tensor:
        """Normalise (..., C); a condition changes nothing."""
        return F.layer_norm(x, self.weight.shape, self.weight, None, self.eps)


class ConditionalNorm(nn.Module):
    """A norm whose output is scaled and shifted as a condition says."""

    def __init__(self, norm: nn.Module, width: int) -> None:
        super().__init__()
        self.norm = norm
        self.modulate = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, condition: Conditions) -> Tensor:
        """Normalise (B, T, C)."""
        with torch.autocast(x.device.type, enabled=False):  # 1 + scale would have steps of 2^-8 in bfloat16
            scale, shift = self.modulate(condition.vectors.float())[condition.numbers].chunk(2, dim=-1)
        normed: Tensor = self.norm(x) * (1 + scale) + shift
        return normed


def make_norm(kind: NormKind, width: int, eps: float, conditional: bool = False) -> nn.Module:
    """Return the norm of a kind, for vectors of a width."""
    norm = RMSNorm(width, eps) if kind == "rms" else LayerNorm(width, eps)
    return ConditionalNorm(norm, width) if conditional else norm
