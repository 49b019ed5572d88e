"""The stream as PyTorch takes it: an `IterableDataset` for `DataLoader` and torchdata's `StatefulDataLoader`."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from headrace.pipeline.errors import RecipeError
from headrace.trainer.batch import Batch
from headrace.trainer.iterate import Batches

FIELDS = ("tokens", "targets", "positions", "documents", "sources")


class Stream(Batches, IterableDataset[dict[str, Any]]):
    """Yields each step's batch as a dictionary of tensors; give it to a loader with `batch_size=None`.

    Of `w` loader workers, worker `i` makes the steps `i`, `i + w`, ... from the position on, which the loader puts in
    order again. A state that a worker saved goes back to as many workers, as `StatefulDataLoader` asks anyway; a state
    of the dataset in the training process goes to any number.
    """

    _of_worker = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches, this worker's where there are several."""
        worker = get_worker_info()
        first = 0 if worker is None or self._of_worker else worker.id
        step = self.stream.plan.step_of(self._seen) + first
        self._of_worker, self._seen = worker is not None, self.stream.plan.first_sample(step)
        yield from self._iterate(step, 1 if worker is None else worker.num_workers)

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain JSON, below 1 KB."""
        worker = get_worker_info()
        begun = worker is not None and self._of_worker  # before that it is where all of them are
        return super().state_dict() | ({"worker": [worker.id, worker.num_workers]} if worker and begun else {})

    def load_state_dict(self, state: Mapping[str, Any], log: Any = (), quarantined: Any = ()) -> "Stream":
        """Go to the position of a state; see `Batches.load_state_dict`."""
        super().load_state_dict(state, log, quarantined)
        worker, saved = get_worker_info(), state.get("worker")
        if saved and (worker is None or saved[1] != worker.num_workers):
            raise RecipeError(f"the state is of loader worker {saved[0]} of {saved[1]}; load it with as many workers")
        self._of_worker = bool(saved)
        return self

    def convert(self, batch: Batch) -> dict[str, Any]:
        """Return the arrays of a batch as tensors that share their memory."""
        tensors = {name: torch.from_numpy(getattr(batch, name)) for name in FIELDS} | {"step": torch.tensor(batch.step)}
        return tensors | ({"columns": dict(batch.columns)} if batch.columns else {})
