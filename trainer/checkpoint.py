"""Checkpoints: whole or not at all, verified before use, and nothing in them can run.

    checkpoints/step-00000100/
        model.safetensors       parameters by name
        optimizer.safetensors   moments by parameter name, and the average of the weights
        state.json              step, plan, stream, generators, environment, configuration
        manifest.json           step, plan, stream; size and sha256 of each file; its own digest; written last

Several ranks write `model-00001-of-00004.safetensors`, `optimizer-...` each (`tensor_files`), and `generators-...json`
all but the first, whose generators are in the state. Any number of ranks reads them, whoever wrote them.

A checkpoint is written in a folder aside, synced and renamed (`checkpoint_files`), so a name `step-...` is a finished
one. Reading hashes every file before any is decoded. Tensors are safetensors and the rest is JSON: pickle is never
asked, and a file that the manifest does not name is never opened.
"""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.hashing import digest_file, digest_json
from headrace.trainer.checkpoint_files import MANIFEST, STATE, TENSORS, checkpoint_path, files_of
from headrace.trainer.ema import SUFFIX, split_average
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.parallel import ALONE, World
from headrace.trainer.sharded import is_sharded
from headrace.trainer.tensor_files import TensorFiles

SCHEMA_VERSIONS = (1, 2)
"""Of a checkpoint that one rank wrote, and several."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; `state` is its `state.json`, `ranks` is how many wrote it."""

    path: Path
    state: Mapping[str, Any]
    ranks: int = 1

    @property
    def step(self) -> int:
        """Number of steps that were taken."""
        return int(self.state["step"])

    def model_tensors(self, model: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Read the parameters by name; this rank's rows of those that are sharded in a model that is given by name."""
        return self._read(0, model or {})

    def optimizer_tensors(self, model: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Read the optimizer's moments by `NAME/moment`, and an average of the weights by `NAME/ema`.

        Of those whose parameter NAME is sharded in a model that is given by name, this rank's rows.
        """
        return self._read(1, model or {})

    def _read(self, kind: int, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        files = TensorFiles(self._paths(kind))
        read = {}
        for name in files.names:
            parameter = model.get(name.partition("/")[0])
            if is_sharded(parameter) and files.shape(name) == tuple(parameter.shape):
                read[name] = files.like(name, parameter)
            else:
                read[name] = files.whole(name)
        return read

    def generators(self, rank: int, size: int) -> dict[str, Any] | None:
        """Return the states of a rank's generators; None where there were none of it in a world of that size."""
        if rank == 0:
            return dict(self.state["generators"])
        if size != self.ranks:
            return None
        states: dict[str, Any] = json.loads((self.path / files_of(rank, size)[-1]).read_text(encoding="utf-8"))
        return states

    def _paths(self, kind: int) -> list[Path]:
        return [self.path / files_of(rank, self.ranks)[kind] for rank in range(self.ranks)]


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify a checkpoint and read its state.

    Raises:
        IntegrityError: a file is missing, is not of the size and sha256 that the manifest names, or cannot be decoded.
    """
    return _open(path, ALONE)


def _open(path: Path, world: World) -> Checkpoint:
    """Verify a rank's share of the files of a checkpoint, and read its state."""
    try:
        ranks = _verify(path, world)
        checkpoint = Checkpoint(path, json.loads((path / STATE).read_text(encoding="utf-8")), ranks)
        for kind in range(len(TENSORS)):
            TensorFiles(checkpoint._paths(kind))
        for rank in range(world.rank or world.size, ranks, world.size):
            checkpoint.generators(rank, ranks)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from error
    return checkpoint


def open_together(path: Path, world: World) -> Checkpoint:
    """Verify a checkpoint, of which each rank takes a share of the files, and read its state.

    Raises:
        IntegrityError: on all ranks, where it is harmed for one.
    """
    checkpoint, fault = None, None
    try:
        checkpoint = _open(path, world)
    except IntegrityError as error:
        fault = error
    harmed = world.sum([float(fault is not None)])[0] > 0
    if checkpoint is None or harmed:
        raise fault or IntegrityError(f"{path}: not a whole checkpoint: another rank says why")
    return checkpoint


def manifest_digest(path: Path) -> str:
    """Return the digest of a verified checkpoint's manifest, which names all that is in it."""
    return str(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["digest"])


def _verify(path: Path, world: World) -> int:
    """Return how many ranks wrote a checkpoint."""
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    digest = manifest.pop("digest")
    if digest_json(manifest) != digest:
        raise ValueError("manifest.json is not what its own digest says")
    if manifest["schema_version"] not in SCHEMA_VERSIONS:
        raise ValueError(f"schema version {manifest['schema_version']}; this program reads {SCHEMA_VERSIONS}")
    ranks = int(manifest.get("ranks", 1))
    names = [name for rank in range(min(ranks, len(manifest["files"]))) for name in files_of(rank, ranks)]
    if not names or manifest["files"].keys() != set(names):
        raise ValueError(f"the files that the manifest names are not those that {ranks} ranks write")
    for name in names[world.rank :: world.size]:
        if digest_file(path / name) != manifest["files"][name]["sha256"]:
            raise ValueError(f"{name} is not what the manifest's sha256 says")
    return ranks


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of finished checkpoints, oldest step first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's name says."""
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(folder: Path, world: World = ALONE, until: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, or None where there is none at all; a bad one is logged as error.

    With `until`, those after that step do not count. All ranks ask together, each verifies a share of the files, and
    all go on from the same one.

    Raises:
        IntegrityError: there are checkpoints and none of them verifies.
    """
    steps = [int(step) for step in world.tell([float(step_of(path)) for path in find_checkpoints(folder)])]
    steps = [step for step in steps if until is None or step <= until]
    for step in reversed(steps):
        checkpoint = None
        try:
            checkpoint = _open(checkpoint_path(folder, step), world)
        except IntegrityError as error:
            _log.error("%s; trying the one before", error)
        if world.sum([float(checkpoint is None)])[0] == 0:
            return checkpoint
    if steps:
        raise IntegrityError(f"{folder}: none of {len(steps)} checkpoints is whole; remove them to start anew")
    return None


def set_aside_newer(folder: Path, step: int) -> None:
    """Rename checkpoints after `step` to `corrupt-...`, so that a run which resumes there does not count them."""
    for path in find_checkpoints(folder):
        if step_of(path) > step:
            aside = path.with_name(f"corrupt-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def prune_checkpoints(folder: Path, keep: int, keep_every: int | None = None, back_to: int | None = None) -> None:
    """Remove all but the newest `keep` checkpoints and those of every `keep_every`-th step, and what was left aside.

    The newest until the step `back_to` stays, too, with all after it: one of them is the newest until a later step.
    """
    paths = find_checkpoints(folder)
    kept = {*paths[-keep:], *(path for path in paths if keep_every and step_of(path) % keep_every == 0)}
    if back_to is not None:
        before = [step for step in map(step_of, paths) if step <= back_to]
        kept |= {path for path in paths if step_of(path) >= max(before, default=0)}
    for path in [*(path for path in paths if path not in kept), *folder.glob(".step-*")]:
        shutil.rmtree(path)


def restore_model(checkpoint: Checkpoint, device: torch.device | str = "cpu", averaged: bool = False) -> Transformer:
    """Build the model that a checkpoint holds, with its parameters, or with their moving average.

    Raises:
        InputError: there is no average in it.
    """
    model = build_model(ModelConfig.model_validate(checkpoint.state["model"]), seed=0, device=device)
    model.load_state_dict(checkpoint.model_tensors())
    if averaged:
        _, average = split_average(checkpoint.optimizer_tensors())
        if not average:
            raise InputError(
                f"{checkpoint.path}: no average of the weights; a run file asks for one: optimizer.ema = 0.999"
            )
        model.load_state_dict({name.removesuffix(SUFFIX): tensor for name, tensor in average.items()}, strict=False)
    return model
