"""Which of transformers' own classes a model is, and its configuration and parameters under their names.

Rotary positions are of the same convention (halves of a head are turned), so rows of queries and keys stay in order;
what is fused here is split: queries, keys and values, gate and up. Standardised weights become plain ones.

    causal          LlamaForCausalLM; MistralForCausalLM with a window, MinistralForCausalLM where some layers have none
                    Qwen3ForCausalLM where queries and keys are normed, with windows or without
                    MixtralForCausalLM or Qwen3MoeForCausalLM for experts
    bidirectional   EuroBertForMaskedLM

ModernBert is none of them: it norms its embedding and not what its first layer attends to.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headrace.trainer.model_config import ModelConfig
from headrace.trainer.objectives.contract import Sight

OWN = {"causal": "HeadraceForCausalLM", "prefix": "HeadraceForCausalLM", "bidirectional": "HeadraceForMaskedLM"}
"""Our own classes by what positions see; they are written beside the weights."""

_PLAIN: Mapping[str, Any] = {
    "norm": "rms",
    "activation": "swiglu",
    "ffn_depth": 1,
    "parallel": False,
    "logit_softcap": None,
    "residual": "plain",
    "value_residual": False,
    "num_conditions": 0,
}
"""What every one of transformers' classes named here takes for granted."""


class Choice(NamedTuple):
    """The class of a model; `obstacles` are the keys for which it is none of transformers' own."""

    name: str
    obstacles: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether its code is written beside the weights."""
        return bool(self.obstacles)


def choose_class(config: ModelConfig, sight: Sight) -> Choice:
    """Return the class that computes what a model does."""
    obstacles = tuple(_obstacles(config, sight))
    if obstacles:
        return Choice(OWN[sight], obstacles)
    if sight == "bidirectional":
        return Choice("EuroBertForMaskedLM")
    if config.num_experts is not None:
        return Choice("Qwen3MoeForCausalLM" if config.qk_norm else "MixtralForCausalLM")
    if config.qk_norm:
        return Choice("Qwen3ForCausalLM")
    if config.attention == "sliding":
        return Choice("MinistralForCausalLM" if config.global_every else "MistralForCausalLM")
    return Choice("LlamaForCausalLM")


def _obstacles(config: ModelConfig, sight: Sight) -> Iterator[str]:
    """Yield the settings that no class has, as in a run file."""
    for key, usual in _PLAIN.items():
        if getattr(config, key) != usual:
            yield f"{key} = {getattr(config, key)!r}"
    if config.attention not in ("full", "sliding"):
        yield f"attention = {config.attention!r}"
    if sight == "prefix":
        yield "an objective with a visible prefix"
    if sight == "bidirectional":
        if config.attention == "sliding":
            yield "attention = 'sliding' with both sides in view"
        if config.qk_norm:
            yield "qk_norm = True with both sides in view"
        if config.num_experts is not None:
            yield "num_experts with both sides in view"
    if config.num_experts is not None:
        if config.shared_expert:
            yield "shared_expert = True"
        if config.balance != "loss":
            yield f"balance = {config.balance!r}"
        if config.experts_per_token == 1 and not config.qk_norm:  # Mixtral divides the one weight by itself
            yield "experts_per_token = 1"
        if config.attention == "sliding" and config.global_every:
            yield "global_every with num_experts"


# ---------------------------------------------------------------------------------------------------- configuration


def class_config(choice: Choice, config: ModelConfig, sequence_length: int) -> dict[str, Any]:
    """Return the arguments of the configuration of one of transformers' classes, without special tokens."""
    made: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": sequence_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.num_experts is not None:
        made |= {"num_local_experts": config.num_experts, "num_experts_per_tok": config.experts_per_token}
        if config.qk_norm:
            made |= {"num_experts": made.pop("num_local_experts"), "norm_topk_prob": config.experts_per_token > 1}
            made["moe_intermediate_size"] = config.ffn_width
    return made | _window(choice, config)


def _window(choice: Choice, config: ModelConfig) -> dict[str, Any]:
    """Return what says which layers look how far; both count a position among those that it looks at itself."""
    if config.attention != "sliding":
        return {"sliding_window": None} if choice.name in ("MixtralForCausalLM", "Qwen3MoeForCausalLM") else {}
    window: dict[str, Any] = {"sliding_window": config.window}
    if choice.name in ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"):
        window["use_sliding_window"] = True
    if choice.name in ("Qwen3ForCausalLM", "MinistralForCausalLM"):
        every = config.global_every or config.num_layers + 1
        window["layer_types"] = [
            "sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(config.num_layers)
        ]
    return window


# ------------------------------------------------------------------------------------------------------- parameters


def class_tensors(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's parameters as transformers' classes name them; `tensors` are ours by name."""
    plain = dict(_plain_weights(tensors))
    made = {"model.embed_tokens.weight": plain["embedding.weight"], "model.norm.weight": plain["norm.weight"]}
    if not config.tie_embeddings:
        made["lm_head.weight"] = plain["head.weight"]
    for layer in range(config.num_layers):
        ours = f"blocks.{layer}."
        block = {name.removeprefix(ours): tensor for name, tensor in plain.items() if name.startswith(ours)}
        made |= {f"model.layers.{layer}.{name}": tensor for name, tensor in _layer(config, block)}
    return {name: tensor.contiguous() for name, tensor in made.items()}


def _plain_weights(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors by name, those of standardised layers as the weights that they multiply with."""
    for name, tensor in tensors.items():
        gain = tensors.get(f"{name.removesuffix('weight')}gain")
        if name.endswith(".weight") and gain is not None:
            variance, mean = torch.var_mean(tensor, dim=1, keepdim=True, correction=0)
            yield name, (tensor - mean) * torch.rsqrt(variance * tensor.shape[1] + 1e-8) * gain[:, None]
        elif not name.endswith(".gain"):
            yield name, tensor


def _layer(config: ModelConfig, block: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of a layer, whose names of ours are given without its own."""
    yield "input_layernorm.weight", block["attention_norm.weight"]
    yield "post_attention_layernorm.weight", block["feed_forward_norm.weight"]
    heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    parts = torch.split(block["attention.qkv.weight"], [number * config.head_width for number in heads])
    yield from ((f"self_attn.{name}_proj.weight", part) for name, part in zip("qkv", parts, strict=True))
    yield "self_attn.o_proj.weight", block["attention.out.weight"]
    if config.qk_norm:
        yield from ((f"self_attn.{name}_norm.weight", block[f"attention.{name}_norm.weight"]) for name in "qk")
    if config.num_experts is None:
        gate, up = block["feed_forward.up.weight"].chunk(2)
        yield from (("mlp.gate_proj.weight", gate), ("mlp.up_proj.weight", up))
        yield "mlp.down_proj.weight", block["feed_forward.down.weight"]
        return
    yield "mlp.gate.weight", block["feed_forward.router.weight"]
    for ours, theirs in (("up", "gate_up_proj"), ("down", "down_proj")):
        each = [block[f"feed_forward.experts.{number}.{ours}.weight"] for number in range(config.num_experts)]
        yield f"mlp.experts.{theirs}", torch.stack(each)
