"""Products of the layers' matrices in 8-bit floating point, each tensor scaled by its largest number.

Activations and weights are e4m3, gradients e5m2 (Micikevicius et al. 2022); products are summed in float32 by
`torch._scaled_mm`. Scales are made anew each time, so there is no state. Weights, moments, embeddings, head, norms,
routers and gates stay what they are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from headrace.pipeline.errors import RecipeError
from headrace.trainer.optimizer import is_hidden

MULTIPLE = 16
"""What the sides of a matrix must be multiples of."""


def require_fp8(device: torch.device) -> None:
    """Raise `RecipeError` where a device has no units for such products."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    raise RecipeError(
        f"run.fp8 = true: {name} computes no products in 8 bits; it takes an NVIDIA GPU of compute capability 8.9 or "
        "more (Ada, Hopper, Blackwell). Write fp8 = false, and bf16 = true where that is fast"
    )


def _quantized(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a matrix in 8 bits, and what it is to be multiplied with."""
    largest = torch.finfo(dtype).max
    scale = (x.detach().abs().amax().float() / largest).clamp(min=1e-12)
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


def _product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a b^T of matrices whose rows lie together."""
    made: Tensor = torch._scaled_mm(a, b.t(), scale_a=scale_a, scale_b=scale_b, out_dtype=dtype)
    return made


class _Linear(torch.autograd.Function):
    """x W^T of x (N, inputs), N a multiple of 16, and W (outputs, inputs)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Multiply in 8 bits."""
        x8, x_scale = _quantized(x, torch.float8_e4m3fn)
        w8, w_scale = _quantized(weight, torch.float8_e4m3fn)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.types = x.dtype, weight.dtype
        return _product(x8, w8, x_scale, w_scale, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Multiply the gradient in 8 bits by the other factor."""
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        g8, g_scale = _quantized(grads[0], torch.float8_e5m2)
        x_grad = _product(g8, w8.t().contiguous(), g_scale, w_scale, ctx.types[0])
        w_grad = _product(g8.t().contiguous(), x8.t().contiguous(), g_scale, x_scale, ctx.types[1])
        return x_grad, w_grad, None


class Fp8Linear(nn.Linear):
    """A linear layer without bias that multiplies in 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., inputs); the result has the type that autocast asks for, or the input's."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        flat = x.reshape(-1, x.shape[-1])
        if not len(flat):
            return super().forward(x)
        padded = nn.functional.pad(flat, (0, 0, 0, -len(flat) % MULTIPLE))
        with torch.autocast(kind, enabled=False):
            made: Tensor = _Linear.apply(padded, self.weight, dtype)  # type: ignore[no-untyped-call]
        return made[: len(flat)].view(*x.shape[:-1], -1)


def use_fp8(model: nn.Module) -> None:
    """Have the layers' matrices multiply in 8 bits, where both their sides are multiples of 16.

    Raises:
        RecipeError: there is no such matrix.
    """
    modules = dict(model.named_modules())
    chosen = [
        name
        for name, module in modules.items()
        if type(module) is nn.Linear
        and is_hidden(f"{name}.weight", module.weight)
        and not any(side % MULTIPLE for side in module.weight.shape)
    ]
    if not chosen:
        raise RecipeError(f"run.fp8 = true: the model has no plain matrix with sides that are multiples of {MULTIPLE}")
    for name in chosen:
        old = modules[name]
        assert isinstance(old, nn.Linear)
        made = Fp8Linear(old.in_features, old.out_features, bias=False, device="meta")
        made.weight = old.weight
        parent, _, own = name.rpartition(".")
        setattr(modules[parent], own, made)
