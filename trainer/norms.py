"""Normalisation before each block, and of queries and keys; also conditional on a vector.

RMSNorm (Zhang and Sennrich 2019) divides by the root mean square, LayerNorm (Ba et al. 2016, here without bias) takes
the mean off first. A conditional norm multiplies by 1 + scale and adds a shift, both linear in a vector and zero at
first (adaLN-Zero: Peebles and Xie 2023), so that a model begins as the one without condition.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.trainer.model_config import NormKind


class Conditions(NamedTuple):
    """The vector of each condition, (K, C), and which one holds, (B, 1) for rows or (B, T) for positions."""

    vectors: Tensor
    numbers: Tensor


class _RMSNormOnCPU(torch.autograd.Function):
    """RMSNorm by the kernels that a CPU has fused: torch makes it there of single operations, three times as slow.

    The backward pass is LayerNorm's with a mean of 0 and 1 / rms for its standard deviation, but for the term that
    comes of taking off the mean, which is put back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Normalise (..., C)."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return torch.mul(x, inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of input and weight."""
        x, weight, inverse = ctx.saved_tensors
        grad, wanted = grads[0].contiguous(), [True, True, False]
        by_layer_norm = torch.ops.aten.native_layer_norm_backward
        nothing = torch.zeros_like(inverse)
        x_grad, weight_grad, _ = by_layer_norm(grad, x, [x.shape[-1]], nothing, inverse, weight, None, wanted)
        x_grad += inverse * (grad @ weight).div_(x.shape[-1]).unsqueeze(-1)
        return x_grad, weight_grad, None


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis, then scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor, condition: Conditions | None = None) -> Tensor:
        """Normalise (..., C); a condition changes nothing."""
        wide = x.to(self.weight.dtype)  # of queries and keys in bfloat16 too
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            normed: Tensor = _RMSNormOnCPU.apply(wide, self.weight, self.eps)  # type: ignore[no-untyped-call]
        else:
            normed = F.rms_norm(wide, self.weight.shape, self.weight, self.eps)
        return normed.to(x.dtype)


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
