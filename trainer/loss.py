"""Cross-entropy from features, some positions at a time, so that the logits of all are never held.

For features x, the head's matrix W, a cap c and a z-loss z (Chowdhery et al. 2022), each position costs

    l = x W^T, or c tanh(x W^T / c);    lse = log sum exp(l);    nll = lse - l[target];    nll + z lse^2

The gradient of a chunk is made while its logits are there, so the backward pass has only to scale it: three products of
matrices in all, as without chunks. Products have the type of the features, all between them is float32.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 22
"""Logits of a chunk, in the type of the features."""

BLOCK_LOGITS = 1 << 16
"""Logits that are made float32 at once on a CPU: what its cache holds; on a GPU all of a chunk."""


class _WeightedNll(torch.autograd.Function):
    """Sum of weight * (nll + z lse^2) over positions, and each position's nll, which has no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, head: Tensor, targets: Tensor, weights: Tensor, cap: float | None, z: float
    ) -> tuple[Tensor, Tensor]:
        """Compute loss and gradients, chunk by chunk."""
        wanted = ctx.needs_input_grad[:2]
        matrix = head.to(x.dtype)
        x_grad = torch.empty_like(x) if wanted[0] else None
        head_grad = torch.zeros_like(head) if wanted[1] else None
        nll, losses = (torch.empty(len(x), dtype=torch.float32, device=x.device) for _ in range(2))
        step = max(1, CHUNK_LOGITS // head.shape[0])
        block = max(1, BLOCK_LOGITS // head.shape[0]) if x.device.type == "cpu" else step
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            logits = x[part] @ matrix.T
            for first in range(start, min(start + step, len(x)), block):
                mine = slice(first, min(first + block, start + step))
                here = logits[first - start : first - start + block]
                nll[mine], losses[mine], grad = _rows(here, targets[mine], weights[mine], cap, z, any(wanted))
                if grad is not None:
                    here.copy_(grad)
            if x_grad is not None:
                torch.matmul(logits, matrix, out=x_grad[part])
            if head_grad is not None:
                head_grad += logits.T @ x[part]
        total = (losses * weights).sum()
        ctx.save_for_backward(x_grad, head_grad)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what was made."""
        made = (None if part is None else part * grads[0] for part in ctx.saved_tensors)  # a scalar keeps its type
        return (*made, None, None, None, None)


def _rows(
    logits: Tensor, targets: Tensor, weights: Tensor, cap: float | None, z: float, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return nll and loss of each position, (N,), and the gradient of the weighted losses by the logits, (N, V)."""
    slope = None
    if cap is not None:
        logits = cap * torch.tanh(logits.float() / cap)
        slope = 1 - (logits / cap).square()
    log_p = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    chosen = targets[:, None]
    nll = -log_p.gather(1, chosen)[:, 0]
    lse = logits[:, 0].float() - log_p[:, 0]
    losses = nll + z * lse.square()
    if not with_grad:
        return nll, losses, None
    grad = log_p.exp_().mul_((weights * (1 + 2 * z * lse))[:, None])
    grad.scatter_add_(1, chosen, -weights[:, None])
    return nll, losses, grad if slope is None else grad * slope


def weighted_nll(
    features: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the sum of weight times loss, and the negative log-likelihood of each target in nats.

    Args:
        features: what the head is applied to, (N, C), of any floating type.
        head: (V, C).
        targets: int64, (N,).
        weights: float32, (N,).
        logit_softcap: cap of the logits.
        z_loss: weight of the squared log of the partition function; it is in the sum, not in the second result.
    """
    total, nll = _WeightedNll.apply(features, head, targets, weights, logit_softcap, z_loss)  # type: ignore[no-untyped-call]
    return total, nll
