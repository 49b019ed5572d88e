"""What those who use a model do where it may be sharded (`fsdp`); where it is not, nothing of it is imported."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from headrace.trainer.parallel import World

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor | None) -> "TypeGuard[DTensor]":
    """Return whether this rank has some rows of a tensor."""
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor; where it is sharded, all ranks ask together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Return what this rank has of a tensor, in place: its rows where it is sharded, else all."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def first_row(tensor: "DTensor") -> int:
    """Return the number of this rank's first row of a tensor."""
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]
    return int(chunk.offsets[0])


def cut_like(tensor: "DTensor", rows: Tensor) -> "DTensor":
    """Return this rank's rows as part of a tensor of the same shape, cut as another is."""
    from torch.distributed.tensor import DTensor

    mesh, places = tensor.device_mesh, tensor.placements
    return DTensor.from_local(rows, mesh, places, run_check=False, shape=tensor.shape, stride=tensor.stride())


def whole_of(tensor: Tensor, part: Tensor) -> Tensor:
    """Return the whole of what this rank has a part of, as of a tensor of that shape; all ranks ask together."""
    return cut_like(tensor, part).full_tensor() if is_sharded(tensor) else part


def own_rows(tensor: Tensor, whole: Tensor) -> Tensor:
    """Return the part of a whole that this rank has of a tensor of its shape."""
    if not is_sharded(tensor):
        return whole
    start = first_row(tensor)
    return whole[start : start + len(tensor.to_local())]


@torch.no_grad()
def put_rows(tensor: Tensor, whole: Tensor) -> None:
    """Fill a tensor with a whole of its shape, of which this rank may have some rows."""
    local(tensor).copy_(own_rows(tensor, whole))


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Hold the whole model on every rank, so that each computes without the others, as often as it likes.

    All ranks enter and leave together; in between no gradients are made.
    """
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "unshard")]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()


def clip_gradients(parameters: Iterable[Tensor], limit: float | None, world: World) -> float:
    """Scale gradients down where the norm of all of them, on all ranks, is above a limit; return what it was."""
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    rows = [gradient.to_local() for gradient in gradients if is_sharded(gradient)]
    if not rows:
        return float(nn.utils.clip_grad_norm_(parameters, limit or float("inf")))
    whole = [gradient for gradient in gradients if not is_sharded(gradient)]
    (squares,) = world.sum([float(nn.utils.get_total_norm(rows)) ** 2])
    norm: float = (squares + float(nn.utils.get_total_norm(whole)) ** 2) ** 0.5
    if limit is not None and norm > limit:
        torch._foreach_mul_([*rows, *whole], limit / (norm + 1e-6))
    return norm
