"""The stream that layers add to: plain, with skips from the first half to the second, or chosen anew by each layer.

- `plain`: x + f(x).
- `unet`: the second half's layers also take, times a learned number, what went into the first half's layer of the same
  distance from the middle (Ronneberger et al. 2015; as in the modded-nanogpt runs).
- `attention`: each half of a layer reads a weighted mean of the embedding and all outputs before it; weights are a
  softmax over them of a learned vector with their norms, at first all equal (Attention Residuals, Kimi Team 2026).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DepthMix(nn.Module):
    """A weighted mean of earlier outputs, position by position."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Mix outputs, each (B, T, C)."""
        stacked = torch.stack(list(outputs))
        scores = F.rms_norm(stacked, stacked.shape[-1:], None, self.eps) @ self.query.to(stacked.dtype)
        weights = scores.float().softmax(dim=0).to(stacked.dtype)
        return (weights[..., None] * stacked).sum(dim=0)
