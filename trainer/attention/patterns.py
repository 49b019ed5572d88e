"""Patterns: which of the keys that a position sees a layer looks at, by their places in the piece of the document.

Places are counted from a piece's begin, so what a layer computes does not depend on where packing put the piece.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Pattern(Protocol):
    """A hashable rule; `spares` says whether it leaves nothing out of pieces up to a length."""

    def looks(self, query: Tensor, key: Tensor) -> Tensor:
        """Return whether a query looks at a key, from their places."""
        ...

    def spares(self, length: int) -> bool:
        """Return whether all is looked at in pieces of at most this length."""
        ...

    def most(self, length: int) -> int:
        """Return how many keys a query looks at, at most, in a piece of this length."""
        ...


@dataclass(frozen=True)
class Everything:
    """All that is seen."""

    def looks(self, query: Tensor, key: Tensor) -> Tensor:
        """Return True."""
        return torch.ones_like(query - key, dtype=torch.bool)

    def spares(self, length: int) -> bool:
        """Return True."""
        return True

    def most(self, length: int) -> int:
        """Return the length."""
        return length


@dataclass(frozen=True)
class Window:
    """Keys nearer than `size` places, itself among them (Beltagy et al. 2020; Jiang et al. 2023)."""

    size: int

    def looks(self, query: Tensor, key: Tensor) -> Tensor:
        """Return whether the distance is below the size."""
        return (query - key).abs() < self.size

    def spares(self, length: int) -> bool:
        """Return whether no distance is too large."""
        return length <= self.size

    def most(self, length: int) -> int:
        """Return the size."""
        return self.size


@dataclass(frozen=True)
class Blocks:
    """Keys of the nearest blocks, and of each `stride`-th from the first (Child et al. 2019; Zaheer et al. 2020).

    Blocks have `size` places; a query looks at its own block, `local` - 1 beside it (on both sides where they are
    seen), and the blocks 0, `stride`, 2 `stride`, ...
    """

    size: int
    local: int
    stride: int

    def looks(self, query: Tensor, key: Tensor) -> Tensor:
        """Return whether the key's block is near, or one of those that all look at."""
        mine, other = query // self.size, key // self.size
        return ((mine - other).abs() < self.local) | (other % self.stride == 0)

    def spares(self, length: int) -> bool:
        """Return whether all blocks are near, or every block is looked at."""
        return length <= self.size * self.local or self.stride == 1

    def most(self, length: int) -> int:
        """Return the tokens of the near blocks, and of each `stride`-th."""
        return self.size * (self.local + -(-length // (self.size * self.stride)))


EVERYTHING = Everything()
ALL = "all"
"""Name of the pattern that leaves nothing out."""
SPARSE = "sparse"
"""Name of the pattern of a model's layers that leave something out."""
