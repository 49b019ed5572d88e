"""Linear layers without bias: plain, with standardised weights, or in float32 whatever else is rounded."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandardizedLinear(nn.Linear):
    """Weights of each output with mean 0 and variance 1 / inputs, times a learned gain (Qiao et al. 2019; Brock et al.
    2021), whatever the optimizer made of them.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.gain = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., inputs)."""
        variance, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        scale = torch.rsqrt(variance * self.in_features + 1e-8) * self.gain[:, None]
        return F.linear(x, (self.weight - mean) * scale)


class Float32Linear(nn.Linear):
    """Computes in float32 where other layers compute in bfloat16; its weights are never rounded."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., inputs)."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight)


def make_linear(inputs: int, outputs: int, standardized: bool) -> nn.Module:
    """Return a linear layer without bias."""
    return StandardizedLinear(inputs, outputs) if standardized else nn.Linear(inputs, outputs, bias=False)
