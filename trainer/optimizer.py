"""AdamW (Loshchilov and Hutter 2019), which parameters decay, and its state as named tensors.

Rule: matrices decay, vectors (norm scales) do not. The state is kept by parameter name, never by position, so that
a checkpoint does not depend on the order in which a model lists its parameters.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headrace.pipeline.errors import IntegrityError
from headrace.trainer.run_config import OptimizerSection

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW remembers of each parameter."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups for an optimizer: parameters that decay, then those that do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.AdamW:
    """Make AdamW, fused into one kernel where torch has it."""
    device = next(model.parameters()).device
    return torch.optim.AdamW(
        parameter_groups(model, section.weight_decay),
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.eps,
        fused=device.type in ("cpu", "cuda"),
    )


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments as `NAME/exp_avg`, `NAME/exp_avg_sq` and `NAME/step`."""
    return {
        f"{name}/{moment}": optimizer.state[parameter][moment].detach()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in MOMENTS
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        IntegrityError: a moment is missing or unknown, or has another shape than its parameter.
    """
    wanted = {f"{name}/{moment}" for name, _ in model.named_parameters() for moment in MOMENTS}
    if wanted ^ tensors.keys():
        raise IntegrityError(f"the optimizer's state is of another model: {sorted(wanted ^ tensors.keys())[:4]}")
    for name, parameter in model.named_parameters():
        moments = {moment: tensors[f"{name}/{moment}"].to(parameter.device) for moment in MOMENTS}
        if any(moments[moment].shape != parameter.shape for moment in MOMENTS[:2]):
            raise IntegrityError(f"the optimizer's state of {name} does not have the shape {tuple(parameter.shape)}")
        optimizer.state[parameter] = moments
