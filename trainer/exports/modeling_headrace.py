"""A Transformer of Headrace for the library transformers, in plain torch: every kind of model that Headrace trains.

This file lies beside the weights and needs nothing but torch and transformers (`trust_remote_code=True`). Parameters
have the names that they were trained under. `config.model` is the shape as the trainer knows it; `config.sight` says
what a position sees: `causal` what is before it, `bidirectional` all, `prefix` what is before it and all of a prompt.

Shapes: B rows, T positions, S positions with those that a cache holds, C width, H heads, D width of a head.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast, MaskedLMOutput

CHUNK = 64


class HeadraceConfig(PretrainedConfig):
    """What a model is: `model` has the trainer's own keys, `sight` is what a position sees."""

    model_type = "headrace"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(self, model: dict[str, Any] | None = None, sight: str = "causal", **kwargs: Any) -> None:
        self.model = dict(model or {})
        self.sight = sight
        for name, key in _USUAL_NAMES.items():
            if key in self.model:
                kwargs.setdefault(name, self.model[key])
        self.use_cache = kwargs.pop("use_cache", self.model.get("attention") != "linear")
        super().__init__(**kwargs)

    @property
    def shape(self) -> Any:
        """The trainer's keys as attributes."""
        return SimpleNamespace(**self.model)


_USUAL_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "ffn_width",
    "tie_word_embeddings": "tie_embeddings",
}
"""What others call our keys."""


# ----------------------------------------------------------------------------------------------------------- layers


class StandardizedLinear(nn.Linear):
    """Weights of each output with mean 0 and variance 1 / inputs, times a learned gain."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.gain = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (..., inputs)."""
        variance, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        scale = torch.rsqrt(variance * self.in_features + 1e-8) * self.gain[:, None]
        return F.linear(x, (self.weight - mean) * scale)


def linear(shape: Any, inputs: int, outputs: int) -> nn.Module:
    """Return a linear layer without bias."""
    return StandardizedLinear(inputs, outputs) if shape.standardize_weights else nn.Linear(inputs, outputs, bias=False)


class Norm(nn.Module):
    """RMSNorm, or LayerNorm without bias."""

    def __init__(self, kind: str, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.kind, self.eps = kind, eps

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Normalise (..., C); a condition changes nothing."""
        if self.kind == "rms":
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, None, self.eps)


class ConditionalNorm(nn.Module):
    """A norm whose output is scaled and shifted as a condition (B, 1, C) says."""

    def __init__(self, norm: nn.Module, width: int) -> None:
        super().__init__()
        self.norm = norm
        self.modulate = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise (B, T, C)."""
        scale, shift = self.modulate(condition).chunk(2, dim=-1)
        out: Tensor = self.norm(x) * (1 + scale) + shift
        return out


def block_norm(shape: Any) -> nn.Module:
    """Return the norm before a half of a layer."""
    norm = Norm(shape.norm, shape.width, shape.norm_eps)
    return ConditionalNorm(norm, shape.width) if shape.num_conditions else norm


def activate(kind: str, x: Tensor) -> Tensor:
    """Return the activated hidden layer; for `swiglu` the input is gate and up, side by side."""
    if kind == "swiglu":
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    return F.gelu(x) if kind == "gelu" else F.relu(x).square()


class FeedForward(nn.Module):
    """down(act(up(x))), perhaps with more hidden layers."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.activation = shape.activation
        outputs = 2 * shape.ffn_width if shape.activation == "swiglu" else shape.ffn_width
        self.up = linear(shape, shape.width, outputs)
        self.deeper = nn.ModuleList(linear(shape, shape.ffn_width, outputs) for _ in range(shape.ffn_depth - 1))
        self.down = linear(shape, shape.ffn_width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of (..., C)."""
        hidden = activate(self.activation, self.up(x))
        for layer in self.deeper:
            hidden = activate(self.activation, layer(hidden))
        out: Tensor = self.down(hidden)
        return out


class Experts(nn.Module):
    """Each token goes to the experts that its router chooses, weighed; none is dropped."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.bias: Tensor
        self.chosen, self.balance = shape.experts_per_token, shape.balance
        self.router = nn.Linear(shape.width, shape.num_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(shape) for _ in range(shape.num_experts))
        self.shared = FeedForward(shape) if shape.shared_expert else None
        self.register_buffer("bias", torch.zeros(shape.num_experts))

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of (B, T, C)."""
        flat = x.reshape(-1, x.shape[-1])
        logits = F.linear(flat.float(), self.router.weight.float())
        scores = logits.softmax(dim=-1) if self.balance == "loss" else logits.sigmoid()
        # The bias chooses and does not weigh; it stays zero where balance is kept by the loss.
        chosen = (scores + self.bias.float()).topk(self.chosen, dim=-1).indices
        weights = scores.gather(1, chosen)
        total = weights.sum(dim=-1, keepdim=True) if self.chosen > 1 else 1.0
        weights = (weights / total).to(x.dtype)
        out = torch.zeros_like(flat) if self.shared is None else self.shared(flat)
        for number, expert in enumerate(self.experts):
            rows, place = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                out = out.index_add(0, rows, expert(flat[rows]) * weights[rows, place, None])
        return out.view(x.shape)


# -------------------------------------------------------------------------------------------------------- attention


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of (B, H, T, D) by the angle of its position (B, T)."""
    width = x.shape[-1]
    frequency = torch.arange(0, width, 2, dtype=torch.float32, device=x.device) / width
    angle = positions[:, None, :, None].float() * theta**-frequency
    cos, sin = (torch.cat((part, part), dim=-1).to(x.dtype) for part in (angle.cos(), angle.sin()))
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def pattern_of(shape: Any, layer: int) -> str:
    """Return what a layer looks at: `all`, a `window` or `blocks`."""
    if shape.attention == "block_sparse":
        return "blocks"
    if shape.attention == "sliding" and not (shape.global_every and (layer + 1) % shape.global_every == 0):
        return "window"
    return "all"


def looks(shape: Any, pattern: str, query: Tensor, key: Tensor) -> Tensor:
    """Return whether a query looks at a key, from their places."""
    found = torch.ones_like(query - key, dtype=torch.bool)
    if pattern == "window":
        found = (query - key).abs() < int(shape.window)
    if pattern == "blocks":
        mine, other = query // int(shape.block_size), key // int(shape.block_size)
        found = ((mine - other).abs() < int(shape.local_blocks)) | (other % int(shape.block_stride) == 0)
    return found


class Attention(nn.Module):
    """Softmax attention with grouped queries, rotary positions, and what else the shape asks for."""

    def __init__(self, shape: Any, layer: int) -> None:
        super().__init__()
        self.layer, self.theta, self.pattern = layer, shape.rope_theta, pattern_of(shape, layer)
        self.heads = (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)
        self.head_width = shape.width // shape.num_heads
        self.qkv = linear(shape, shape.width, sum(self.heads) * self.head_width)
        self.out = linear(shape, shape.width, shape.width)
        self.q_norm = Norm("rms", self.head_width, shape.norm_eps) if shape.qk_norm else nn.Identity()
        self.k_norm = Norm("rms", self.head_width, shape.norm_eps) if shape.qk_norm else nn.Identity()
        self.gives_values = shape.value_residual and not layer
        self.value_mix = nn.Parameter(torch.full((), 0.5)) if shape.value_residual and layer else None

    def forward(self, x: Tensor, seen: Any) -> Tensor:
        """Attend over (B, T, C)."""
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).view(rows, length, -1, self.head_width).transpose(1, 2).split(self.heads, dim=1)
        q, k = (rotate(part, seen.positions, self.theta) for part in (self.q_norm(q), self.k_norm(k)))
        if self.gives_values:
            seen.first_values = v
        if self.value_mix is not None:
            v = v + self.value_mix.to(v.dtype) * (seen.first_values - v)
        if seen.cache is not None:
            k, v = seen.cache.update(k, v, self.layer)
        shared = self.heads[0] // self.heads[1]
        k, v = (part.repeat_interleave(shared, dim=1) for part in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.masks[self.pattern])
        out: Tensor = self.out(attended.transpose(1, 2).reshape(rows, length, -1))
        return out


class LinearAttention(nn.Module):
    """The gated delta rule, whose heads have a state in place of keys; always causal, and without a cache."""

    def __init__(self, shape: Any, layer: int) -> None:
        super().__init__()
        self.heads, self.head_width = shape.num_heads, shape.width // shape.num_heads
        self.qkvg = linear(shape, shape.width, 4 * shape.width)
        self.gates = nn.Linear(shape.width, 2 * self.heads, bias=False)
        self.log_speed = nn.Parameter(torch.zeros(self.heads))
        self.fade_bias = nn.Parameter(torch.zeros(self.heads))
        self.norm = Norm("rms", self.head_width, shape.norm_eps)
        self.out = linear(shape, shape.width, shape.width)

    def forward(self, x: Tensor, seen: Any) -> Tensor:
        """Mix over (B, T, C)."""
        rows, length, _ = x.shape
        split = self.qkvg(x).view(rows, length, 4, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        q, k, v, gate = (part.float() for part in split)
        q, k = (F.normalize(F.silu(part), dim=-1) for part in (q, k))
        fade, rate = self.gates(x).float().transpose(1, 2).chunk(2, dim=1)
        log_decay = -self.log_speed.float().exp()[:, None] * F.softplus(fade + self.fade_bias.float()[:, None])
        mixed = delta_rule(q, k, v, log_decay, rate.sigmoid(), seen.positions)
        mixed = self.norm(mixed.to(x.dtype)) * F.silu(gate).to(x.dtype)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, length, -1))
        return out


def delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, positions: Tensor) -> Tensor:
    """Return outputs (B, H, T, D) of S = a (S - b k (k^T S)) + b k v^T, o = S^T q, a chunk at a time.

    `log_decay` (log a) and `rate` (b) are (B, H, T); where a position is 0 the state begins at zero.
    """
    length = q.shape[2]
    chunk = min(CHUNK, length)
    padding = -length % chunk
    q, k, v, log_decay, rate = (_chunks(x, padding, chunk) for x in (q, k, v, log_decay, rate))
    places = F.pad(positions, (0, padding)).view(len(positions), 1, -1, chunk)
    number = torch.arange(chunk, device=q.device)
    together = (number[:, None] - number[None, :] <= places[..., None]) & (number[:, None] >= number[None, :])
    sums = log_decay.cumsum(dim=-1)
    fades = torch.where(together, sums[..., :, None] - sums[..., None, :], -torch.inf).exp()
    since_begin = sums.exp() * (places > number).float()
    corrected = k * rate[..., None]
    system = torch.tril((corrected @ k.transpose(-1, -2)) * fades, diagonal=-1)
    right = torch.cat((v * rate[..., None], corrected * since_begin[..., None]), dim=-1)
    identity = torch.eye(chunk, device=q.device)
    solved = torch.linalg.solve_triangular(system + identity, right, upper=False, unitriangular=True)
    news, of_state = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    within = (q @ k.transpose(-1, -2)) * fades
    reads, writes = q * since_begin[..., None], (k * fades[..., -1, :, None]).transpose(-1, -2)
    state = q.new_zeros(*q.shape[:2], k.shape[-1], v.shape[-1])
    outputs = []
    for part in range(q.shape[2]):
        learned = news[:, :, part] - of_state[:, :, part] @ state
        outputs.append(reads[:, :, part] @ state + within[:, :, part] @ learned)
        state = state * since_begin[:, :, part, -1, None, None] + writes[:, :, part] @ learned
    return torch.cat(outputs, dim=2)[:, :, :length]


def _chunks(x: Tensor, padding: int, chunk: int) -> Tensor:
    """Return (B, H, T, ...) as (B, H, chunks, chunk, ...), zeros at the end."""
    x = torch.cat((x, x.new_zeros(*x.shape[:2], padding, *x.shape[3:])), dim=2)
    return x.reshape(*x.shape[:2], -1, chunk, *x.shape[3:])


# ------------------------------------------------------------------------------------------------------------ model


class DepthMix(nn.Module):
    """A mean of earlier outputs, weighed position by position."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, outputs: list[Tensor]) -> Tensor:
        """Mix outputs, each (B, T, C)."""
        stacked = torch.stack(outputs)
        scores = F.rms_norm(stacked, stacked.shape[-1:], None, self.eps) @ self.query.to(stacked.dtype)
        weights = scores.float().softmax(dim=0).to(stacked.dtype)
        return (weights[..., None] * stacked).sum(dim=0)


class Block(nn.Module):
    """One layer: attention and feed-forward, one after the other or side by side."""

    def __init__(self, shape: Any, layer: int) -> None:
        super().__init__()
        mixed = shape.residual == "attention"
        self.attention_norm = block_norm(shape)
        self.attention = (LinearAttention if shape.attention == "linear" else Attention)(shape, layer)
        self.feed_forward_norm = None if shape.parallel else block_norm(shape)
        self.feed_forward = FeedForward(shape) if shape.num_experts is None else Experts(shape)
        self.attention_mix = DepthMix(shape.width, shape.norm_eps) if mixed and layer else None
        self.feed_forward_mix = DepthMix(shape.width, shape.norm_eps) if mixed and not shape.parallel else None

    def forward(self, x: Tensor, seen: Any) -> Tensor:
        """Transform (B, T, C)."""
        normed = self.attention_norm(x, seen.condition)
        mixed = x + self.attention(normed, seen)
        if self.feed_forward_norm is not None:
            normed = self.feed_forward_norm(mixed, seen.condition)
        out: Tensor = mixed + self.feed_forward(normed)
        return out

    def extend(self, outputs: list[Tensor], seen: Any) -> None:
        """Append what both halves give, each of a mean of all outputs before it."""
        x = outputs[0] if self.attention_mix is None else self.attention_mix(outputs)
        normed = self.attention_norm(x, seen.condition)
        outputs.append(self.attention(normed, seen))
        if self.feed_forward_norm is not None and self.feed_forward_mix is not None:
            normed = self.feed_forward_norm(self.feed_forward_mix(outputs), seen.condition)
        outputs.append(self.feed_forward(normed))


class HeadraceModel(PreTrainedModel):
    """What causal and masked models share: from ids to logits."""

    config_class = HeadraceConfig
    _no_split_modules = ("Block",)

    def __init__(self, config: HeadraceConfig) -> None:
        super().__init__(config)
        shape = config.shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.conditions = nn.Embedding(shape.num_conditions, shape.width) if shape.num_conditions else None
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.num_layers))
        self.skips = nn.Parameter(torch.ones(shape.num_layers // 2)) if shape.residual == "unet" else None
        self.last_mix = DepthMix(shape.width, shape.norm_eps) if shape.residual == "attention" else None
        self.norm = Norm(shape.norm, shape.width, shape.norm_eps)
        self.head = None if shape.tie_embeddings else nn.Linear(shape.width, shape.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace it."""
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the output head; None where it is the embedding itself."""
        return self.head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace it."""
        self.head = new_embeddings

    def _features(self, tokens: Tensor, seen: Any) -> Tensor:
        """Return the last layer's normed features, (B, T, C)."""
        x: Tensor = self.embedding(tokens)
        layers: list[Any] = list(self.blocks)
        if self.last_mix is not None:
            outputs = [x]
            for block in layers:
                block.extend(outputs, seen)
            x = self.last_mix(outputs)
        else:
            x = self._stacked(layers, x, seen)
        normed: Tensor = self.norm(x)
        return normed

    def _stacked(self, layers: list[Any], x: Tensor, seen: Any) -> Tensor:
        """Return what the layers make, each of the one before, with skips from the first half to the second."""
        kept: list[Tensor] = []
        half = len(layers) // 2
        for number, block in enumerate(layers):
            if self.skips is not None and number < half:
                kept.append(x)
            if self.skips is not None and number >= len(layers) - half:
                x = x + self.skips[len(layers) - 1 - number] * kept.pop()
            x = block(x, seen)
        return x

    def _logits(self, features: Tensor) -> Tensor:
        logits = F.linear(features, self.embedding.weight if self.head is None else self.head.weight)
        cap: float | None = self.config.shape.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _seen(
        self,
        tokens: Tensor,
        attention_mask: Tensor | None,
        conditions: Tensor | None,
        visible: Tensor | None,
        cache: Any,
    ) -> Any:
        """Return what all layers share: positions, masks, the condition, and the cache.

        Places are counted from a row's first token that is no padding.
        """
        shape, (rows, length) = self.config.shape, tokens.shape
        before = cache.get_seq_length() if cache is not None else 0
        if attention_mask is None:
            attention_mask = tokens.new_ones(rows, before + length)
        present = attention_mask.bool()
        places = (present.long().cumsum(dim=1) - 1).clamp(min=0)
        index = torch.arange(before + length, device=tokens.device)
        sees = present[:, None, :] & torch.ones_like(index, dtype=torch.bool)[None, before:, None]
        if self.config.sight != "bidirectional":
            ahead = index[None, None, :] > index[None, before:, None]
            sees = sees & (~ahead if visible is None else ~ahead | visible.bool()[:, None, :])
        itself = index[None, None, :] == index[None, before:, None]
        sees = sees | itself  # padding too: a mean over nothing is no number
        query, key = places[:, before:, None], places[:, None, :]
        patterns = {pattern_of(shape, layer) for layer in range(shape.num_layers)}
        masks = {name: (sees & looks(shape, name, query, key))[:, None] for name in patterns}
        condition = None
        if self.conditions is not None:
            numbers = tokens.new_zeros(rows) if conditions is None else conditions
            condition = F.silu(self.conditions(numbers))[:, None]
        return SimpleNamespace(positions=places[:, before:], masks=masks, condition=condition, cache=cache)


class HeadraceForCausalLM(HeadraceModel, GenerationMixin):
    """Predicts next tokens."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        conditions: Tensor | None = None,
        visible: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return logits (B, T, V), of the last `logits_to_keep` positions where that is not 0.

        Args:
            input_ids: ids, (B, T).
            attention_mask: 1 where there is a token and 0 on padding, (B, S).
            past_key_values: what layers remember of tokens before; not of linear attention.
            labels: ids (B, T), each to be predicted at the position before; -100 where nothing is.
            use_cache: whether to remember.
            conditions: number of each row's condition, (B,), for a model with conditions; 0 by default.
            visible: 1 where all positions see a token, (B, S): a prompt, for models with the sight `prefix`.
            logits_to_keep: how many positions to compute logits of; 0 is all.
            kwargs: nothing of what is passed here by others is used.
        """
        use_cache = self.config.use_cache if use_cache is None else use_cache
        cacheable = self.config.shape.attention != "linear"
        if use_cache and cacheable and past_key_values is None:
            past_key_values = DynamicCache()
        cache = past_key_values if cacheable else None
        features = self._features(input_ids, self._seen(input_ids, attention_mask, conditions, visible, cache))
        logits = self._logits(features[:, -logits_to_keep:] if logits_to_keep else features)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, past_key_values: Any = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return what `forward` is given for the next token: all tokens, or those that the cache has not seen."""
        cacheable = self.config.shape.attention != "linear"
        cache = past_key_values if cacheable else None
        before = cache.get_seq_length() if cache is not None else 0
        if self.config.sight == "prefix" and cache is None:
            raise ValueError("this model sees its prompt from both sides, which needs a cache: leave use_cache on")
        prompt = input_ids.new_ones(input_ids.shape) if self.config.sight == "prefix" and not before else None
        return {
            "input_ids": input_ids[:, before:],
            "attention_mask": attention_mask,
            "past_key_values": cache,
            "use_cache": cache is not None,
            "conditions": kwargs.get("conditions"),
            "visible": prompt,
            "logits_to_keep": kwargs.get("logits_to_keep") or 0,
        }


class HeadraceForMaskedLM(HeadraceModel):
    """Fills in masks."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        conditions: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Return logits (B, T, V) of each position's own token.

        Args:
            input_ids: ids, (B, T).
            attention_mask: 1 where there is a token and 0 on padding, (B, T).
            labels: ids (B, T), each to be predicted in its place; -100 where nothing is.
            conditions: number of each row's condition, (B,), for a model with conditions; 0 by default.
            kwargs: nothing of what is passed here by others is used.
        """
        features = self._features(input_ids, self._seen(input_ids, attention_mask, conditions, None, None))
        logits = self._logits(features)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
        return MaskedLMOutput(loss=loss, logits=logits)
