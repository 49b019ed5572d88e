"""Data parallelism: every rank takes its rows of each step, and holds the whole model (`ddp`) or a part (`fsdp`).

Ranks start from equal weights (they depend on the seed alone), sum their gradients once per step, each already
divided by the weight of the whole global batch, and so stay equal. `torchrun` starts the processes; alone, there is a
world of one and nothing is exchanged. Nothing is pickled: ranks exchange numbers only.
"""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from headrace.trainer.device import choose_device


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device
    aside: dist.ProcessGroup | None = None
    """The same ranks once more, for a thread that exchanges numbers while steps go on."""

    @property
    def is_first(self) -> bool:
        """Whether this rank writes logs, and says what is a checkpoint."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in float64."""
        return self._sum(values, self.device, None)

    def sum_aside(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, asked by the thread of each that is not taking steps."""
        return self._sum(values, torch.device("cpu"), self.aside)

    def _sum(self, values: Sequence[float], device: torch.device, group: dist.ProcessGroup | None) -> list[float]:
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total, group=group)
        return [float(value) for value in total.tolist()]

    def tell(self, values: Sequence[float]) -> list[float]:
        """Return the numbers that the first rank has; those of other ranks do not matter."""
        length = int(self.sum([float(len(values)) if self.is_first else 0.0])[0])
        return self.sum(list(values) if self.is_first else [0.0] * length)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over all ranks."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.sum([0.0])


ALONE = World(0, 1, torch.device("cpu"))
"""One process that trains with no other."""


def _form_group(backend: str) -> None:
    """Form the group of all ranks.

    Where `torchrun` starts processes again, its store still has the addresses of those before (pytorch issue 135712).
    On one node the number of the attempt keeps them apart; nodes count each for itself, so that several need
    `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        dist.init_process_group(backend)
        return
    shared, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]  # torch does not say it exports it
    store = dist.PrefixStore(f"attempt {attempt}", shared)  # type: ignore[attr-defined]  # nor this
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)


@contextmanager
def join_world(device_name: str = "auto") -> Iterator[World]:
    """Join the processes that `torchrun` started (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`), or be alone.

    Backend: NCCL for CUDA, gloo otherwise. On leaving, the group's threads have ended.
    """
    size, device = int(os.environ.get("WORLD_SIZE", "1")), choose_device(device_name)
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    started = not dist.is_initialized()
    if started:
        # The compiler's modules keep the group that exists when they are imported, as a default argument: its threads
        # would outlive `destroy_process_group`, and one that lets go of a tensor while Python ends aborts it.
        importlib.import_module("torch._dynamo")
        _form_group("nccl" if device.type == "cuda" else "gloo")
    aside = dist.new_group(backend="gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device, aside)
    finally:
        dist.destroy_process_group(None if started else aside)
