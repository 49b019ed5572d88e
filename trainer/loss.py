"""Cross-entropy from features, some positions at a time, so that the logits of all are never held.

For features x, the head's matrix W, a cap c and a z-loss z (Chowdhery et al. 2022), each position costs

    l = x W^T, or c tanh(x W^T / c);    lse = log sum exp(l);    nll = lse - l[target];    nll + z lse^2

The gradient of a chunk is made while its logits are there, so the backward pass has only to scale it: three products of
matrices in all, as without chunks. Logits are float32 within a chunk, products have the type of the features.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 22
"""Logits of a chunk: 16 MB in float32."""


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
        nll = torch.empty(len(x), dtype=torch.float32, device=x.device)
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        step = max(1, CHUNK_LOGITS // head.shape[0])
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            logits = (x[part] @ matrix.T).float()
            if cap is not None:
                logits = logits.div_(cap).tanh_().mul_(cap)
            lse = logits.logsumexp(dim=-1)
            chosen = targets[part, None]
            nll[part] = lse - logits.gather(1, chosen)[:, 0]
            total += ((nll[part] + z * lse.square()) * weights[part]).sum()
            if not any(wanted):
                continue
            slope = 1.0 if cap is None else 1 - (logits / cap).square()
            grad = logits.sub_(lse[:, None]).exp_().mul_((weights[part] * (1 + 2 * z * lse))[:, None])
            grad.scatter_add_(1, chosen, -weights[part, None])
            grad = (grad * slope).to(x.dtype) if cap is not None else grad.to(x.dtype)
            if x_grad is not None:
                torch.matmul(grad, matrix, out=x_grad[part])
            if head_grad is not None:
                head_grad += grad.T @ x[part]
        ctx.save_for_backward(x_grad, head_grad)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what was made."""
        made = (None if part is None else part * grads[0] for part in ctx.saved_tensors)  # a scalar keeps its type
        return (*made, None, None, None, None)


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
