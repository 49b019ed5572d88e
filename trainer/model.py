"""A Transformer, whose parts have names: by default a decoder of the Llama family (Touvron et al. 2023).

    x = embed(tokens)
    for each layer:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
    logits = norm(x) @ embedding.T

What stands in each place is an option of `model_config`: attention (`trainer.attention`), norms (`norms`), feed-forward
or experts (`feed_forward`, `experts`), what is added to what (`residuals`). Whether positions look ahead is the
objective's to say. Rotary positions are taken from the batch; there are no biases; the output head is tied to the
embedding unless told otherwise. A parameter's initial value depends on (seed, its name, its shape) alone.

Shapes: B rows, T positions, C width, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headrace.trainer.attention.contract import Context, Memory, kind_of, make_mixer
from headrace.trainer.attention.layouts import LAYOUTS, Layout, Patterns
from headrace.trainer.attention.seen import Seen
from headrace.trainer.experts import Experts
from headrace.trainer.feed_forward import FeedForward
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.norms import Conditions, make_norm
from headrace.trainer.residuals import DepthMix
from headrace.trainer.rotary import rotation_at
from headrace.trainer.seeds import derive_seed


def _make_feed_forward(config: ModelConfig) -> nn.Module:
    if config.num_experts is None:
        return FeedForward(
            config.width, config.ffn_width, config.activation, config.ffn_depth, config.standardize_weights
        )
    return Experts(
        config.width,
        config.ffn_width,
        config.activation,
        config.num_experts,
        config.experts_per_token,
        config.shared_expert,
        config.balance,
    )


class Block(nn.Module):
    """One layer: attention and feed-forward, each around the residual stream, one after the other or side by side."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        norm = config.norm, config.width, config.norm_eps, config.num_conditions > 0
        self.attention_norm = make_norm(*norm)
        self.attention = make_mixer(config, layer)
        self.feed_forward_norm = None if config.parallel else make_norm(*norm)
        self.feed_forward = _make_feed_forward(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Transform (B, T, C)."""
        normed = self.attention_norm(x, context.condition)
        mixed = x + self.attention(normed, context)
        if self.feed_forward_norm is not None:
            normed = self.feed_forward_norm(mixed, context.condition)
        out: Tensor = mixed + self.feed_forward(normed, context.counted)
        return out


class MixedBlock(Block):
    """A layer whose halves each read a mean of all outputs before them (attention residuals)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.attention_mix = DepthMix(config.width, config.norm_eps) if layer else None
        self.feed_forward_mix = None if config.parallel else DepthMix(config.width, config.norm_eps)

    def halves(self, outputs: Sequence[Tensor], context: Context) -> tuple[Tensor, Tensor]:
        """Return what attention and feed-forward make of all outputs before them, each (B, T, C)."""
        x = outputs[0] if self.attention_mix is None else self.attention_mix(outputs)
        normed = self.attention_norm(x, context.condition)
        mixed: Tensor = self.attention(normed, context)
        if self.feed_forward_norm is not None and self.feed_forward_mix is not None:
            normed = self.feed_forward_norm(self.feed_forward_mix([*outputs, mixed]), context.condition)
        return mixed, self.feed_forward(normed, context.counted)


class Transformer(nn.Module):
    """The whole model; make one with `build_model`, which also sets its initial values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        kind = MixedBlock if config.residual == "attention" else Block
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.conditions = nn.Embedding(config.num_conditions, config.width) if config.num_conditions else None
        self.blocks = nn.ModuleList(kind(config, layer) for layer in range(config.num_layers))
        self.skips = nn.Parameter(torch.empty(config.num_layers // 2)) if config.residual == "unet" else None
        self.last_mix = DepthMix(config.width, config.norm_eps) if config.residual == "attention" else None
        self.norm = make_norm(config.norm, config.width, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.width, config.vocab_size, bias=False)
        self.recompute: frozenset[int] = frozenset()
        """Layers whose activations are not kept for the backward pass, but made again."""

    @property
    def patterns(self) -> Patterns:
        """What layers look at, by name: a layout is made for these."""
        return dict(kind_of(self.config).patterns(self.config))

    @property
    def head_weight(self) -> Tensor:
        """The output head's matrix, (V, C)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        layout: Layout,
        conditions: Tensor | None = None,
        memories: Sequence[Memory] | None = None,
    ) -> Tensor:
        """Return the last layer's normed features (B, T, C), of which `logits` makes logits.

        Args:
            tokens: ids, (B, T).
            positions: places in their pieces, (B, T).
            layout: what positions see.
            conditions: number of each row's condition, (B,), or of each position's, (B, T), where a model has any; by
                default 0.
            memories: of each layer, while text is generated.
        """
        context = Context(rotation_at(positions, self.config.head_width, self.config.rope_theta), layout)
        if self.config.num_experts is not None and memories is None:
            context.counted = layout.seen.documents >= 0
        if self.conditions is not None:
            numbers = tokens.new_zeros(len(tokens)) if conditions is None else conditions
            known = torch.arange(self.config.num_conditions, device=tokens.device)
            context.condition = Conditions(F.silu(self.conditions(known)), numbers.view(len(tokens), -1))
        x = self.embedding(tokens)
        if self.config.residual == "attention":
            return self._mixed(x, context, memories)
        kept: list[Tensor] = []
        half = self.config.num_layers // 2
        for number, block in enumerate(self.blocks):
            context.memory = memories[number] if memories is not None else None
            if self.skips is not None and number < half:
                kept.append(x)
            if self.skips is not None and number >= self.config.num_layers - half:
                x = x + self.skips[self.config.num_layers - 1 - number] * kept.pop()
            x = self._computed(number, block, x, context)
        normed: Tensor = self.norm(x)
        return normed

    def _computed(self, number: int, layer: Callable[..., Any], *arguments: Any) -> Any:
        if number in self.recompute and self.training:
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)

    def _mixed(self, x: Tensor, context: Context, memories: Sequence[Memory] | None) -> Tensor:
        assert self.last_mix is not None
        outputs = [x]
        for number, block in enumerate(self.blocks):
            context.memory = memories[number] if memories is not None else None
            outputs += self._computed(number, cast(MixedBlock, block).halves, tuple(outputs), context)
        normed: Tensor = self.norm(self.last_mix(outputs))
        return normed

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (..., V) of features (..., C), capped where the model caps them: cap * tanh(logits / cap)."""
        logits = F.linear(features, self.head_weight)
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def experts(self) -> Iterator[Experts]:
        """Yield the layers' mixtures of experts."""
        for module in self.modules():
            if isinstance(module, Experts):
                yield module


def build_model(config: ModelConfig, seed: int, device: torch.device | str = "cpu") -> Transformer:
    """Make a model with initial values that depend on the seed and the parameters' names, the same on any device."""
    model = empty_model(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.zero_()
        for name, parameter in model.named_parameters():
            _initialize(name, parameter, config, torch.Generator().manual_seed(derive_seed(seed, "init", name)))
    return model.to(device)


def empty_model(config: ModelConfig) -> Transformer:
    """Return a model without memory for its values, to be counted or looked at."""
    with torch.device("meta"):
        return Transformer(config)


_RESIDUAL = (".out.weight", ".down.weight")
_AT_FIRST: Mapping[str, float] = MappingProxyType(
    {"modulate.weight": 0.0, "modulate.bias": 0.0, "query": 0.0, "value_mix": 0.5, "skips": 1.0}
)
"""Initial value of what is not drawn, by the end of its name; other vectors are norms and gains, and begin at 1."""


def _initialize(name: str, parameter: Tensor, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw from N(0, 0.02); outputs into the residual stream are 1/sqrt(2 * layers) of that (GPT-2).

    A state of linear attention fades as Mamba 2 has it: speeds from 1 to 16 at steps from 0.001 to 0.1.
    """
    fixed = next((value for end, value in _AT_FIRST.items() if name.endswith(end)), None)
    if fixed is not None:
        parameter.fill_(fixed)
    elif name.endswith("log_speed"):
        parameter.uniform_(1, 16, generator=generator).log_()
    elif name.endswith("fade_bias"):
        step = torch.empty_like(parameter).uniform_(math.log(0.001), math.log(0.1), generator=generator).exp()
        parameter.copy_(step + torch.log(-torch.expm1(-step)))  # so that its softplus is the step
    elif parameter.ndim <= 1:
        parameter.fill_(1.0)
    else:
        scale = (2 * config.num_layers) ** -0.5 if name.endswith(_RESIDUAL) else 1.0
        parameter.normal_(0.0, 0.02 * scale, generator=generator)


def logits_of(model: Transformer, tokens: Tensor, positions: Tensor, documents: Tensor, layout: str) -> Tensor:
    """Return the logits (B, T, V) of causal attention by the named layout."""
    made = LAYOUTS[layout](Seen.of(documents), model.patterns)
    return model.logits(model(tokens, positions, made))
