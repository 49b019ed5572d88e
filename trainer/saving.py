"""Writing checkpoints while training goes on.

A step stands still only while this rank's part is copied into host memory; a thread then writes it, together with those
of the other ranks. One checkpoint is written at a time: the next waits for it. What goes wrong is raised at the next
step, on all ranks.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from headrace.trainer.checkpoint import prune_checkpoints
from headrace.trainer.checkpoint_files import Share, save_checkpoint
from headrace.trainer.parallel import World
from headrace.trainer.run_config import CheckpointSection
from headrace.trainer.tensor_files import Part, part_of

_log = logging.getLogger(__name__)


class HostCopies:
    """Copies of tensors in host memory, which is kept from one checkpoint to the next (and pinned, for a GPU)."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, part: Part) -> Part:
        """Copy a part; what was copied before is written over."""
        for name, tensor in part.tensors.items():
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != tensor.shape:
                self._buffers[name] = buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            buffer.copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in part.tensors.values()):
            torch.cuda.synchronize()
        return part._replace(tensors={name: self._buffers[name] for name in part.tensors})


class Saver:
    """Writes a run's checkpoints in a thread; a context manager, which on leaving waits for the one under way."""

    def __init__(self, folder: Path, section: CheckpointSection, world: World) -> None:
        self._folder, self._section, self._world = folder, section, world
        self._copies = HostCopies()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def start(
        self,
        step: int,
        model: Mapping[str, Tensor],
        moments: Mapping[str, Tensor],
        values: Any,
        back_to: int | None = None,
    ) -> None:
        """Copy the state of a step and begin to write it; `values` is the first rank's state, others' generators.

        The newest checkpoint until the step `back_to` is kept, and those after it, however old.

        Raises:
            StoreError: the one before could not be written.
        """
        self.wait()
        rank, size = self._world.rank, self._world.size
        parts = [self._copies.copy(part_of(tensors, rank, size)) for tensors in (model, moments)]
        self._written = self._thread.submit(self._write, step, Share(parts[0], parts[1], values), back_to)

    def _write(self, step: int, share: Share, back_to: int | None) -> None:
        section = self._section
        tidy = partial(prune_checkpoints, self._folder, section.keep, section.keep_every, back_to)
        save_checkpoint(self._folder, step, share, self._world, tidy)

    @property
    def has_failed(self) -> bool:
        """Whether the newest is known not to have been written; `wait` raises why."""
        written = self._written
        return written is not None and written.done() and written.exception() is not None

    def wait(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            StoreError: it could not be written, by this rank or another.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is not None and self.has_failed:
            _log.error("%s", self._written and self._written.exception())
