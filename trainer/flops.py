"""Parameters and floating-point operations, counted in one place, from the shape alone.

What is counted: matrix products, a multiply-add as two operations, the backward pass as twice the forward. Per token
of training that is 6 operations for each weight that multiplies it (the output head too, a looked-up embedding not)
plus the attention products,

    6 N + 12 L C T      (Chowdhery et al. 2022, PaLM, appendix B; L layers, width C, T positions in view),

where the attention is counted as if every position saw all T, the convention of published utilisations. With
`causal=True` only the half that a causal model needs is counted (6 L C T). Documents shorter than T cost less than
either: utilisation is then stated too high by the attention's share, which for small T is little.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from headrace.trainer.model_config import ModelConfig

PEAK_FLOPS: Mapping[str, float] = MappingProxyType(
    {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12, "V100": 125e12}
)
"""Dense 16-bit operations per second by a part of the device's name (NVIDIA's data sheets, SXM where there are two)."""


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model by part; a tied output head has none of its own."""

    embedding: int
    attention: int
    feed_forward: int
    norm: int
    head: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.attention + self.feed_forward + self.norm + self.head


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count the parameters of a model."""
    qkv = (config.num_heads + 2 * config.num_kv_heads) * config.head_width
    return ParameterCount(
        embedding=config.vocab_size * config.width,
        attention=config.num_layers * config.width * (qkv + config.width),
        feed_forward=config.num_layers * 3 * config.width * config.ffn_width,
        norm=(2 * config.num_layers + 1) * config.width,
        head=0 if config.tie_embeddings else config.vocab_size * config.width,
    )


def flops_per_token(config: ModelConfig, sequence_length: int, causal: bool = False) -> int:
    """Count the operations of one training step per token; see the module for what is counted."""
    count = count_parameters(config)
    multiplied = count.attention + count.feed_forward + config.vocab_size * config.width
    attention = 12 * config.num_layers * config.width * sequence_length
    return 6 * multiplied + (attention // 2 if causal else attention)


def peak_flops(device: torch.device) -> float | None:
    """Return the operations per second that a device is sold for, or None where it is not known (every CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name.replace("-", " ").split()), None)
