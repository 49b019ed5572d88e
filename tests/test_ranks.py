"""Several ranks: however many there are, and whether each holds the whole model or a part, a run is the same run.

Losses of equal batches differ by the rounding of sums alone: 1e-5 of each, 1e-4 of the gradient's norm.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.console import PREEMPTED
from headrace.trainer.batch import Batch
from headrace.trainer.checkpoint import latest_checkpoint, restore_model
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World, join_world
from headrace.trainer.run_config import RunFile
from headrace.trainer.sharded import is_sharded
from headrace.trainer.train import digest_weights, train
from tests.processes import log_of, torchrun
from tests.tiny_stream import TinyStream, tiny_run

STEPS = 8
EXPERTS = "num_experts = 4\nexperts_per_token = 2\nshared_expert = true\nbalance = 'bias'"
UNTIED = "residual = 'attention'\nattention = 'linear'\ntie_embeddings = false"
MODELS = {"experts": EXPERTS, "untied": UNTIED, "unet": "residual = 'unet'\nvalue_residual = true\nnum_conditions = 2"}
FEW = {"three": TinyStream(global_batch=3), "one": TinyStream(global_batch=1)}


def run_of(parallel: str = "ddp", model: str = EXPERTS, microbatch: int = 3, bf16: bool = False) -> RunFile:
    run = tiny_run(
        steps=STEPS,
        model=model,
        optimizer=f"microbatch = {microbatch}\nclip = 0.9",
        eval="every = 4",
        checkpoint="every = 3",
        run=f"parallel = '{parallel}'",
    )
    return run.model_copy(update={"run": run.run.model_copy(update={"bf16": bf16})})


def assert_same_curve(one: Path, two: Path, tolerance: float = 1e-5) -> None:
    first, second = log_of(one), log_of(two)
    assert [record["step"] for record in first] == list(range(1, STEPS + 1))
    for left, right in zip(first, second, strict=True):
        assert left.keys() == right.keys()
        assert left["tokens"] == right["tokens"]
        assert left["loss"] == pytest.approx(right["loss"], rel=tolerance)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=10 * tolerance)
        assert left.get("eval_loss", 0) == pytest.approx(right.get("eval_loss", 0), rel=tolerance)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one rank, then what `main` does with two and with four."""
    out = tmp_path_factory.mktemp("runs")
    for name, model in MODELS.items():
        train(run_of(model=model), TinyStream(), out / f"{name}-1")
    train(run_of(bf16=True), TinyStream(), out / "bf16-1")
    for name, source in FEW.items():
        train(run_of(microbatch=1), source, out / f"{name}-1")
    train(run_of(), TinyStream(), out / "half-1", on_metrics=stop_at(4))
    for ranks in (2, 4):
        done = torchrun("tests.test_ranks", out, ranks=ranks)
        assert done.returncode == 0, done.stderr
    return out


def test_two_ranks_with_whole_models_or_parts_train_as_one(runs: Path) -> None:
    for name in MODELS:
        for parallel in ("ddp", "fsdp"):
            assert_same_curve(runs / f"{name}-{parallel}-2", runs / f"{name}-1")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_four_ranks_train_as_one(runs: Path, parallel: str) -> None:
    assert_same_curve(runs / f"experts-{parallel}-4", runs / "experts-1")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_blocks_that_are_gathered_in_bfloat16_lose_nothing_more(runs: Path, parallel: str) -> None:
    assert_same_curve(runs / f"bf16-{parallel}-2", runs / "bf16-1", tolerance=2e-3)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", FEW)
def test_ranks_with_fewer_rows_or_none_keep_pace(runs: Path, name: str, parallel: str) -> None:
    assert_same_curve(runs / f"{name}-{parallel}-2", runs / f"{name}-1")


def test_all_ranks_end_with_the_same_weights_and_each_held_a_part(runs: Path) -> None:
    for ranks in (2, 4):
        whole, parts = zip(*ranks_tell(runs, ranks), strict=True)
        assert len({rank["weights"] for rank in whole}) == len({rank["weights"] for rank in parts}) == 1
        vectors = parts[0]["vectors"]
        assert sum(rank["bytes"] - vectors for rank in parts) + vectors == whole[0]["bytes"]
        assert max(rank["bytes"] - vectors for rank in parts) <= 1.1 * whole[0]["bytes"] / ranks


def test_a_run_that_parts_resume_is_the_run_that_nothing_interrupted(runs: Path) -> None:
    for parallel in ("ddp", "fsdp"):
        same, straight = runs / f"same-{parallel}-2", runs / f"experts-{parallel}-2"
        assert log_of(same) == log_of(straight)
        assert weights_in(same) == weights_in(straight)


@pytest.mark.parametrize("way", ["1-to-fsdp-4", "ddp-2-to-fsdp-4", "fsdp-2-to-ddp-4", "fsdp-2-to-fsdp-4"])
def test_other_ranks_go_on(runs: Path, way: str) -> None:
    assert_same_curve(runs / f"half-{way}", runs / "experts-1")


@pytest.mark.parametrize("before", ["half-ddp-2", "half-fsdp-2", "half-fsdp-4"])
def test_one_rank_goes_on_where_several_were(runs: Path, tmp_path: Path, before: str) -> None:
    shutil.copytree(runs / before, tmp_path / "run")
    report = train(run_of(), TinyStream(), tmp_path / "run", resume=True)
    assert report.resumed_from == 5
    assert_same_curve(tmp_path / "run", runs / "experts-1")


def test_a_signal_to_one_rank_ends_all_after_the_same_step(runs: Path) -> None:
    for ranks in (2, 4):
        assert all(way["ended"] == [5, True] for rank in ranks_tell(runs, ranks) for way in rank)


def test_each_rank_has_its_generators_again(runs: Path) -> None:
    drawn = [way["drawn"] for rank in ranks_tell(runs, 2) for way in rank]
    assert all(after == again for after, again in drawn)
    assert drawn[0] != drawn[2]


def test_a_harmed_part_of_any_rank_costs_steps_and_nothing_else(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "experts-fsdp-4", tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}"
    part = newest / "optimizer-00003-of-00004.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    report = train(run_of(), TinyStream(), tmp_path / "run", resume=True)
    assert report.resumed_from == 6
    assert_same_curve(tmp_path / "run", runs / "experts-1")


def test_torchrun_starts_a_run_again_that_was_preempted(tmp_path: Path, runs: Path) -> None:
    done = torchrun("tests.test_ranks", tmp_path / "preempted", "--max-restarts=1", ranks=2)
    assert done.returncode == 0, done.stderr
    assert f"exitcode: {PREEMPTED}" in done.stderr.replace("exitcode  :", "exitcode:")
    assert_same_curve(tmp_path / "preempted", runs / "experts-1")


def ranks_tell(runs: Path, ranks: int) -> list[Any]:
    """Return what each of so many ranks knew of its runs, `ddp` and `fsdp`."""
    return [json.loads((runs / f"rank{rank}-of-{ranks}.json").read_text()) for rank in range(ranks)]


def weights_in(out: Path) -> str:
    checkpoint = latest_checkpoint(out / "checkpoints")
    assert checkpoint is not None
    return digest_weights(restore_model(checkpoint))


def stop_at(step: int) -> Any:
    """Return a callback that sends SIGTERM to this process after a step."""

    def tell(record: Mapping[str, Any]) -> None:
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return tell


@dataclass(frozen=True)
class Noisy(TinyStream):
    """Draws from a global generator for each batch; sends SIGTERM to the last rank in one step."""

    stop: int | None = None
    drawn: list[float] = field(default_factory=list)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        self.drawn.append(float(torch.rand(())))
        if step == self.stop and rank == world - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, rank, world)


def main(out: Path) -> None:
    """Do what the tests look at, on one of several ranks; two come before four."""
    if out.name == "preempted":
        report = train(run_of("fsdp"), TinyStream(), out, resume=True, on_metrics=stop_at(4))
        sys.exit(PREEMPTED if report.preempted else 0)
    with join_world("cpu") as world:
        told = [_train_both_ways(out, parallel, world) for parallel in ("ddp", "fsdp")]
        if world.size == 2:
            for parallel in ("ddp", "fsdp"):
                _train_variants(out, parallel)
        if world.size == 4:
            for before, parallel in (("half-1", "fsdp"), ("half-ddp-2", "fsdp"), ("half-fsdp-2", "ddp")):
                _go_on(out / before, out / f"{before}-to-{parallel}-4", parallel, world)
            _go_on(out / "half-fsdp-2", out / "half-fsdp-2-to-fsdp-4", "fsdp", world)
        (out / f"rank{world.rank}-of-{world.size}.json").write_text(json.dumps(told))


def _train_both_ways(out: Path, parallel: str, world: World) -> dict[str, Any]:
    """Train at one go, and with an interruption; return what the rank knows of it."""
    straight = train(run_of(parallel), TinyStream(), out / f"experts-{parallel}-{world.size}")
    half = out / f"half-{parallel}-{world.size}"
    interrupted = train(run_of(parallel), Noisy(stop=4), half)
    drawn, again = float(torch.rand(())), Noisy()
    if world.size == 2:
        _go_on(half, out / f"same-{parallel}-2", parallel, world, again)
    parameters = list(Learner.build(run_of(parallel), 64, world).model.parameters())
    return {
        "weights": straight.weights,
        "ended": [interrupted.step, interrupted.preempted],
        "drawn": [drawn, *again.drawn[:1]],
        "bytes": sum((p.to_local() if is_sharded(p) else p).nbytes for p in parameters),
        "vectors": sum(p.nbytes for p in parameters if not is_sharded(p)),
    }


def _train_variants(out: Path, parallel: str) -> None:
    for name in ("untied", "unet"):
        train(run_of(parallel, MODELS[name]), TinyStream(), out / f"{name}-{parallel}-2")
    train(run_of(parallel, bf16=True), TinyStream(), out / f"bf16-{parallel}-2")
    for name, source in FEW.items():
        train(run_of(parallel, microbatch=1), source, out / f"{name}-{parallel}-2")


def _go_on(before: Path, after: Path, parallel: str, world: World, source: TinyStream | None = None) -> None:
    if world.is_first:
        shutil.copytree(before, after)
    world.wait()
    train(run_of(parallel), source or TinyStream(), after, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
