"""The log of a run: one JSON object per step in `metrics.jsonl`, TensorBoard where it is installed, W&B where asked.

A resumed run cuts the log back to the step of its checkpoint, so that the finished log is the one of a run that was
never interrupted, except for `TIMINGS`. W&B keeps what it was told; it has steps that were taken twice twice.
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.pipeline.errors import RecipeError, StoreError

TIMINGS = frozenset({"seconds", "tokens_per_second", "mfu"})
"""Keys whose values depend on the machine and the day."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log in order, without a last line that a kill has cut short."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise StoreError(f"{path}: a line is not JSON ({error}); remove the file to go on without it") from error


class MetricsLog:
    """Appends records to `out/metrics.jsonl`, `out/tensorboard` and what `board` opens; a context manager.

    Attributes:
        last: the newest record, or None in an empty log.
    """

    def __init__(self, out: Path, step: int, board: Callable[[], Any] | None = None) -> None:
        self._out = out
        self._wandb = board() if board is not None else None
        if self._wandb is not None:  # its own numbers only rise, so it would drop the steps of a run that went back
            self._wandb.define_metric("*", step_metric="step")
        self._open(step)

    def _open(self, step: int) -> None:
        path = self._out / "metrics.jsonl"
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        aside = path.with_suffix(".jsonl.tmp")
        aside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        os.replace(aside, path)
        self.last: dict[str, Any] | None = kept[-1] if kept else None
        self._file = path.open("a", encoding="utf-8")
        self._board = _open_tensorboard(self._out / "tensorboard", step)

    def cut(self, step: int) -> None:
        """Forget what came after a step, because the run goes back to it."""
        self._close()
        self._open(step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the record of a step; it reaches the file before this returns."""
        self.last = dict(record)
        self._file.write(json.dumps(self.last, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in self.last.items():
                if name != "step":
                    self._board.add_scalar(name, value, self.last["step"])
        if self._wandb is not None:
            self._wandb.log(self.last)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if error is None else 1)

    def _close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _open_tensorboard(folder: Path, step: int) -> Any | None:
    """Return torch's writer, or None where the extra `tensorboard` is not installed."""
    if find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # protobuf's deprecations are not this run's concern
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=step + 1)


def open_wandb(project: str, name: str, plan: str, config: Mapping[str, Any], out: Path) -> Any:
    """Return a run of Weights & Biases; one that resumes is the same there, since its id is the plan's.

    Raises:
        RecipeError: it is asked for and not installed.
    """
    if find_spec("wandb") is None:
        raise RecipeError("log.wandb: the package wandb is not installed; install it, or leave the key out")
    import wandb  # type: ignore[import-not-found]  # optional

    return wandb.init(
        project=project, name=name, id=plan[:32], resume="allow", config=dict(config), dir=str(out), reinit=True
    )
