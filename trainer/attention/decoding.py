"""Attention of new tokens to all before them, of one document, whose keys and values are remembered."""

import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.trainer.attention.patterns import Pattern


def attend_cached(
    q: Tensor, k: Tensor, v: Tensor, memory: dict[str, Tensor], pattern: Pattern, visible: Tensor | None = None
) -> Tensor:
    """Return the attended values (B, H, T, D) of new tokens, and add their keys and values to the memory.

    Queries have H heads, keys and values K; all of a memory's rows have seen the same number of tokens. Of the new
    tokens those that are `visible` (B, T) are seen by those before them, too.
    """
    if memory:
        k, v = torch.cat((memory["keys"], k), dim=2), torch.cat((memory["values"], v), dim=2)
    memory["keys"], memory["values"] = k, v
    shared = q.shape[1] // k.shape[1]
    if shared > 1:
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    key = torch.arange(k.shape[2], device=k.device)[None, :]
    query = key[:, k.shape[2] - q.shape[2] :].T
    sees = query >= key
    if visible is not None:
        sees = sees | F.pad(visible, (k.shape[2] - visible.shape[1], 0))[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=sees & pattern.looks(query, key))
