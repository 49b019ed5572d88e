"""Writing checkpoints: what lies in one, and how all ranks write it together, whole or not at all.

Each rank writes its part of the tensors into a folder aside and syncs it; the first adds state and manifest, gives the
folder its name and removes what is too old. After each of these the ranks tell each other whether it went well, so that
a failure of one is an error of all.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from headrace.pipeline.errors import StoreError
from headrace.pipeline.hashing import digest_file, digest_json
from headrace.trainer.parallel import ALONE, World
from headrace.trainer.tensor_files import Part

STATE, MANIFEST = "state.json", "manifest.json"
TENSORS = ("model", "optimizer")
FILES = ("model.safetensors", "optimizer.safetensors", STATE)
"""What one rank alone writes, beside the manifest."""


def files_of(rank: int, size: int) -> tuple[str, ...]:
    """Return what a rank writes, beside the manifest: tensors, and the first the state, others their generators'."""
    if size == 1:
        return FILES
    end = f"{rank + 1:05d}-of-{size:05d}"
    return *(f"{name}-{end}.safetensors" for name in TENSORS), STATE if rank == 0 else f"generators-{end}.json"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


class Share(NamedTuple):
    """What one rank writes: its part of parameters and moments, and `state.json`, or a later rank's generators."""

    model: Part
    optimizer: Part
    values: Mapping[str, Any]


def save_checkpoint(
    folder: Path, step: int, share: Share, world: World = ALONE, tidy: Callable[[], None] | None = None
) -> Path:
    """Write the checkpoint of a step under `folder` together with all other ranks, and return its path.

    The first rank's `values` hold at least `step`, `plan` and `stream`. A checkpoint of the same step is replaced.
    `tidy` is called on the first rank when the checkpoint has its name.

    Raises:
        StoreError: the disk of some rank is full, or the folder cannot be written; what was written so far is removed.
    """
    writing = _Writing(folder, checkpoint_path(folder, step), world)
    with writing.phase(1) as told:
        told[0] = writing.prepare()
    writing.number = int(told[0])
    with writing.phase(world.size * len(FILES) * _RECORD) as told:
        names = files_of(world.rank, world.size)
        _write(writing.aside, names, share)
        records = b"".join(_record(writing.aside / name) for name in names)
        told[world.rank * len(records) : (world.rank + 1) * len(records)] = list(map(float, records))
    with writing.phase(0):
        if world.is_first:
            files = dict(_read_records(bytes(map(int, told)), world.size))
            _write_json(writing.aside / MANIFEST, _manifest(files, share.values, world.size))
            _sync(writing.aside / MANIFEST)
            _sync(writing.aside)
            _put(writing.aside, writing.final)
            if tidy is not None:
                tidy()
    return writing.final


@dataclass
class _Writing:
    """A checkpoint that is being written; `number` is the first rank's process, and tells folders aside apart."""

    folder: Path
    final: Path
    world: World
    number: int = field(default_factory=os.getpid)

    @property
    def aside(self) -> Path:
        return self.folder / f".{self.final.name}.{self.number}"

    def prepare(self) -> float:
        """Make the folder on the first rank; return its process there, and 0 on others."""
        if not self.world.is_first:
            return 0.0
        shutil.rmtree(self.aside, ignore_errors=True)
        self.aside.mkdir(parents=True)
        return float(self.number)

    @contextmanager
    def phase(self, length: int) -> Iterator[list[float]]:
        """Let each rank do its share and fill in numbers; afterwards they are sums over all ranks.

        Raises:
            StoreError: it went wrong, on this rank or another.
        """
        told, fault = [0.0] * length, None
        try:
            yield told
        except Exception as error:
            fault = error
        sums = self.world.sum_aside([float(fault is not None), *told])
        told[:] = sums[1:]
        if sums[0]:
            if self.world.is_first:
                shutil.rmtree(self.aside, ignore_errors=True)
            why = fault or "another rank could not do its share, and says why"
            raise StoreError(f"{self.final}: the checkpoint cannot be written: {why}") from fault


def _write(aside: Path, names: tuple[str, ...], share: Share) -> None:
    """Write a rank's files and wait until they are on the disk."""
    for name, part in zip(names, (share.model, share.optimizer), strict=False):
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in part.tensors.items()}
        save_file(tensors, aside / name, part.header())
    _write_json(aside / names[-1], share.values)
    for name in names:
        _sync(aside / name)


_RECORD = 8 + 32
"""Bytes of a file's record: its size and its sha256."""


def _record(path: Path) -> bytes:
    return path.stat().st_size.to_bytes(8, "little") + bytes.fromhex(digest_file(path))


def _read_records(data: bytes, size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the manifest says of each file of each rank."""
    names = (name for rank in range(size) for name in files_of(rank, size))
    for place, name in enumerate(names):
        record = data[place * _RECORD : (place + 1) * _RECORD]
        yield name, {"bytes": int.from_bytes(record[:8], "little"), "sha256": record[8:].hex()}


def _manifest(files: Mapping[str, Any], state: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    form: dict[str, Any] = {"schema_version": 1} if ranks == 1 else {"schema_version": 2, "ranks": ranks}
    named = {key: state[key] for key in ("step", "plan", "stream")}
    body = {**form, "kind": "checkpoint", **named, "files": files}
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
