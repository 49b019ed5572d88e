"""Parameters and floating-point operations, counted in one place, from the shape alone.

What is counted: matrix products, a multiply-add as two operations, the backward pass as twice the forward. Per token
of training that is 6 operations for each weight that multiplies it (the output head too, a looked-up embedding not, of
experts those that are chosen) plus the attention products,

    6 N + 12 C_a (sum over layers of keys in view)      (Chowdhery et al. 2022, PaLM, appendix B)

where C_a is heads times head width, and the keys in view of full attention are all T of a row, the convention of
published utilisations; a window has its size, blocks those that are looked at, linear attention a chunk and its state.
With `causal=True` half of that is counted, as a causal model needs. Documents shorter than T cost less than either:
utilisation is then stated too high by the attention's share, which for small T is little.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch

from headrace.trainer.model import empty_model
from headrace.trainer.model_config import ModelConfig

PEAK_FLOPS: Mapping[str, float] = MappingProxyType(
    {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12, "V100": 125e12}
)
"""Dense 16-bit operations per second by a part of the device's name (NVIDIA's data sheets, SXM where there are two)."""


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model by part; a tied output head has none of its own.

    `unused` are those of experts that a token is not sent to, `other` scalars and mixing vectors of residuals.
    """

    embedding: int
    attention: int
    feed_forward: int
    norm: int
    head: int
    other: int
    unused: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.attention + self.feed_forward + self.norm + self.head + self.other

    @property
    def active(self) -> int:
        """Those that a token meets."""
        return self.total - self.unused


_PARTS = ("embedding", "head", "norm", "attention", "feed_forward")


def _part(name: str) -> str:
    """Return the part that a parameter belongs to, by its name."""
    parts = name.split(".")
    found = parts[2] if parts[0] == "blocks" else parts[0]
    if found.endswith("_norm"):
        return "norm"
    return found if found in _PARTS else "other"


@lru_cache(maxsize=32)
def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count the parameters of a model."""
    model, found = empty_model(config), Counter(dict.fromkeys((*_PARTS, "other"), 0))
    for name, parameter in model.named_parameters():
        found[_part(name)] += parameter.numel()
    idle = (config.num_experts or config.experts_per_token) - config.experts_per_token
    unused = sum(idle * sum(p.numel() for p in layer.experts[0].parameters()) for layer in model.experts())
    return ParameterCount(**found, unused=unused)


@lru_cache(maxsize=32)
def flops_per_token(config: ModelConfig, sequence_length: int, causal: bool = False) -> int:
    """Count the operations of one training step per token; see the module for what is counted."""
    count = count_parameters(config)
    multiplied = count.attention + count.feed_forward - count.unused + config.vocab_size * config.width
    mixers: list[Any] = [block.attention for block in empty_model(config).blocks]
    in_view: int = sum(mixer.keys_in_view(sequence_length) for mixer in mixers)
    attention = 12 * config.num_heads * config.head_width * in_view
    return 6 * multiplied + (attention // 2 if causal else attention)


def utilization(config: ModelConfig, sequence_length: int, positions: float, seconds: float, peak: float) -> float:
    """Return the share of a peak, in operations a second, that training on so many positions made use of (MFU)."""
    return positions * flops_per_token(config, sequence_length) / seconds / peak


def peak_flops(device: torch.device) -> float | None:
    """Return the operations per second that a device is sold for, or None where it is not known (every CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name.replace("-", " ").split()), None)
