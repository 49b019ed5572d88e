"""Checkpoints: whole or not at all, verified before use, and nothing in them can run.

    checkpoints/step-00000100/
        model.safetensors       parameters by name
        optimizer.safetensors   moments by parameter name, and the average of the weights
        state.json              step, plan, stream, generators, environment, configuration
        manifest.json           step, plan, stream; size and sha256 of each file; its own digest; written last

A checkpoint is written in a folder aside, synced and renamed, so a name `step-...` is a finished one. Reading hashes
every file before any is decoded. Tensors are safetensors and the rest is JSON: pickle is never asked.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from headrace.pipeline.errors import InputError, IntegrityError, StoreError
from headrace.pipeline.hashing import digest_file, digest_json
from headrace.trainer.ema import SUFFIX, split_average
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.model_config import ModelConfig

SCHEMA_VERSION = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; `state` is its `state.json`."""

    path: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Number of steps that were taken."""
        return int(self.state["step"])

    def model_tensors(self) -> dict[str, Tensor]:
        """Read the parameters by name."""
        return load_file(self.path / "model.safetensors")

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Read the optimizer's moments by `NAME/moment`, and an average of the weights by `NAME/ema`."""
        return load_file(self.path / "optimizer.safetensors")


def save_checkpoint(
    folder: Path, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write a checkpoint under `folder`, named by `state["step"]`, and return its path.

    `state` is JSON and holds at least `step`, `plan` and `stream`. One of the same step is replaced.

    Raises:
        StoreError: the disk is full or the folder cannot be written; what was written so far is removed.
    """
    final = checkpoint_path(folder, state["step"])
    aside = folder / f".{final.name}.{os.getpid()}"
    try:
        _write(aside, model, optimizer, state)
        _put(aside, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise StoreError(f"{final}: the checkpoint cannot be written: {error}") from error
    return final


def _write(aside: Path, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write every file, the manifest last, and wait until they are on the disk."""
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(_plain(model), aside / "model.safetensors")
    save_file(_plain(optimizer), aside / "optimizer.safetensors")
    _write_json(aside / "state.json", state)
    _write_json(aside / "manifest.json", _manifest(aside, state))
    for file in aside.iterdir():
        _sync(file)
    _sync(aside)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _manifest(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    body = {
        "schema_version": SCHEMA_VERSION,
        "kind": "checkpoint",
        **{key: state[key] for key in ("step", "plan", "stream")},
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest_file(folder / name)} for name in FILES
        },
    }
    return {**body, "digest": digest_json(body)}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(aside: Path, final: Path) -> None:
    """Give a finished folder its name; what has that name already goes aside first and is then removed."""
    old = aside.with_suffix(".old")
    if final.exists():
        os.rename(final, old)
    os.rename(aside, final)
    _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify a checkpoint and read its state.

    Raises:
        IntegrityError: a file is missing, is not of the size and sha256 that the manifest names, or cannot be decoded.
    """
    try:
        _verify(path)
        checkpoint = Checkpoint(path, json.loads((path / "state.json").read_text(encoding="utf-8")))
        for name in FILES[:2]:
            _check_tensors(path / name)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from error
    return checkpoint


def manifest_digest(path: Path) -> str:
    """Return the digest of a verified checkpoint's manifest, which names all that is in it."""
    return str(json.loads((path / "manifest.json").read_text(encoding="utf-8"))["digest"])


def _verify(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    digest = manifest.pop("digest")
    if digest_json(manifest) != digest:
        raise ValueError("manifest.json is not what its own digest says")
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {manifest['schema_version']}; this program reads {SCHEMA_VERSION}")
    for name in FILES:
        if digest_file(path / name) != manifest["files"][name]["sha256"]:
            raise ValueError(f"{name} is not what the manifest's sha256 says")


def _check_tensors(path: Path) -> None:
    """Read a safetensors header, which raises where it does not describe the file."""
    with safe_open(path, framework="pt") as file:
        file.keys()


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of finished checkpoints, oldest step first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def latest_checkpoint(folder: Path, until: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, or None where there is none at all; a bad one is logged as error.

    With `until`, those after that step do not count.

    Raises:
        IntegrityError: there are checkpoints and none of them verifies.
    """
    paths = [path for path in find_checkpoints(folder) if until is None or path <= checkpoint_path(folder, until)]
    for path in reversed(paths):
        try:
            return open_checkpoint(path)
        except IntegrityError as error:
            _log.error("%s; trying the one before", error)
    if paths:
        raise IntegrityError(f"{folder}: none of {len(paths)} checkpoints is whole; remove them to start anew")
    return None


def set_aside_newer(folder: Path, step: int) -> None:
    """Rename checkpoints after `step` to `corrupt-...`, so that a run which resumes there does not count them."""
    for path in find_checkpoints(folder):
        if path > checkpoint_path(folder, step):
            aside = path.with_name(f"corrupt-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def prune_checkpoints(folder: Path, keep: int, back_to: int | None = None) -> None:
    """Remove all but the newest `keep` checkpoints, and what killed writers left aside.

    The newest until the step `back_to` stays, too.
    """
    paths = find_checkpoints(folder)
    kept = set(paths[-keep:])
    if back_to is not None:
        kept |= set([path for path in paths if path <= checkpoint_path(folder, max(0, back_to))][-1:])
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
