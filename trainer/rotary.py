"""Rotary positions (Su et al. 2021; the rotate-half convention), taken from the batch."""

import torch
from torch import Tensor

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
