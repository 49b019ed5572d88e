"""Linear attention: a state for each head instead of all keys, by the gated delta rule (Yang et al. 2024).

Queries and keys have length one after a SiLU; how fast a state fades is learned for each head and token, as Mamba 2 has
it (Dao and Gu 2024); outputs are normed and gated. Without rotary positions and short convolutions. Where
flash-linear-attention is installed and the device is CUDA its kernel is used; elsewhere the chunked form.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.trainer.attention.contract import Context, register
from headrace.trainer.attention.delta_rule import CHUNK, delta_rule, delta_rule_by_token
from headrace.trainer.attention.patterns import Pattern
from headrace.trainer.linear import Float32Linear, make_linear
from headrace.trainer.norms import RMSNorm

if TYPE_CHECKING:
    from headrace.trainer.model_config import ModelConfig


@register
class LinearAttention(nn.Module):
    """The gated delta rule; each head has its own keys."""

    name: ClassVar[str] = "linear"
    needs_causal: ClassVar[bool] = True

    def __init__(self, config: "ModelConfig", layer: int) -> None:
        super().__init__()
        self.heads, self.head_width = config.num_heads, config.head_width
        inner = self.heads * self.head_width
        self.qkvg = make_linear(config.width, 4 * inner, config.standardize_weights)
        self.gates = Float32Linear(config.width, 2 * self.heads)
        self.log_speed = nn.Parameter(torch.empty(self.heads))
        self.fade_bias = nn.Parameter(torch.empty(self.heads))
        self.norm = RMSNorm(self.head_width, config.norm_eps)
        self.out = make_linear(inner, config.width, config.standardize_weights)

    def fused_rows(self) -> Mapping[str, Sequence[int]]:
        """Return the rows of queries, keys, values and gates in their common matrix."""
        return {"qkvg.weight": [self.heads * self.head_width] * 4}

    @classmethod
    def patterns(cls, config: "ModelConfig") -> Mapping[str, Pattern]:
        """Return none: there is no mask."""
        return {}

    def keys_in_view(self, length: int) -> int:
        """Return the keys that a chunk has, and twice as many as a state is wide, which is read and written."""
        return min(length, CHUNK + 2 * self.head_width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Mix over (B, T, C)."""
        rows, length, _ = x.shape
        split = self.qkvg(x).view(rows, length, 4, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        with torch.autocast(x.device.type, enabled=False):
            q, k, v, gate = (part.float() for part in split)
            q, k = (F.normalize(F.silu(part), dim=-1) for part in (q, k))
            fade, rate = self.gates(x).transpose(1, 2).chunk(2, dim=1)
            log_decay = -self.log_speed.exp()[:, None] * F.softplus(fade + self.fade_bias[:, None])
            mixed = self._mix(q, k, v, log_decay, rate.sigmoid(), context)
            mixed = self.norm(mixed) * F.silu(gate)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, length, -1).to(x.dtype))
        return out

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, context: Context) -> Tensor:
        if context.memory is not None:
            places = torch.ones(q.shape[0], q.shape[2], dtype=torch.long, device=q.device)  # an old state, or zeros
            mixed, context.memory["state"] = delta_rule_by_token(
                q, k, v, log_decay, rate, places, context.memory.get("state")
            )
            return mixed
        places = context.layout.seen.positions
        if q.is_cuda and find_spec("fla") is not None:
            return _by_flash_linear_attention(q, k, v, log_decay, rate, places)
        return delta_rule(q, k, v, log_decay, rate, places)


def _by_flash_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, places: Tensor
) -> Tensor:
    """Return what `delta_rule` does, by the kernel of flash-linear-attention, which takes rows end to end."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule  # type: ignore[import-not-found]  # optional

    begins = (places == 0).flatten().nonzero().flatten()
    edges = torch.cat((begins, begins.new_tensor([places.numel()]))).int()

    def end_to_end(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(0, 1)[None].contiguous()

    arguments: list[Any] = [end_to_end(x) for x in (q, k, v, log_decay, rate)]
    mixed: Tensor = chunk_gated_delta_rule(*arguments, scale=1.0, cu_seqlens=edges)[0]
    return mixed[0].reshape(*places.shape, *mixed.shape[2:]).transpose(1, 2)
