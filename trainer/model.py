"""A decoder-only Transformer of the Llama family (Touvron et al. 2023).

    x = embed(tokens)
    for each layer:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
    logits = norm(x) @ embedding.T

RMSNorm before each block (Zhang and Sennrich 2019), rotary positions taken from the batch (Su et al. 2021; the
rotate-half convention), grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020), no biases, the output
head tied to the embedding unless told otherwise. A parameter's initial value depends on (seed, its name, its shape)
alone.

Shapes: B rows, T positions, C width, H heads, K key-value heads, D width of a head, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.trainer.attention import LAYOUTS, Layout
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.seeds import derive_seed

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the angles of each position, (B, 1, T, D)."""


def rotation_at(positions: Tensor, head_width: int, theta: float) -> Rotation:
    """Return the rotary angles' cosines and sines for positions (B, T), in float32."""
    frequency = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width
    angle = positions[:, None, :, None].float() * theta**-frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of the last axis by its angle; keeps the type of `x`."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis, then scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., C)."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention within documents."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        self.head_width = config.head_width
        self.qkv = nn.Linear(config.width, sum(self.heads) * self.head_width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, layout: Layout) -> Tensor:
        """Attend over (B, T, C)."""
        rows, length, width = x.shape
        split = self.qkv(x).view(rows, length, -1, self.head_width).transpose(1, 2).split(self.heads, dim=1)
        q, k, v = rotate(split[0], rotation), rotate(split[1], rotation), split[2]
        # Repeated by hand: the fused CPU kernel takes equal numbers of heads only.
        shared = self.heads[0] // self.heads[1]
        if shared > 1:
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        attended = layout.attend(q, k, v)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(rows, length, width))
        return mixed


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)), gate and up as one product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of (B, T, C)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """One layer: attention and feed-forward, each around the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.width, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, rotation: Rotation, layout: Layout) -> Tensor:
        """Transform (B, T, C)."""
        x = x + self.attention(self.attention_norm(x), rotation, layout)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Transformer(nn.Module):
    """The whole model; make one with `build_model`, which also sets its initial values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.width, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Return logits (B, T, V) for tokens and positions, both (B, T)."""
        rotation = rotation_at(positions, self.config.head_width, self.config.rope_theta)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, rotation, layout)
        return F.linear(self.norm(x), self.embedding.weight if self.head is None else self.head.weight)


def build_model(config: ModelConfig, seed: int, device: torch.device | str = "cpu") -> Transformer:
    """Make a model with initial values that depend on the seed and the parameters' names, the same on any device."""
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _initialize(name, parameter, config, torch.Generator().manual_seed(derive_seed(seed, "init", name)))
    return model.to(device)


def _initialize(name: str, parameter: Tensor, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw from N(0, 0.02); outputs into the residual stream are 1/sqrt(2 * layers) of that (GPT-2)."""
    if parameter.ndim == 1:
        parameter.fill_(1.0)
        return
    into_residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
    parameter.normal_(0.0, 0.02 * ((2 * config.num_layers) ** -0.5 if into_residual else 1.0), generator=generator)


def logits_of(model: nn.Module, tokens: Tensor, positions: Tensor, documents: Tensor, layout: str) -> Tensor:
    """Return the logits (B, T, V), attending by the named layout of `trainer.attention`."""
    logits: Tensor = model(tokens, positions, LAYOUTS[layout](documents))
    return logits
