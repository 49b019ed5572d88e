"""The shape of a model, and the named sizes.

A size is layers, width and heads; the parameter count in its name holds for a vocabulary that suits it (2,048 for
`1m`, 8,192 for `5m` and `15m`, 32,768 for `60m`, 50,257 for `124m`). The vocabulary is the tokenizer's, so a model's
exact count is known only with it: `trainer.flops.count_parameters`.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.pipeline.strict_toml import key_fault

SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "1m": {"num_layers": 4, "width": 128, "num_heads": 4},
        "5m": {"num_layers": 4, "width": 256, "num_heads": 4},
        "15m": {"num_layers": 6, "width": 384, "num_heads": 6},
        "60m": {"num_layers": 14, "width": 512, "num_heads": 8},
        "124m": {"num_layers": 12, "width": 768, "num_heads": 12},
    }
)


class ModelConfig(BaseModel):
    """A decoder-only Transformer, every number of its shape resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    vocab_size: int = Field(ge=2)
    num_layers: int = Field(ge=1)
    width: int = Field(ge=2)
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    ffn_width: int = Field(ge=1)
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    tie_embeddings: bool = True

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


class ModelSection(BaseModel):
    """Section `[model]` of a run file: a named size, explicit fields, or a size with some fields replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    size: str | None = None
    num_layers: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=2)
    num_heads: int | None = Field(default=None, ge=1)
    num_kv_heads: int | None = Field(default=None, ge=1)
    ffn_width: int | None = Field(default=None, ge=1)
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    tie_embeddings: bool = True

    @field_validator("size")
    @classmethod
    def _known_size(cls, name: str | None) -> str | None:
        if name is not None and name not in SIZES:
            near = get_close_matches(name, SIZES, n=1, cutoff=0.5)
            raise ValueError(
                f"no such size{f' (did you mean {near[0]!r}?)' if near else ''}; one of: {', '.join(SIZES)}"
            )
        return name

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
        shape.setdefault("ffn_width", _swiglu_width(shape["width"]))
        return shape

    def resolve(self, vocab_size: int) -> ModelConfig:
        """Return the full shape for a vocabulary; 8/3 of the width is the default of `ffn_width` (Shazeer 2020)."""
        return ModelConfig(vocab_size=vocab_size, **self._shape())


def named_config(size: str, vocab_size: int) -> ModelConfig:
    """Return the shape of a named size for a vocabulary."""
    return ModelSection(size=size).resolve(vocab_size)


def _swiglu_width(width: int, multiple: int = 64) -> int:
    """Return 8/3 of the width, which gives SwiGLU the parameters of a 4-fold MLP, rounded up to a multiple."""
    return -(-8 * width // (3 * multiple)) * multiple
