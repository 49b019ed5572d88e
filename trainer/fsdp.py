"""Fully sharded data parallelism: every rank holds a part of each matrix, and the whole of one layer while it computes.

Matrices are cut along their first dimension by FSDP2 (`fully_shard`; Zhao et al. 2023), each block by itself and the
rest with the root. Vectors (norms, gains) stay whole on every rank, in float32: they are small, and rounding them would
change results. In bfloat16, blocks are gathered in bfloat16, half the bytes; what `autocast` would round is all that is
rounded, and what computes in float32 (`Float32Linear`, embedding and head) is gathered so. Gradients are summed in
float32, not averaged: each rank's is already divided by the weight of the global batch.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from headrace.trainer.linear import Float32Linear
from headrace.trainer.model import MixedBlock, Transformer
from headrace.trainer.parallel import World


def shard_model(model: Transformer, world: World, bf16: bool) -> None:
    """Leave a part of each matrix on this rank's device; what the model computes does not change.

    The model may lie in host memory: one block after another is taken to the device and cut.
    """
    mesh = init_device_mesh(world.device.type, (world.size,))
    whole = {parameter for parameter in model.parameters() if parameter.ndim < 2}
    for vector in whole:
        vector.data = vector.data.to(world.device)
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    rounded = MixedPrecisionPolicy(torch.bfloat16 if bf16 else None, torch.float32, cast_forward_inputs=False)
    for module in model.modules():
        if isinstance(module, Float32Linear):
            fully_shard(module, mesh=mesh, mp_policy=exact)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=rounded, ignored_params=whole)
        if isinstance(block, MixedBlock):
            register_fsdp_forward_method(block, "halves")
    # The head is used after the model's forward pass, so what the root holds stays gathered until the backward pass.
    fully_shard(model, mesh=mesh, mp_policy=exact, reshard_after_forward=False, ignored_params=whole)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo sums, and knows no sum that is scaled
