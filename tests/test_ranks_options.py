"""Several ranks with what changes how a step is taken: Muon, averages, recomputation, spikes, starts.

Whether ranks hold whole models or parts, they train as one rank does, and what one number of ranks left another takes.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace.trainer.checkpoint import find_checkpoints, latest_checkpoint, restore_model
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World, join_world
from headrace.trainer.run_config import RunFile
from headrace.trainer.session import Session
from headrace.trainer.sharded import full, is_sharded
from headrace.trainer.train import digest_weights, train
from tests.processes import log_of, torchrun
from tests.test_spikes import AT, Spiky
from tests.tiny_stream import TinyStream, tiny_run

WAYS = ("ddp", "fsdp")
STEPS = 8
MODEL = "num_experts = 2\nbalance = 'bias'\nvalue_residual = true"
RULES = "[[optimizer.groups]]\npattern = 'blocks.1.*'\nkind = 'adamw'\nweight_decay = 0.1\n"
"""Gives matrices and vectors, of which the first alone are sharded, one treatment."""


def run_of(parallel: str, steps: int = STEPS, run: str = "", kind: str = "muon") -> RunFile:
    """Return a run of all that this file is about but spikes."""
    return tiny_run(
        RULES,
        steps=steps,
        model=MODEL,
        optimizer=f"kind = '{kind}'\nema = 0.9\nmicrobatch = 3\nclip = 0.9\nschedule = 'constant'",
        eval="every = 4",
        checkpoint="every = 4\nkeep = 9",
        run=f"parallel = '{parallel}'\nrecompute = 'all'\n{run}",
    )


def spiky_run(parallel: str, every: int | None) -> RunFile:
    run = tiny_run(
        steps=AT + 3,
        run=f"parallel = '{parallel}'\nspikes = 'rewind'\nspike_window = 8\nspike_threshold = 4.0",
        checkpoint=f"every = {every}\nkeep = 1" if every else "",
        optimizer="ema = 0.9\nclip = 1.0",
    )
    return run.model_copy(update={"optimizer": run.optimizer.model_copy(update={"learning_rate": 0.02})})


SPIKY = {"back": 10, "begun": None}
"""Runs that go back to a checkpoint, and to the beginning; a checkpoint after so many steps."""


def assert_same_curve(one: Path, two: Path, first: int = 1) -> None:
    mine, theirs = log_of(one), [record for record in log_of(two) if record["step"] >= first]
    assert [record["step"] for record in mine] == [record["step"] for record in theirs]
    for left, right in zip(mine, theirs, strict=True):
        assert left.keys() == right.keys()
        for name in {"loss", "eval_loss", "ema_eval_loss", "tokens", "spike"} & left.keys():
            assert left[name] == pytest.approx(right[name], rel=1e-2 if name == "spike" else 1e-4), (name, left["step"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one rank, then what `main` does with two."""
    out = tmp_path_factory.mktemp("runs")
    train(run_of("ddp"), TinyStream(), out / "one")
    for name, every in SPIKY.items():
        train(spiky_run("ddp", every), Spiky(), out / f"{name}-one")
    done = torchrun("tests.test_ranks_options", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("parallel", WAYS)
def test_muon_averages_and_recomputation_are_those_of_one_rank(runs: Path, parallel: str) -> None:
    assert_same_curve(runs / parallel, runs / "one")
    assert "ema_eval_loss" in log_of(runs / parallel)[-1]


@pytest.mark.parametrize("parallel", WAYS)
def test_momenta_and_averages_of_several_ranks_are_whole_in_a_checkpoint(runs: Path, parallel: str) -> None:
    found, expected = latest_checkpoint(runs / parallel / "checkpoints"), latest_checkpoint(runs / "one/checkpoints")
    assert found is not None
    assert expected is not None
    mine, theirs = found.optimizer_tensors(), expected.optimizer_tensors()
    assert mine.keys() == theirs.keys()
    assert {"blocks.0.attention.qkv.weight/momentum", "blocks.0.attention.qkv.weight/ema"} <= mine.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=1e-4)
    assert digest_weights(restore_model(found, averaged=True)) != digest_weights(restore_model(found))


@pytest.mark.parametrize("way", ["fsdp-to-ddp", "one-to-fsdp", "fsdp-to-fsdp"])
def test_another_number_of_ranks_goes_on(runs: Path, way: str) -> None:
    assert_same_curve(runs / way, runs / "one")


def test_as_many_ranks_go_on_bit_for_bit(runs: Path) -> None:
    assert log_of(runs / "fsdp-to-fsdp") == log_of(runs / "fsdp")


def test_one_rank_goes_on_where_two_had_parts(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "fsdp", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000008")
    assert train(run_of("ddp"), TinyStream(), tmp_path / "run", resume=True).resumed_from == 4
    assert_same_curve(tmp_path / "run", runs / "one")


@pytest.mark.parametrize("parallel", WAYS)
def test_several_ranks_start_from_a_checkpoint_of_parts(runs: Path, parallel: str) -> None:
    assert_same_curve(runs / f"started-{parallel}", runs / "one", first=5)


def test_one_rank_starts_from_a_checkpoint_of_parts(runs: Path, tmp_path: Path) -> None:
    train(run_of("ddp", run=f"start = '{runs / 'fsdp'}'\nstart_step = 4"), TinyStream(), tmp_path)
    assert_same_curve(tmp_path, runs / "one", first=5)


@pytest.mark.parametrize("parallel", WAYS)
@pytest.mark.parametrize("name", SPIKY)
def test_ranks_go_back_together_and_leave_out_the_same(runs: Path, name: str, parallel: str) -> None:
    assert_same_curve(runs / f"{name}-{parallel}", runs / f"{name}-one")
    ranks = [json.loads((runs / f"rank{rank}.json").read_text())[f"{name}-{parallel}"] for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    (back,) = ranks[0]["back"]
    assert back == (20 if SPIKY[name] else 0)
    state = latest_checkpoint(runs / f"{name}-{parallel}" / "checkpoints")
    assert state is not None
    assert state.state["spikes"]["left_out"] == [AT - 1, AT]


def test_initial_values_are_put_back_into_parts(runs: Path) -> None:
    for rank in (0, 1):
        assert json.loads((runs / f"rank{rank}.json").read_text())["again"] is True


def main(out: Path) -> None:
    """Do what the tests look at, on one of two ranks."""
    with join_world("cpu") as world:
        told: dict[str, Any] = {}
        for parallel in WAYS:
            train(run_of(parallel), TinyStream(), out / parallel)
        for before, parallel in (("fsdp", "ddp"), ("one", "fsdp"), ("fsdp", "fsdp")):
            after = out / f"{before}-to-{parallel}"
            if world.is_first:
                shutil.copytree(out / before, after)
                shutil.rmtree(find_checkpoints(after / "checkpoints")[-1])
            world.wait()
            train(run_of(parallel), TinyStream(), after, resume=True)
        for parallel in WAYS:
            start = f"start = '{out / 'fsdp'}'\nstart_step = 4"
            train(run_of(parallel, run=start), TinyStream(), out / f"started-{parallel}")
            for name, every in SPIKY.items():
                told[f"{name}-{parallel}"] = _go_back(out / f"{name}-{parallel}", parallel, every)
        told["again"] = _begin_again(world)
        (out / f"rank{world.rank}.json").write_text(json.dumps(told))


def _go_back(out: Path, parallel: str, every: int | None) -> dict[str, Any]:
    """Train on a stream with a spike; return the steps that the run went back to, and the weights."""
    back: list[int] = []
    answer = Session._answer

    def watch(self: Session, *spike: Any) -> bool:
        went_back = answer(self, *spike)
        back.append(self.learner.step)
        return went_back

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "_answer", watch)
        report = train(spiky_run(parallel, every), Spiky(), out)
    return {"back": back, "weights": report.weights, "tokens": report.tokens}


def _begin_again(world: World) -> bool:
    """Return whether a model of which each rank has a part has its initial values and average again after a step."""
    learner = Learner.build(run_of("fsdp"), 64, world)
    before = digest_weights(learner.model)
    learner.advance(TinyStream())
    assert digest_weights(learner.model) != before
    learner.begin_again()
    assert learner.average is not None
    parameters = dict(learner.model.named_parameters())
    averaged = [torch.equal(full(value), full(parameters[name])) for name, value in learner.average.values.items()]
    return digest_weights(learner.model) == before and all(averaged) and any(map(is_sharded, parameters.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
