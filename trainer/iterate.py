"""A stream as an iterator that can stop and go on anywhere: by numpy batches here, by tensors in `trainer.dataset`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from headrace.trainer.batch import Batch, Reweighted
from headrace.trainer.run_config import load_run
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.mending import Quarantined


class Batches:
    """Yields the batches of a stream in order, from the last state that was loaded on.

    Args:
        data: section `[data]` of a run file: its path, a mapping, or a `DataConfig`.
        seed: of the order; where a path is given, the run file's.
        rank: this process among those that share a global batch.
        world: how many they are.
    """

    def __init__(
        self, data: Path | str | Mapping[str, Any] | DataConfig, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if isinstance(data, Path | str):
            run = load_run(Path(data)).beside(Path(data).parent)
            data, seed = run.data, run.run.seed
        self._config = data if isinstance(data, DataConfig) else DataConfig.model_validate(data)
        self._seed, self.rank, self.world = seed, rank, world
        self._opened: tuple[int, Stream] | None = None
        self._log: tuple[Reweighted, ...] = ()
        self._quarantined: tuple[Quarantined, ...] = ()
        self._seen = 0

    @property
    def stream(self) -> Stream:
        """The stream, opened in this process when it is first asked for."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._quarantined = self._known()
            self._opened = os.getpid(), open_stream(self._config, self._seed, self._log)
            self._opened[1].mend(self._quarantined)
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open stream behind: another process opens its own."""
        return self.__dict__ | {"_opened": None, "_quarantined": self._known()}

    def _known(self) -> tuple[Quarantined, ...]:
        """Return the replaced windows that this process, or the one that it was forked from, knows of."""
        return self._quarantined if self._opened is None else tuple(self._opened[1].quarantined)

    def __iter__(self) -> Iterator[Any]:
        """Yield batches until the corpora are used up; for most plans there is no end."""
        yield from self._iterate(self.stream.plan.step_of(self._seen), 1)

    def _iterate(self, step: int, stride: int) -> Iterator[Any]:
        """Yield every `stride`-th batch from a step on."""
        plan = self.stream.plan
        while (end := self.stream.num_steps) is None or step < end:  # the mixture may be changed on the way
            batch = self.stream.batch(step, self.rank, self.world)
            step += stride
            self._seen = plan.first_sample(step)
            yield self.convert(batch)

    def convert(self, batch: Batch) -> Any:
        """Return what is yielded for a batch: here the batch itself."""
        return batch

    def reweigh(self, step: int, weights: Sequence[float]) -> None:
        """Give the corpora other weights from a step on; see `Stream.reweigh`."""
        self.stream.reweigh(step, weights)
        self._log = self.stream.log

    @property
    def log(self) -> tuple[Reweighted, ...]:
        """Changes of weights so far, to be kept beside the state."""
        return self._log

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Windows that this process found damaged and replaced (`damaged = "replace"`), to be kept beside the state."""
        return tuple(self.stream.quarantined)

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain JSON, below 1 KB."""
        return self.stream.state_dict(self._seen)

    def load_state_dict(
        self, state: Mapping[str, Any], log: Sequence[Reweighted] = (), quarantined: Sequence[Quarantined] = ()
    ) -> Self:
        """Go to the position of a state; the next iterator begins there, on any number of ranks and workers.

        Raises:
            RecipeError: the state is of another plan, and what differs is told; of another log, or of other replaced
                windows.
        """
        self._seen = self.stream.restore(dict(state), log, list(map(Quarantined._make, quarantined)))
        self._log, self._quarantined = self.stream.log, tuple(self.stream.quarantined)
        return self
