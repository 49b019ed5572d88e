"""Checkpoints: whole or not at all, verified, and never run."""

import hashlib
import json
import logging
import pickle
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headrace.pipeline.errors import IntegrityError, StoreError
from headrace.pipeline.hashing import digest_json
from headrace.trainer import checkpoint_files as module
from headrace.trainer.checkpoint import (
    find_checkpoints,
    latest_checkpoint,
    open_checkpoint,
    prune_checkpoints,
    restore_model,
    set_aside_newer,
    step_of,
)
from headrace.trainer.checkpoint_files import FILES, Share, save_checkpoint
from headrace.trainer.model import build_model
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from headrace.trainer.run_config import OptimizerSection
from headrace.trainer.seeds import derive_seed, generator_states, restore_generators, seed_generators
from headrace.trainer.tensor_files import part_of

CONFIG = ModelConfig(vocab_size=31, num_layers=1, width=16, num_heads=2, num_kv_heads=1, ffn_width=24)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "plan": "p", "stream": {"seed": 1}, "model": CONFIG.model_dump()}


def trained_model() -> tuple[nn.Module, torch.optim.AdamW]:
    model = build_model(CONFIG, seed=1)
    optimizer = build_optimizer(model, OptimizerSection())
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    optimizer.step()
    return model, optimizer


def save(folder: Path, step: int) -> Path:
    model, optimizer = trained_model()
    parts = part_of(model.state_dict()), part_of(optimizer_tensors(model, optimizer))
    return save_checkpoint(folder, step, Share(*parts, state(step)))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    model, optimizer = trained_model()
    path = save(tmp_path, 7)
    assert path.name == "step-00000007"
    assert sorted(file.name for file in path.iterdir()) == sorted([*FILES, "manifest.json"])
    checkpoint = open_checkpoint(path)
    assert checkpoint.step == 7
    assert checkpoint.state == state(7)
    assert same(checkpoint.model_tensors(), model.state_dict())
    assert same(restore_model(checkpoint).state_dict(), model.state_dict())
    fresh = build_model(CONFIG, seed=2)
    again = build_optimizer(fresh, OptimizerSection())
    load_optimizer_tensors(fresh, again, checkpoint.optimizer_tensors())
    assert same(optimizer_tensors(fresh, again), optimizer_tensors(model, optimizer))


def test_the_manifest_names_step_plan_stream_and_every_file(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["step"], manifest["plan"], manifest["stream"]) == (3, "p", {"seed": 1})
    for name in FILES:
        assert manifest["files"][name]["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()
    digest = manifest.pop("digest")
    assert digest == digest_json(manifest)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_any_harm_is_found_and_the_one_before_is_used(
    tmp_path: Path, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    data = bytearray((bad / name).read_bytes())
    if harm == "remove":
        (bad / name).unlink()
    else:
        data[len(data) // 2] ^= 1
        (bad / name).write_bytes(data if harm == "flip" else data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="step-00000002"):
        open_checkpoint(bad)
    with caplog.at_level(logging.ERROR):
        found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.path == good
    assert "step-00000002" in caplog.text


def test_none_whole_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    (save(tmp_path, 1) / "state.json").unlink()
    with pytest.raises(IntegrityError, match="none of 1"):
        latest_checkpoint(tmp_path)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("name", FILES)
def test_a_planted_pickle_never_runs(tmp_path: Path, name: str, form: str) -> None:
    mark = tmp_path / "it ran"
    path = save(tmp_path / "checkpoints", 5)
    if form == "torch":
        torch.save(Attack(mark), path / name)
    else:
        (path / name).write_bytes(pickle.dumps(Attack(mark)))
    forge_manifest(path)
    for extra in ("model.pt", "optimizer.pt", "__0_0.distcp", ".metadata"):
        (path / extra).write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(IntegrityError):
        open_checkpoint(path)
    with pytest.raises(IntegrityError):
        latest_checkpoint(tmp_path / "checkpoints")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Attack(mark)))
    assert mark.exists()


def forge_manifest(path: Path) -> None:
    """Make the manifest agree with whatever lies there, as an attacker can."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    for name in FILES:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps({**manifest, "digest": digest_json(manifest)}))


def dying(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return the function with a death in place of its `at`-th call."""
    calls = count(1)

    def call(*args: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return real(*args)

    return call


def test_a_writer_killed_at_any_point_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = save(tmp_path, 1)
    for name in ("save_file", "_write_json", "_sync", "_put"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying(getattr(module, name), at=1 if name == "_put" else 2))
            with pytest.raises(KeyboardInterrupt):
                save(tmp_path, 2)
        found = latest_checkpoint(tmp_path)
        assert found is not None
        assert found.path == good
    assert open_checkpoint(save(tmp_path, 2)).step == 2
    prune_checkpoints(tmp_path, keep=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    good = save(tmp_path, 1)
    monkeypatch.setattr(module, "_sync", full)
    with pytest.raises(StoreError, match=r"step-00000002.*No space left"):
        save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [good]


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    (path / "model.safetensors").write_bytes(b"broken")
    assert open_checkpoint(save(tmp_path, 4)).step == 4


def test_every_so_many_steps_one_stays(tmp_path: Path) -> None:
    for step in (1, 2, 4, 6, 7, 8, 9):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2, keep_every=4)
    assert [step_of(path) for path in find_checkpoints(tmp_path)] == [4, 8, 9]


@pytest.mark.parametrize(
    ("back_to", "kept"), [(None, [4, 8, 9]), (7, [4, 7, 8, 9]), (5, [4, 6, 7, 8, 9]), (0, [1, 2, 4, 6, 7, 8, 9])]
)
def test_those_to_go_back_to_stay_beside_them(tmp_path: Path, back_to: int | None, kept: list[int]) -> None:
    for step in (1, 2, 4, 6, 7, 8, 9):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2, keep_every=4, back_to=back_to)
    assert [step_of(path) for path in find_checkpoints(tmp_path)] == kept


def test_only_names_that_are_steps_are_checkpoints(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    for name in ("step-evil", "step-1", "step-00000001.old"):
        (tmp_path / name).mkdir()
    assert [step_of(path) for path in find_checkpoints(tmp_path)] == [99_999_999, 100_000_000]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 20):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000010", "step-00000020"]
    set_aside_newer(tmp_path, 10)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["corrupt-step-00000020", "step-00000010"]


def test_moments_of_another_model_are_refused() -> None:
    model, optimizer = trained_model()
    tensors = optimizer_tensors(model, optimizer)
    with pytest.raises(IntegrityError, match="another model"):
        load_optimizer_tensors(model, optimizer, {**tensors, "blocks.9.norm.weight/step": torch.zeros(())})
    with pytest.raises(IntegrityError, match="shape"):
        load_optimizer_tensors(model, optimizer, {**tensors, "embedding.weight/exp_avg": torch.zeros(2, 2)})


def test_generators_go_on_where_they_were() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.standard_normal()), float(torch.rand(()))

    seed_generators(3)
    draw()
    saved = json.loads(json.dumps(generator_states()))
    expected = draw(), draw()
    seed_generators(4)
    restore_generators(saved)
    assert (draw(), draw()) == expected


def test_seeds_depend_on_every_name() -> None:
    seeds = {derive_seed(1, "a"), derive_seed(2, "a"), derive_seed(1, "b"), derive_seed(1, "a", "b"), derive_seed(1)}
    assert len(seeds) == 5
    assert derive_seed(1, "a") == derive_seed(1, "a")
    assert max(seeds) < 2**63
