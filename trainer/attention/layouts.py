"""Softmax attention within documents, in three equal ways.

A *layout* is made once per microbatch from what positions see (`seen`) and the patterns of a model's layers by name
(`patterns`), and used by every layer:

- `pieces`: one SDPA call for each piece. The work is the sum of the squared lengths, and on a CPU it is the fastest
  way, since a boolean mask turns the fused kernel off;
- `mask`: one SDPA call with a boolean mask, the plainest statement of the rule;
- `flex`: the same rule as a `BlockMask` for FlexAttention (Dong et al. 2024), for compiled CUDA, which leaves out whole
  blocks; it has no backward pass on CPU.

Shapes: B rows, H heads, T positions, D width of a head; queries, keys and values are (B, H, T, D).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from headrace.trainer.attention.patterns import ALL, EVERYTHING, Pattern, Window
from headrace.trainer.attention.seen import Seen

Patterns = Mapping[str, Pattern]
ONLY_ALL: Patterns = MappingProxyType({ALL: EVERYTHING})


class Layout(Protocol):
    """Where documents lie in a microbatch, in the form that one way of attending needs."""

    @property
    def seen(self) -> Seen:
        """What positions see."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pattern: str = ALL) -> Tensor:
        """Return the attended values, (B, H, T, D)."""
        ...


@dataclass(frozen=True)
class PieceLayout:
    """Lengths of the pieces in the order of the flattened (row, position), and the masks of those that need one."""

    seen: Seen
    patterns: Patterns
    lengths: tuple[int, ...]
    masks: dict[tuple[int, Pattern], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, seen: Seen, patterns: Patterns = ONLY_ALL) -> "PieceLayout":
        """Cut rows where a piece begins."""
        starts = (seen.positions == 0).flatten().nonzero().flatten()
        ends = torch.cat((starts[1:], starts.new_tensor([seen.positions.numel()])))
        return cls(seen, patterns, tuple((ends - starts).tolist()))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pattern: str = ALL) -> Tensor:
        """Attend within each piece, by the kernel's own causal rule where that is all there is to it."""
        rows, heads, length, width = q.shape
        rule = self.patterns[pattern]
        if set(self.lengths) == {length} and self.seen.visible is None and rule.spares(length):
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.seen.sight != "bidirectional")
        # (B, T) flattened to one axis and cut there: the backward pass of `split` is one concatenation.
        flat = (x.transpose(1, 2).reshape(rows * length, heads, width) for x in (q, k, v))
        cut = zip(*(torch.split(x, list(self.lengths)) for x in flat), strict=True)
        attended = [self._attend_piece(number, q, k, v, rule) for number, (q, k, v) in enumerate(cut)]
        return torch.cat(attended).view(rows, length, heads, width).transpose(1, 2)

    def _attend_piece(self, number: int, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
        """Attend within one piece; all are (length, H, D)."""
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        length = q.shape[2]
        if not pattern.spares(length) and isinstance(pattern, Window) and self.seen.visible is None:
            attended = _attend_window(q, k, v, pattern.size, self.seen.sight == "causal")
        elif self.seen.visible is not None or not pattern.spares(length):
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(number, length, pattern))
        else:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.seen.sight != "bidirectional")
        return attended.squeeze(0).transpose(0, 1)

    def _mask(self, number: int, length: int, pattern: Pattern) -> Tensor:
        """Return the mask of a piece, (length, length); those without visible places differ by their length alone."""
        key = (number if self.seen.visible is not None else -length), pattern
        if key not in self.masks:
            start = sum(self.lengths[:number])
            place = torch.arange(length, device=self.seen.positions.device)
            query, keys = place[:, None], place[None, :]
            sees = pattern.looks(query, keys)
            if self.seen.sight != "bidirectional":
                before = query >= keys
                if self.seen.visible is not None:
                    before = before | self.seen.visible.flatten()[start : start + length]
                sees = sees & before
            self.masks[key] = sees
        return self.masks[key]


def _attend_window(q: Tensor, k: Tensor, v: Tensor, size: int, causal: bool) -> Tensor:
    """Attend within a window, so many queries at a time over the keys that any of them looks at; (1, H, length, D)."""
    length, step, parts = q.shape[2], max(size, 64), []
    for start in range(0, length, step):
        end = min(start + step, length)
        first, last = max(0, start - size + 1), end if causal else min(length, end + size - 1)
        query = torch.arange(start, end, device=q.device)[:, None]
        key = torch.arange(first, last, device=q.device)[None, :]
        sees = Window(size).looks(query, key)
        sees = sees & (query >= key) if causal else sees
        parts.append(
            F.scaled_dot_product_attention(q[:, :, start:end], k[:, :, first:last], v[:, :, first:last], attn_mask=sees)
        )
    return torch.cat(parts, dim=2)


@dataclass(frozen=True)
class MaskLayout:
    """A boolean mask (B, 1, T, T) for each pattern: True where a query (row) sees a key (column)."""

    seen: Seen
    masks: Mapping[str, Tensor]

    @classmethod
    def of(cls, seen: Seen, patterns: Patterns = ONLY_ALL) -> "MaskLayout":
        """Make all the masks."""
        return cls(seen, {name: dense_mask(seen, pattern) for name, pattern in patterns.items()})

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pattern: str = ALL) -> Tensor:
        """Attend where the mask is True."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.masks[pattern])


def dense_mask(seen: Seen, pattern: Pattern = EVERYTHING) -> Tensor:
    """Return what each query looks at, (B, 1, T, T)."""
    rows, length = seen.documents.shape
    row, place = (torch.arange(size, device=seen.documents.device) for size in (rows, length))
    rows_of, query, key = row[:, None, None], place[None, :, None], place[None, None, :]
    sees = seen.rule()(rows_of, rows_of, query, key)
    return (sees & pattern.looks(seen.positions[:, :, None], seen.positions[:, None, :]))[:, None]


@dataclass(frozen=True)
class FlexLayout:
    """The block-sparse form of the mask, for each pattern."""

    seen: Seen
    blocks: Mapping[str, BlockMask]

    @classmethod
    def of(cls, seen: Seen, patterns: Patterns = ONLY_ALL) -> "FlexLayout":
        """Make all the masks."""
        return cls(seen, {name: _block_mask(seen, pattern) for name, pattern in patterns.items()})

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pattern: str = ALL) -> Tensor:
        """Attend by FlexAttention; fused only inside `torch.compile`."""
        out = flex_attention(q, k, v, block_mask=self.blocks[pattern])
        assert isinstance(out, Tensor)
        return out


def _block_mask(seen: Seen, pattern: Pattern) -> BlockMask:
    sees, places = seen.rule(), seen.positions
    rows, length = places.shape

    def looks(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(row, head, query, key) & pattern.looks(places[row, query], places[row, key])

    return create_block_mask(looks, rows, None, length, length, device=str(places.device))


LAYOUTS: Mapping[str, Callable[[Seen, Patterns], Layout]] = MappingProxyType(
    {"pieces": PieceLayout.of, "mask": MaskLayout.of, "flex": FlexLayout.of}
)


def choose_layout(device: torch.device, compiled: bool) -> str:
    """Return the name of the way to attend that suits a device.

    Compiled code takes no `pieces`, because their lengths differ from batch to batch and each would compile anew.
    """
    if device.type == "cuda" and compiled:
        return "flex"
    return "pieces" if device.type == "cpu" and not compiled else "mask"
