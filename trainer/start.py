"""A run that starts from a checkpoint of another: to cool down from any of its steps, or to go on with other data.

Weights and moments are taken from it, and steps count on, so the first batch is the one that comes next and the
schedule is at that step; with `recount` both begin anew. The checkpoint is in the new run's plan by the digest of its
manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.trainer.checkpoint import (
    Checkpoint,
    find_checkpoints,
    latest_checkpoint,
    manifest_digest,
    open_checkpoint,
    open_together,
    step_of,
)
from headrace.trainer.checkpoint_files import MANIFEST, checkpoint_path
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile, RunSection


@dataclass(frozen=True)
class Start:
    """Where a run starts: a checkpoint by place, step and digest, and what is taken from it."""

    path: Path
    step: int
    digest: str
    with_optimizer: bool
    recount: bool

    @property
    def first_step(self) -> int:
        """The step, from 0, that the new run begins with."""
        return 0 if self.recount else self.step

    def intent(self) -> dict[str, Any]:
        """Return what the plan of the new run says of it."""
        return {
            "checkpoint": self.digest,
            "step": self.step,
            "optimizer": self.with_optimizer,
            "recount": self.recount,
        }

    def open(self, model: ModelConfig, world: World) -> Checkpoint:
        """Verify the checkpoint, all ranks together, and read its state.

        Raises:
            InputError: it is not there any more.
            IntegrityError: it is damaged, or another than the plan names.
            RecipeError: it holds another model.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path}: the checkpoint that the run starts from is not there any more")
        checkpoint = open_together(self.path, world)
        if manifest_digest(self.path) != self.digest:
            raise IntegrityError(f"{self.path}: not the checkpoint that the run started from; that was {self.digest}")
        now, then = (
            model.model_dump(mode="json"),
            ModelConfig.model_validate(checkpoint.state["model"]).model_dump(mode="json"),
        )
        changed = [f"model.{key} is {now[key]!r}, was {then[key]!r}" for key in now if now[key] != then[key]]
        if changed:
            raise RecipeError(f"run.start: {self.path} holds another model: {'; '.join(changed)}")
        return checkpoint


def find_start(run: RunFile, known: Mapping[str, Any] | None, world: World) -> Start | None:
    """Return where a run starts, the same on all ranks; None where from its initial values.

    Args:
        run: the run file.
        known: what its record says of it (`Start.intent`), where it was begun before.
        world: the ranks.

    Raises:
        InputError: there is no such checkpoint.
        IntegrityError: there are some and none is whole.
        RecipeError: it has taken more steps than the run has.
    """
    section = run.run
    if section.start is None:
        return None
    how = section.start_optimizer, section.recount
    if known is not None:
        return Start(_place(section, known["step"]), known["step"], known["checkpoint"], *how)
    path = _find(section, world)
    start = Start(path, open_together(path, world).step, manifest_digest(path), *how)
    if start.first_step >= section.steps:
        raise RecipeError(
            f"run.steps = {section.steps}: {path} has taken {start.step} steps, and they count on; "
            "give more, or write recount = true to count from 0"
        )
    return start


def _place(section: RunSection, step: int) -> Path:
    """Return where the checkpoint of a step lies, if it does."""
    folder = Path(section.start or "")
    if (folder / MANIFEST).exists():
        return folder
    return checkpoint_path(_checkpoints(folder), step)


def _checkpoints(folder: Path) -> Path:
    return folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder


def _find(section: RunSection, world: World) -> Path:
    folder = Path(section.start or "")
    where = f"run.start = {section.start!r}"
    if (folder / MANIFEST).exists():
        if section.start_step not in (None, open_checkpoint(folder).step):
            raise InputError(f"{where}: a checkpoint, but not of run.start_step = {section.start_step}")
        return folder
    found = find_checkpoints(_checkpoints(folder))
    if not found:
        raise InputError(f"{where}: no checkpoint there; name what `headrace train --out` was given, or a checkpoint")
    if section.start_step is None:
        newest = latest_checkpoint(_checkpoints(folder), world)
        if newest is None:
            raise InputError(f"{where}: its checkpoints are gone")
        return newest.path
    path = checkpoint_path(_checkpoints(folder), section.start_step)
    if path not in found:
        steps = ", ".join(str(step_of(one)) for one in found)
        raise InputError(f"{where}: no checkpoint of run.start_step = {section.start_step}; there are those of {steps}")
    return path
