"""Block-sparse attention: near blocks, and each `block_stride`-th from the first (Child et al. 2019; BigBird 2020).

On a GPU FlexAttention leaves out the blocks that nobody looks at; on a CPU a mask says the same, at the cost of all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from headrace.trainer.attention.contract import register
from headrace.trainer.attention.full import FullAttention
from headrace.trainer.attention.patterns import SPARSE, Blocks, Pattern

if TYPE_CHECKING:
    from headrace.trainer.model_config import ModelConfig


@register
class BlockSparseAttention(FullAttention):
    """Every layer looks at the same blocks."""

    name: ClassVar[str] = "block_sparse"

    @classmethod
    def pattern_of(cls, config: "ModelConfig", layer: int) -> str:
        """Return the one pattern's name."""
        return SPARSE

    @classmethod
    def patterns(cls, config: "ModelConfig") -> Mapping[str, Pattern]:
        """Return the one pattern."""
        return {SPARSE: Blocks(config.block_size, config.local_blocks, config.block_stride)}
