"""Causal attention that does not cross documents, in three equal ways.

A token sees itself and the earlier tokens of its own piece of a document; padding is a piece like any other, which
nobody reads. A *layout* is made once per microbatch from `documents` and used by every layer:

- `pieces`: one causal SDPA call for each piece. The work is the sum of the squared lengths, and on a CPU
  it is the fastest way, since a boolean mask turns the fused kernel off;
- `mask`: one SDPA call with a block-diagonal causal mask, the plainest statement of the rule;
- `flex`: the same rule as a `BlockMask` for FlexAttention (Dong et al. 2024), for compiled CUDA; it has no backward
  pass on CPU.

Shapes: B rows, H heads, T positions, D width of a head; queries, keys and values are (B, H, T, D).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


class Layout(Protocol):
    """Where documents lie in a microbatch, in the form that one way of attending needs."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attended values, (B, H, T, D)."""
        ...


@dataclass(frozen=True)
class PieceLayout:
    """Lengths of the pieces in the order of the flattened (row, position)."""

    lengths: tuple[int, ...]

    @classmethod
    def of(cls, documents: Tensor) -> "PieceLayout":
        """Cut rows where the number of the document changes; `documents` is (B, T)."""
        edge = torch.ones_like(documents, dtype=torch.bool)
        edge[:, 1:] = documents[:, 1:] != documents[:, :-1]
        starts = edge.flatten().nonzero().flatten()
        ends = torch.cat((starts[1:], starts.new_tensor([documents.numel()])))
        return cls(tuple((ends - starts).tolist()))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each piece by the kernel's own causal rule."""
        rows, heads, length, width = q.shape
        if set(self.lengths) == {length}:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        # (B, T) flattened to one axis and cut there: the backward pass of `split` is one concatenation.
        flat = (x.transpose(1, 2).reshape(rows * length, heads, width) for x in (q, k, v))
        cut = [torch.split(x, list(self.lengths)) for x in flat]
        attended = [_attend_piece(*piece) for piece in zip(*cut, strict=True)]
        return torch.cat(attended).view(rows, length, heads, width).transpose(1, 2)


def _attend_piece(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend within one piece; all are (length, H, D)."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(0).transpose(0, 1)


@dataclass(frozen=True)
class MaskLayout:
    """A boolean mask (B, 1, T, T): True where a query (row) sees a key (column)."""

    mask: Tensor

    @classmethod
    def of(cls, documents: Tensor) -> "MaskLayout":
        """Let each position see the earlier ones with its own document number."""
        length = documents.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
        return cls(((documents[:, :, None] == documents[:, None, :]) & causal)[:, None])

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend where the mask is True."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


@dataclass(frozen=True)
class FlexLayout:
    """The block-sparse form of the mask."""

    blocks: BlockMask

    @classmethod
    def of(cls, documents: Tensor) -> "FlexLayout":
        """State the rule as a function of indices, for each row."""
        rows, length = documents.shape

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (documents[row, query] == documents[row, key])

        return cls(create_block_mask(sees, rows, None, length, length, device=str(documents.device)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend by FlexAttention; fused only inside `torch.compile`."""
        out = flex_attention(q, k, v, block_mask=self.blocks)
        assert isinstance(out, Tensor)
        return out


LAYOUTS: Mapping[str, Callable[[Tensor], Layout]] = MappingProxyType(
    {"pieces": PieceLayout.of, "mask": MaskLayout.of, "flex": FlexLayout.of}
)


def choose_layout(device: torch.device, compiled: bool) -> str:
    """Return the name of the way to attend that suits a device.

    Compiled code takes no `pieces`, because their lengths differ from batch to batch and each would compile anew.
    """
    if device.type == "cuda" and compiled:
        return "flex"
    return "pieces" if device.type == "cpu" and not compiled else "mask"
