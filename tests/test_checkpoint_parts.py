"""Checkpoints of several ranks, written by threads that stand for them, and what is written while steps go on."""

import json
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import Tensor

from headrace.pipeline.errors import IntegrityError, StoreError
from headrace.pipeline.hashing import digest_file, digest_json
from headrace.trainer import checkpoint_files
from headrace.trainer.checkpoint import find_checkpoints, latest_checkpoint, open_checkpoint
from headrace.trainer.checkpoint_files import MANIFEST, Share, files_of, save_checkpoint
from headrace.trainer.parallel import ALONE, World
from headrace.trainer.run_config import CheckpointSection
from headrace.trainer.saving import Saver
from headrace.trainer.tensor_files import HEADER_KEY, Part, TensorFiles, part_of
from headrace.trainer.train import train
from tests.processes import environment
from tests.tiny_stream import TinyStream, tiny_run

RANKS = 3
NAMES = [name for rank in range(RANKS) for name in files_of(rank, RANKS)]
MODEL = {
    "cut": torch.arange(35.0).view(7, 5),
    "short": torch.arange(4.0).view(2, 2),
    "vector": torch.arange(3.0),
    "number": torch.tensor(4.5),
}


@dataclass
class Exchange:
    """Sums of numbers of threads that stand for ranks."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(RANKS, timeout=30))
    given: dict[int, Sequence[float]] = field(default_factory=dict)

    def sum(self, rank: int, values: Sequence[float]) -> list[float]:
        self.given[rank] = values
        self.barrier.wait()
        sums = [sum(column) for column in zip(*self.given.values(), strict=True)]
        self.barrier.wait()
        return sums


@dataclass(frozen=True)
class ThreadWorld(World):
    exchange: Exchange = field(default_factory=Exchange)

    def sum(self, values: Sequence[float]) -> list[float]:
        return self.exchange.sum(self.rank, values)

    def sum_aside(self, values: Sequence[float]) -> list[float]:
        return self.exchange.sum(self.rank, values)


def on_all_ranks(act: Callable[[World], Any]) -> list[Any]:
    """Return what each rank returns or raises."""
    exchange = Exchange()
    worlds = [ThreadWorld(rank, RANKS, torch.device("cpu"), None, exchange) for rank in range(RANKS)]

    def run(world: World) -> Any:
        try:
            return act(world)
        except Exception as error:
            return error

    with ThreadPoolExecutor(RANKS) as threads:
        return list(threads.map(run, worlds))


def parts_of(tensors: Mapping[str, Tensor], end: str, world: World) -> Part:
    """Return a rank's rows of the matrices, as FSDP cuts them, and its share of the rest."""
    kept, starts = part_of({name + end: t for name, t in tensors.items() if t.ndim < 2}, world.rank, world.size)
    for name, tensor in tensors.items():
        rows = tensor.chunk(world.size) if tensor.ndim >= 2 else ()
        if world.rank < len(rows):
            kept[name + end] = rows[world.rank]
            starts[name + end] = sum(len(part) for part in rows[: world.rank])
    return Part(kept, starts)


def save(folder: Path, step: int = 1) -> Path:
    def act(world: World) -> Path:
        state = {"step": step, "plan": "p", "stream": {}, "generators": {"rank": 0}}
        values = state if world.is_first else {"rank": world.rank}
        share = Share(parts_of(MODEL, "", world), parts_of(MODEL, "/exp_avg", world), values)
        return save_checkpoint(folder, step, share, world)

    first, *others = on_all_ranks(act)
    assert all(path == first for path in others)
    return Path(first)


def equal(read: Mapping[str, Tensor], end: str = "") -> bool:
    return read.keys() == {name + end for name in MODEL} and all(torch.equal(read[n + end], MODEL[n]) for n in MODEL)


# What several ranks write


def test_what_several_write_one_reads(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert sorted(file.name for file in path.iterdir()) == sorted([*NAMES, MANIFEST])
    checkpoint = open_checkpoint(path)
    assert equal(checkpoint.model_tensors())
    assert equal(checkpoint.optimizer_tensors(), "/exp_avg")
    assert [checkpoint.generators(rank, RANKS) for rank in range(RANKS)] == [{"rank": rank} for rank in range(RANKS)]
    assert [checkpoint.generators(rank, 4) for rank in range(4)] == [{"rank": 0}, None, None, None]
    sizes = [sum(tensor.nbytes for tensor in load_file(path / name).values()) for name in NAMES if "model" in name]
    assert max(sizes) < 0.5 * sum(sizes)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (2, 4), (3, 3), (6, 7), (0, 1)])
def test_any_rows_are_read(tmp_path: Path, start: int, stop: int) -> None:
    path = save(tmp_path)
    files = TensorFiles([path / name for name in NAMES if name.startswith("model")])
    assert torch.equal(files.rows("cut", start, stop), MODEL["cut"][start:stop])
    assert files.shape("cut") == (7, 5)
    assert files.shape("number") == ()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_torch_reads_the_same_tensors(tmp_path: Path) -> None:
    """Its reader of safetensors unpickles nothing, but takes every file; ours takes those of the manifest."""
    path = save(tmp_path)
    read = {name + end: torch.zeros_like(MODEL[name]) for name in MODEL for end in ("", "/exp_avg")}
    dcp.load(read, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
    for end in ("", "/exp_avg"):
        assert equal({name: tensor for name, tensor in read.items() if name.endswith("/exp_avg") == bool(end)}, end)


@pytest.mark.parametrize("name", [*NAMES, MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_any_harm_to_any_part_is_found_by_all(
    tmp_path: Path, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    data = bytearray((bad / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bad / name).unlink() if harm == "remove" else (bad / name).write_bytes(data)
    with caplog.at_level(logging.ERROR):
        found = on_all_ranks(lambda world: latest_checkpoint(tmp_path, world))
    assert [checkpoint.path for checkpoint in found] == [good] * RANKS
    assert f"{bad}: not a whole checkpoint" in caplog.text
    with pytest.raises(IntegrityError, match="step-00000002"):
        open_checkpoint(bad)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


READ_BY_TORCH = [
    ".metadata", "__0_0.distcp", "__1_0.distcp", "model.pt", "model.pth", "model.bin", "pytorch_model.bin", "data.pkl",
    "optimizer.pt", "optimizer.pkl", "model.safetensors.index.json", "model.safetensors", "optimizer.safetensors",
    "shard-00001-model-00001-of-00001.safetensors", "model-00004-of-00004.safetensors", "model.ckpt",
]  # fmt: skip
"""Names that `torch.load`, `torch.distributed.checkpoint` and those who follow them open."""


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_planted_pickles_beside_a_checkpoint_are_never_opened(tmp_path: Path, form: str) -> None:
    path, mark = save(tmp_path / "run"), tmp_path / "it ran"
    for name in READ_BY_TORCH:
        plant(path / name, mark, form)
    for name in (".metadata", "step-00000009"):
        plant(path.parent / name, mark, form)
    for found in on_all_ranks(lambda world: latest_checkpoint(path.parent, world)):
        assert equal(found.model_tensors())
        assert equal(found.optimizer_tensors(), "/exp_avg")
    assert not mark.exists()
    with (path / ".metadata").open("rb") as file:
        torch.load(file, weights_only=False) if form == "torch" else pickle.load(file)
    assert mark.exists()


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_pickle_in_place_of_a_part_never_runs(tmp_path: Path, name: str, form: str) -> None:
    path, mark = save(tmp_path / "run"), tmp_path / "it ran"
    plant(path / name, mark, form)
    forge(path)
    for found in on_all_ranks(lambda world: latest_checkpoint(path.parent, world)):
        assert isinstance(found, IntegrityError)
    assert not mark.exists()


def plant(path: Path, mark: Path, form: str) -> None:
    with path.open("wb") as file:
        torch.save(Attack(mark), file) if form == "torch" else pickle.dump(Attack(mark), file)


def forge(path: Path, **changes: Any) -> None:
    """Make the manifest agree with whatever lies there, as an attacker can."""
    manifest = {**json.loads((path / MANIFEST).read_text()), **changes}
    del manifest["digest"]
    for name in manifest["files"]:
        manifest["files"][name] = {"bytes": (path / name).stat().st_size, "sha256": digest_file(path / name)}
    (path / MANIFEST).write_text(json.dumps({**manifest, "digest": digest_json(manifest)}))


@pytest.mark.parametrize(
    "places",
    [{"cut": [0, 0]}, {"cut": [1, 0]}, {"cut": [4, 0]}, {"cut": ["3", 0]}, {"cut": None}, {"cut": {}}, []],
)
def test_parts_that_are_no_whole_tensor_are_refused(tmp_path: Path, places: Any) -> None:
    path = save(tmp_path)
    part = path / "model-00002-of-00003.safetensors"
    header = {name: {"saved_offsets": place} for name, place in places.items()} if places else places
    save_file(load_file(part), part, {HEADER_KEY: json.dumps(header)})
    forge(path)
    with pytest.raises(IntegrityError):
        open_checkpoint(path)


@pytest.mark.parametrize("ranks", [2, 4, 0, -1, "x", None, 10**9])
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, ranks: Any) -> None:
    path = save(tmp_path)
    forge(path, ranks=ranks)
    with pytest.raises(IntegrityError):
        open_checkpoint(path)


def test_what_cannot_be_tidied_up_is_an_error_of_all(tmp_path: Path) -> None:
    def tidy() -> None:
        raise PermissionError(13, "Permission denied", "step-00000001")

    def act(world: World) -> Path:
        share = Share(Part({}, {}), Part({}, {}), {"step": 2, "plan": "p", "stream": {}})
        return save_checkpoint(tmp_path, 2, share, world, tidy)

    assert all(isinstance(error, StoreError) for error in on_all_ranks(act))
    assert open_checkpoint(tmp_path / "step-00000002").step == 2


@pytest.mark.parametrize("faulty", range(RANKS))
def test_a_full_disk_of_one_rank_is_an_error_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: int
) -> None:
    good = save(tmp_path, 1)
    real = checkpoint_files.save_file

    def full(tensors: Any, path: Path, *more: Any) -> None:
        if path.name == files_of(faulty, RANKS)[1]:
            raise OSError(28, "No space left on device")
        real(tensors, path, *more)

    monkeypatch.setattr(checkpoint_files, "save_file", full)
    told = on_all_ranks(lambda world: save_checkpoint(tmp_path, 2, Share(Part({}, {}), Part({}, {}), {}), world))
    assert all(isinstance(error, StoreError) and "step-00000002" in str(error) for error in told)
    assert ["No space left" in str(error) for error in told] == [rank == faulty for rank in range(RANKS)]
    assert list(tmp_path.iterdir()) == [good]


# While steps go on


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold back the writing of files until the event is set."""
    opened, real = threading.Event(), checkpoint_files.save_file

    def wait(*args: Any) -> None:
        assert opened.wait(30)
        real(*args)

    monkeypatch.setattr(checkpoint_files, "save_file", wait)
    yield opened
    opened.set()


def start(saver: Saver, step: int, tensors: Mapping[str, Tensor]) -> None:
    saver.start(step, tensors, {}, {"step": step, "plan": "p", "stream": {}})


def test_what_is_written_is_what_was_when_it_began(tmp_path: Path, gate: threading.Event) -> None:
    tensors = {"w": torch.zeros(3)}
    with Saver(tmp_path, CheckpointSection(), ALONE) as saver:
        start(saver, 1, tensors)
        tensors["w"] += 1
        assert not find_checkpoints(tmp_path)
        gate.set()
        saver.wait()
        start(saver, 2, tensors)
        tensors["w"] += 1
    read = [open_checkpoint(path).model_tensors()["w"][0].item() for path in find_checkpoints(tmp_path)]
    assert read == [0, 1]


def test_old_checkpoints_are_removed_as_new_ones_are_written(tmp_path: Path) -> None:
    with Saver(tmp_path, CheckpointSection(keep=1, keep_every=3), ALONE) as saver:
        for step in range(1, 8):
            start(saver, step, {"w": torch.zeros(3)})
    assert [path.name[-1] for path in find_checkpoints(tmp_path)] == ["3", "6", "7"]


def test_those_to_go_back_to_are_kept_as_new_ones_are_written(tmp_path: Path) -> None:
    with Saver(tmp_path, CheckpointSection(keep=1), ALONE) as saver:
        for step in range(1, 8):
            saver.start(step, {"w": torch.zeros(3)}, {}, {"step": step, "plan": "p", "stream": {}}, step - 2)
    assert [path.name[-1] for path in find_checkpoints(tmp_path)] == ["5", "6", "7"]


def test_one_is_written_at_a_time(tmp_path: Path, gate: threading.Event) -> None:
    with Saver(tmp_path, CheckpointSection(), ALONE) as saver:
        start(saver, 1, {"w": torch.zeros(3)})
        second = threading.Thread(target=start, args=(saver, 2, {"w": torch.ones(3)}))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        gate.set()
        second.join(30)
    assert len(find_checkpoints(tmp_path)) == 2


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, gate: threading.Event) -> None:
    def open_late(record: Mapping[str, Any]) -> None:
        if record["step"] == 5:
            assert not find_checkpoints(tmp_path / "checkpoints")
            gate.set()

    report = train(tiny_run(steps=6, checkpoint="every = 3"), TinyStream(), tmp_path, on_metrics=open_late)
    assert report.step == 6
    assert [path.name for path in find_checkpoints(tmp_path / "checkpoints")] == ["step-00000003", "step-00000006"]


def test_what_went_wrong_is_raised_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    def go_slowly(record: Mapping[str, Any]) -> None:
        seen.append(record["step"])
        time.sleep(0.05)

    run = tiny_run(steps=60, checkpoint="every = 2")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "_sync", full)
        with pytest.raises(StoreError, match=r"step-00000002.*No space left"):
            train(run, TinyStream(), tmp_path, on_metrics=go_slowly)
    assert 2 <= seen[-1] < 20
    assert train(run, TinyStream(), tmp_path, resume=True).step == 60


def test_a_run_waits_for_its_last_checkpoint_and_tells_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        time.sleep(0.2)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "_sync", full)
    with pytest.raises(StoreError, match=r"step-00000002.*No space left"):
        train(tiny_run(steps=2), TinyStream(), tmp_path)


def test_sigkill_while_parts_are_written_leaves_the_one_before(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.test_checkpoint_parts", str(tmp_path)]
    step = 0
    for moment in (0.3, 0.7):
        with subprocess.Popen(command, env=environment(), start_new_session=True) as process:
            begun = time.monotonic()
            while not aside(tmp_path, step + 2) and process.poll() is None and time.monotonic() < begun + 60:
                time.sleep(0.001)
            time.sleep(moment * 0.02)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        found = latest_checkpoint(tmp_path)
        assert found is not None
        assert found.step > step
        assert torch.equal(found.model_tensors()["cut"], torch.full((600, 1000), float(found.step)))
        step = found.step


def aside(folder: Path, step: int) -> bool:
    """Return whether a checkpoint of that step or a later one is being written."""
    names = [path.name for path in folder.glob(".step-*") if path.suffix != ".old"]
    return any(int(name.split(".")[1].removeprefix("step-")) >= step for name in names)


def write_for_ever(folder: Path) -> None:
    """Write checkpoints of three ranks, one after another."""
    newest = latest_checkpoint(folder)
    step = newest.step if newest else 0
    while True:
        step += 1
        rows = torch.full((600, 1000), float(step)).chunk(RANKS)

        def act(world: World, step: int = step, rows: Sequence[Tensor] = rows) -> None:
            part = Part({"cut": rows[world.rank]}, {"cut": 200 * world.rank})
            save_checkpoint(folder, step, Share(part, part, {"step": step, "plan": "p", "stream": {}}), world)

        assert on_all_ranks(act) == [None] * RANKS


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
