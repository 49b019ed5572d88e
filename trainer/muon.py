"""Muon (Jordan et al. 2024) for matrices, beside AdamW for everything else, as one optimizer.

Of a matrix W with gradient G, in step t:

    B = mu B + (1 - mu) G;    M = (1 - mu) G + mu B                (Nesterov momentum)
    O = the orthogonal factor of M, by Newton-Schulz iterations    (of each part of W by itself)
    W = W - rate * decay * W - rate * 0.2 sqrt(max(rows, columns)) O

The last factor gives an update the root mean square that AdamW's has, about 0.2 (Moonlight: Liu et al. 2025), so that
learning rate and weight decay are AdamW's. The iterations have the coefficients of Jordan et al.: singular values end
between 0.7 and 1.2, not at 1. They are computed in bfloat16 on a GPU and in float32 on a CPU. Of a matrix that is cut
over ranks (`fsdp`) the momentum is cut, too; each rank gathers M, makes all of O, and takes its rows of it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from headrace.trainer.sharded import local, own_rows, whole_of

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TINY = 1e-7
"""Least norm that a matrix is divided by."""


def orthogonal_factor(matrix: Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return nearly U V^T of a matrix U S V^T, (..., rows, columns), computed in a type and returned in it."""
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    wide = matrix.mT if is_tall else matrix
    x = wide.to(dtype, copy=True).reshape(-1, *wide.shape[-2:])
    x /= x.norm(dim=(-2, -1), keepdim=True).clamp(min=TINY)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    factor = x.view(wide.shape)
    return factor.mT if is_tall else factor


def update_scale(rows: int, columns: int) -> float:
    """Return what an orthogonal matrix is multiplied by, so that its root mean square is 0.2."""
    return 0.2 * math.sqrt(max(rows, columns))


class Muon(torch.optim.Optimizer):
    """Muon for groups whose `kind` is `muon`, AdamW for the others.

    Args:
        groups: of `params`, `kind`, and what differs from the defaults. Those of Muon also have `parts`, for each of
            its parameters the rows of each matrix that stands in it, one below the other.
        lr: learning rate, the same for both.
        momentum: Muon's.
        iterations: of Newton-Schulz.
        betas, eps: AdamW's.
        weight_decay: decoupled, for both.
        dtype: of the iterations; by default bfloat16 on CUDA and float32 elsewhere.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "kind": "adamw"}
        super().__init__(list(groups), defaults)
        self.momentum, self.iterations, self.dtype = momentum, iterations, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            if group["kind"] == "muon":
                for parameter, parts in zip(group["params"], group["parts"], strict=True):
                    if parameter.grad is not None:
                        self._orthogonal_step(parameter, parts, group["lr"], group["weight_decay"])
            else:
                self._adamw_step(group)

    def _orthogonal_step(self, weight: Tensor, parts: Sequence[int], rate: float, weight_decay: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        gradient = local(weight.grad)
        momentum = local(state["momentum"]).lerp_(gradient, 1 - self.momentum)
        update = whole_of(weight, gradient.lerp(momentum, self.momentum))
        mine = local(weight)
        mine.mul_(1 - rate * weight_decay)
        dtype = self.dtype or (torch.bfloat16 if weight.is_cuda else torch.float32)
        for part in torch.split(update, list(parts), -2):
            factor = orthogonal_factor(part, self.iterations, dtype)
            part.copy_(factor.to(part.dtype)).mul_(update_scale(*part.shape[-2:]))
        mine.add_(own_rows(weight, update), alpha=-rate)

    def _adamw_step(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=parameters[0].device.type in ("cpu", "cuda"),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
