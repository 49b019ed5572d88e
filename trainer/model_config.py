"""The shape of a model, and the named sizes.

A size is layers, width and heads; the parameter count in its name holds for a vocabulary that suits it (2,048 for
`1m`, 8,192 for `5m` and `15m`, 32,768 for `60m`, 50,257 for `124m` and `350m`). The vocabulary is the tokenizer's, so a
model's exact count is known only with it: `trainer.flops.count_parameters`.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.pipeline.strict_toml import key_fault, one_of

NormKind = Literal["rms", "layer"]
Activation = Literal["swiglu", "gelu", "relu2"]
Residual = Literal["plain", "unet", "attention"]
Balance = Literal["loss", "bias"]

SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "1m": {"num_layers": 4, "width": 128, "num_heads": 4},
        "5m": {"num_layers": 4, "width": 256, "num_heads": 4},
        "15m": {"num_layers": 6, "width": 384, "num_heads": 6},
        "60m": {"num_layers": 14, "width": 512, "num_heads": 8},
        "124m": {"num_layers": 12, "width": 768, "num_heads": 12},
        "350m": {"num_layers": 24, "width": 1024, "num_heads": 16},
    }
)


class Variants(BaseModel):
    """What stands in each place of a model, beside its shape; the defaults are Llama's."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    norm: NormKind = "rms"
    activation: Activation = "swiglu"
    ffn_depth: int = Field(default=1, ge=1)
    """Hidden layers of a feed-forward."""
    parallel: bool = False
    """Attention and feed-forward side by side, on one norm (Wang and Komatsuzaki 2021)."""
    qk_norm: bool = False
    logit_softcap: float | None = Field(default=None, gt=0)
    standardize_weights: bool = False
    residual: Residual = "plain"
    value_residual: bool = False
    num_conditions: int = Field(default=0, ge=0)
    """Conditions that scale and shift norms; a row's is the number of its corpus."""
    attention: str = "full"
    window: int = Field(default=256, ge=1)
    """Tokens that `sliding` looks at, itself among them; every `global_every`-th layer looks at all."""
    global_every: int | None = Field(default=None, ge=1)
    block_size: int = Field(default=64, ge=1)
    """Of `block_sparse`: tokens of a block, near blocks, and every how manieth block all look at."""
    local_blocks: int = Field(default=2, ge=1)
    block_stride: int = Field(default=4, ge=1)
    num_experts: int | None = Field(default=None, ge=2)
    experts_per_token: int = Field(default=2, ge=1)
    shared_expert: bool = False
    balance: Balance = "loss"
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    tie_embeddings: bool = True

    @field_validator("attention")
    @classmethod
    def _known_attention(cls, name: str) -> str:
        from headrace.trainer.attention.contract import ATTENTIONS

        return one_of("attention", name, ATTENTIONS.all())

    @model_validator(mode="after")
    def _variants_fit(self) -> Self:
        if self.num_experts is not None and self.experts_per_token > self.num_experts:
            raise key_fault(
                "experts_per_token", f"is {self.experts_per_token}, but there are {self.num_experts} experts"
            )
        if self.num_experts is not None and (self.ffn_depth > 1 or self.standardize_weights):
            raise key_fault("num_experts", "experts have one hidden layer and plain weights")
        if self.value_residual and self.attention == "linear":
            raise key_fault("value_residual", "linear attention has no values to mix; leave it out")
        return self


class ModelConfig(Variants):
    """A Transformer, every number of its shape resolved."""

    vocab_size: int = Field(ge=2)
    num_layers: int = Field(ge=1)
    width: int = Field(ge=2)
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    ffn_width: int = Field(ge=1)

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        for _, what in _misfits(self.width, self.num_heads, self.num_kv_heads):
            raise ValueError(what)
        return self


def _misfits(width: int, num_heads: int, num_kv_heads: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what does not fit together in a shape: the keys that could be changed, and how they must be."""
    if width % num_heads or width // num_heads % 2:
        yield ("num_heads", "width"), f"width ({width}) must be num_heads ({num_heads}) times an even head width"
    if num_heads % num_kv_heads:
        what = f"num_heads ({num_heads}) must be a multiple of num_kv_heads ({num_kv_heads})"
        yield ("num_kv_heads", "num_heads"), what


class ModelSection(Variants):
    """Section `[model]` of a run file: a named size, explicit fields, or a size with some fields replaced."""

    size: str | None = None
    num_layers: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=2)
    num_heads: int | None = Field(default=None, ge=1)
    num_kv_heads: int | None = Field(default=None, ge=1)
    ffn_width: int | None = Field(default=None, ge=1)

    @field_validator("size")
    @classmethod
    def _known_size(cls, name: str | None) -> str | None:
        return name if name is None else one_of("size", name, SIZES)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        shape = ("num_layers", "width", "num_heads")
        absent = [name for name in shape if getattr(self, name) is None]
        if self.size is None and absent:
            raise ValueError(f"give a size, or num_layers, width and num_heads; missing: {', '.join(absent)}")
        whole = self._shape()
        for keys, what in _misfits(whole["width"], whole["num_heads"], whole["num_kv_heads"]):
            raise key_fault(next(key for key in keys if getattr(self, key) is not None), what)
        return self

    def _shape(self) -> dict[str, Any]:
        given = self.model_dump(exclude_none=True, exclude={"size"})
        shape: dict[str, Any] = {**(SIZES[self.size] if self.size else {}), **given}
        shape.setdefault("num_kv_heads", shape["num_heads"])
        shape.setdefault("ffn_width", _usual_width(shape["width"], shape["activation"]))
        return shape

    def resolve(self, vocab_size: int) -> ModelConfig:
        """Return the full shape for a vocabulary; the default of `ffn_width` is 4 widths, or 8/3 for SwiGLU."""
        return ModelConfig(vocab_size=vocab_size, **self._shape())


def named_config(size: str, vocab_size: int) -> ModelConfig:
    """Return the shape of a named size for a vocabulary."""
    return ModelSection(size=size).resolve(vocab_size)


def _usual_width(width: int, activation: Activation, multiple: int = 64) -> int:
    """Return 4 widths, or for SwiGLU 8/3, which has as many parameters, rounded up to a multiple."""
    if activation != "swiglu":
        return 4 * width
    return -(-8 * width // (3 * multiple)) * multiple
