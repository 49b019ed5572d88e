"""The feed-forward half of a layer: SwiGLU (Shazeer 2020), GELU or squared ReLU (So et al. 2021)."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from headrace.trainer.linear import make_linear
from headrace.trainer.model_config import Activation


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({"gelu": F.gelu, "relu2": _relu_squared})


def activate(activation: Activation, x: Tensor) -> Tensor:
    """Return the activated hidden layer; for `swiglu` the input is gate and up, side by side."""
    if activation == "swiglu":
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    return _ACTIVATIONS[activation](x)


class FeedForward(nn.Module):
    """down(act(up(x))), with `depth` hidden layers; for SwiGLU gate and up are one product."""

    def __init__(
        self, width: int, hidden: int, activation: Activation, depth: int = 1, standardized: bool = False
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.hidden = hidden
        outputs = 2 * hidden if activation == "swiglu" else hidden
        self.up = make_linear(width, outputs, standardized)
        self.deeper = nn.ModuleList(make_linear(hidden, outputs, standardized) for _ in range(depth - 1))
        self.down = make_linear(hidden, width, standardized)

    def fused_rows(self) -> Mapping[str, Sequence[int]]:
        """Return the rows of gate and up, where they are one matrix."""
        if self.activation != "swiglu":
            return {}
        names = ["up.weight", *(f"deeper.{number}.weight" for number in range(len(self.deeper)))]
        return {name: [self.hidden] * 2 for name in names}

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Transform each position of (..., C); `counted` is of experts alone."""
        hidden = activate(self.activation, self.up(x))
        for layer in self.deeper:
            hidden = activate(self.activation, layer(hidden))
        out: Tensor = self.down(hidden)
        return out
