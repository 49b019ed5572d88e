"""Loss spikes: found by name, left out where a run asks for it, and the same run however it is interrupted."""

import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headrace.pipeline.errors import RecipeError
from headrace.trainer import checkpoint_files
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.checkpoint import find_checkpoints, latest_checkpoint, open_checkpoint, step_of
from headrace.trainer.learner import DivergenceError, Learner
from headrace.trainer.parallel import World
from headrace.trainer.run_config import CheckpointSection, RunFile
from headrace.trainer.run_record import read_history
from headrace.trainer.session import Session
from headrace.trainer.spikes import Spike, SpikeWatch
from headrace.trainer.train import TrainReport, digest_weights, train
from tests.processes import log_of, torchrun
from tests.tiny_stream import TinyStream, tiny_run

ALONE = World(0, 1, torch.device("cpu"))
STEPS = 30
AT = 22
"""The step, from 0, whose targets are drawn at random."""


@dataclass(frozen=True)
class Spiky(TinyStream):
    """A stream with batches of noise, whose loss is far above that of the others."""

    noise: tuple[int, ...] = (AT,)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        batch = self._make(step, "train")
        if step in self.noise:
            drawn = np.random.default_rng(step).integers(self.vocab_size, size=batch.targets.shape, dtype=np.int32)
            batch = replace(batch, targets=np.where(batch.targets == IGNORE, IGNORE, (drawn // 8) * 8 + 1))
        return batch.rows(slice(rank, None, world))


def run_of(policy: str, window: int = 8, threshold: float = 4.0, **sections: str) -> RunFile:
    run = tiny_run(
        steps=STEPS,
        run=f"spikes = '{policy}'\nspike_window = {window}\nspike_threshold = {threshold}",
        checkpoint="every = 5\nkeep = 1",
        **sections,
    )
    return run.model_copy(update={"optimizer": run.optimizer.model_copy(update={"learning_rate": 0.02})})


def state_of(out: Path) -> Any:
    checkpoint = latest_checkpoint(out / "checkpoints")
    assert checkpoint is not None
    return checkpoint.state["spikes"]


def weights_without(steps: set[int], run: RunFile, source: TinyStream) -> str:
    """Return the digest of the weights after a run that never sees some steps."""
    learner = Learner.build(run, 64, ALONE)
    for step in range(STEPS):
        if step in steps:
            learner.step += 1
        else:
            learner.advance(source)
    return digest_weights(learner.model)


# Detection


def watch_of(losses: list[float], threshold: float = 6.0, window: int = 8) -> SpikeWatch:
    watch = SpikeWatch(threshold, window)
    for loss in losses:
        watch.take_in(loss, None)
    return watch


def test_deviations_are_those_of_median_and_mad() -> None:
    watch = watch_of([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0])  # the first has left the window
    middle, spread = 4.5, 1.4826 * 2.0
    spike = watch.judge(9, 30.0, 1.0)
    assert spike == Spike(9, 30.0, pytest.approx((30 - middle) / spread))
    assert watch.judge(9, middle + 5.9 * spread, 1.0) is None
    assert watch.judge(9, -1000.0, 1.0) is None, "a loss that falls is none"


def test_what_is_no_number_is_a_spike_and_stays_out_of_the_window() -> None:
    watch = watch_of([])
    for loss, norm in ((float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))):
        spike = watch.judge(3, loss, norm)
        assert spike == Spike(3, None)
        watch.take_in(loss, spike)
    assert watch.losses == []
    assert watch.judge(4, 1e9, 1.0) is None, "there is nothing to compare it with"


def test_losses_that_are_all_alike_leave_room() -> None:
    watch = watch_of([2.0] * 8)
    assert watch.judge(8, 2.01, 1.0) is None
    assert watch.judge(8, 2.02, 1.0) is not None


def test_another_level_is_a_spike_until_it_is_half_of_the_window() -> None:
    watch = watch_of([1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 1.1])
    spikes = []
    for step in range(8):
        spike = watch.judge(step, 5.0, 1.0)
        watch.take_in(5.0, spike)
        spikes.append(spike is not None)
    assert spikes == [True] * 4 + [False] * 4


def test_the_state_comes_back_through_json() -> None:
    watch = watch_of([1 / 3, 2.0], window=4)
    watch.take_in(float("nan"), Spike(2, None))
    watch.left_out.add(2)
    again = SpikeWatch(6.0, 4)
    again.load(json.loads(json.dumps(watch.state(), allow_nan=False)))
    assert again == watch


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("spikes = 'skpi'", r"run\.spikes = 'skpi'.*'tell', 'skip' or 'rewind'"),
        ("spike_threshold = 0.0", r"run\.spike_threshold"),
        ("spike_window = 3", r"run\.spike_window"),
    ],
)
def test_a_wrong_key_is_refused(line: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tiny_run(run=line)


def test_only_what_is_left_out_is_part_of_the_plan() -> None:
    assert run_of("tell").intent()["run"] == tiny_run(steps=STEPS).intent()["run"]
    assert run_of("skip").intent()["run"].keys() - run_of("tell").intent()["run"].keys() == {
        "spikes",
        "spike_threshold",
        "spike_window",
    }
    assert run_of("rewind").intent()["run"]["spike_batches"] == 2


# Policies


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TrainReport, Path]]:
    """A run of each policy that nothing interrupted."""
    outs = {policy: tmp_path_factory.mktemp(policy) for policy in ("tell", "skip", "rewind")}
    return {policy: (train(run_of(policy), Spiky(), out), out) for policy, out in outs.items()}


def test_told_it_is_named_and_nothing_changes(
    runs: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report, out = runs["tell"]
    assert [record["step"] for record in log_of(out) if "spike" in record] == [AT + 1]
    assert report.weights == weights_without(set(), run_of("tell"), Spiky())
    with caplog.at_level(logging.WARNING):
        train(run_of("tell"), Spiky(), tmp_path)
    (message,) = [record.message for record in caplog.records]
    assert f"run 'tiny', step {AT + 1}: loss " in message
    assert "robust deviations above those before it; its update is taken" in message
    assert f"headrace trace {tmp_path} --step {AT + 1} --loss" in message


def test_skipped_its_update_is_not_taken(runs: dict[str, Any]) -> None:
    report, out = runs["skip"]
    assert report.weights == weights_without({AT}, run_of("tell"), Spiky())
    record = log_of(out)[AT]
    assert (record["step"], record["left_out"]) == (AT + 1, True)
    assert record["spike"] > 4
    assert record["tokens"] == log_of(out)[AT - 1]["tokens"]
    assert state_of(out)["left_out"] == [AT]
    assert read_history(out).left_out == {AT}


def test_rewound_the_batches_before_it_are_left_out_too(runs: dict[str, Any]) -> None:
    report, out = runs["rewind"]
    assert report.weights == weights_without({AT - 1, AT}, run_of("tell"), Spiky())
    log = log_of(out)
    assert [record["step"] for record in log] == list(range(1, STEPS + 1))
    assert [record["step"] for record in log if record.get("left_out")] == [AT, AT + 1]
    assert "loss" not in log[AT]
    state = state_of(out)
    assert state["left_out"] == [AT - 1, AT]
    assert [spike[0] for spike in state["found"]] == [AT]


class DeathError(Exception):
    """Ends a run without notice."""


@pytest.mark.parametrize("policy", ["skip", "rewind"])
@pytest.mark.parametrize("at", [AT - 1, AT, AT + 2, AT + 6])
@pytest.mark.parametrize("kindly", [True, False])
def test_an_interrupted_run_leaves_out_the_same(
    runs: dict[str, Any], tmp_path: Path, policy: str, at: int, kindly: bool
) -> None:
    """A signal writes a checkpoint of its own, which may lie between the first batch that is left out and the spike."""

    def end(record: Any) -> None:
        if record["step"] == at and kindly:
            os.kill(os.getpid(), signal.SIGTERM)
        elif record["step"] == at:
            raise DeathError

    try:
        train(run_of(policy), Spiky(), tmp_path, on_metrics=end)
    except DeathError:
        assert not kindly
    resumed = train(run_of(policy), Spiky(), tmp_path, resume=True)
    report, out = runs[policy]
    assert (resumed.weights, resumed.tokens) == (report.weights, report.tokens)
    assert log_of(tmp_path) == log_of(out)
    assert state_of(tmp_path) == state_of(out)


def test_without_a_checkpoint_a_run_goes_back_to_its_beginning(tmp_path: Path) -> None:
    run = run_of("rewind").model_copy(update={"checkpoint": tiny_run().checkpoint})
    report = train(run, Spiky(noise=(16,)), tmp_path)
    assert report.weights == weights_without({15, 16}, run, Spiky(noise=(16,)))
    assert [path.name for path in find_checkpoints(tmp_path / "checkpoints")] == ["step-00000030"]


def test_a_checkpoint_of_the_damaged_weights_is_set_aside(tmp_path: Path) -> None:
    source = Spiky(noise=(25,))  # the checkpoint after 25 steps has seen step 24, which is left out with step 25
    report = train(run_of("rewind"), source, tmp_path)
    assert report.weights == weights_without({24, 25}, run_of("tell"), source)
    assert (tmp_path / "checkpoints" / "corrupt-step-00000025").exists()
    assert open_checkpoint(tmp_path / "checkpoints" / "step-00000030").step == 30


@pytest.mark.parametrize(("every", "back"), [(21, 21), (11, 11), (22, 0), (1, 21)])
def test_a_run_goes_back_once_what_is_being_written_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, back: int
) -> None:
    """Of the newest checkpoints that are under way at the spike, one is to be gone back to, others set aside."""
    real_save, real_answer, went = checkpoint_files.save_file, Session._answer, []

    def save_late(*args: Any) -> None:
        time.sleep(0.05 if every == 1 else 0.5)
        real_save(*args)

    def answer(self: Session, spike: Spike) -> bool:
        told = real_answer(self, spike)
        went.append((self.learner.step, [step_of(path) for path in find_checkpoints(self.folder)]))
        return told

    monkeypatch.setattr(checkpoint_files, "save_file", save_late)
    monkeypatch.setattr(Session, "_answer", answer)
    run = run_of("rewind").model_copy(update={"checkpoint": CheckpointSection(every=every, keep=1)})
    report = train(run, Spiky(), tmp_path)
    ((step, left),) = went
    assert (step, left[-1:]) == (back, [back] if back else [])
    assert report.weights == weights_without({AT - 1, AT}, run_of("tell"), Spiky())


@pytest.mark.parametrize("policy", ["skip", "rewind"])
def test_spikes_without_end_end_the_run(tmp_path: Path, policy: str) -> None:
    source = Spiky(noise=tuple(range(20, 30)))
    with pytest.raises(DivergenceError, match=r"step 30: .*the 10th spike in a row.* run\.spike_threshold"):
        train(run_of(policy, window=24, threshold=2.0), source, tmp_path)


@pytest.mark.parametrize("policy", ["skip", "rewind"])
def test_a_loss_that_is_no_number_is_left_out(tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Learner.measure

    def measure(self: Learner, batch: Batch, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        loss, nll, weights = real(self, batch, *rest)
        return (loss * float("nan"), nll, weights) if batch.step == 1 and self.model.training else (loss, nll, weights)

    monkeypatch.setattr(Learner, "measure", measure)
    report = train(run_of(policy), TinyStream(), tmp_path)
    monkeypatch.undo()
    left_out = {1} if policy == "skip" else {0, 1}
    assert report.weights == weights_without(left_out, run_of("tell"), TinyStream())


@pytest.mark.parametrize("policy", ["tell", "rewind"])
def test_an_evaluation_that_gives_no_number_leaves_it_to_the_next_step(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The update of a step spoils the weights, and the held-out split is measured before the next step's loss."""
    real, spoilt = Learner._rebalance, []

    def rebalance(self: Learner) -> None:
        if self.step == 3 and not spoilt:
            spoilt.append(self.step)
            self.model.state_dict()["embedding.weight"].fill_(float("nan"))
        real(self)

    monkeypatch.setattr(Learner, "_rebalance", rebalance)
    run = tiny_run(steps=10, run=f"spikes = '{policy}'", checkpoint="every = 2", eval="every = 4")
    if policy == "tell":
        with pytest.raises(DivergenceError, match="step 5: loss nan"):
            train(run, TinyStream(), tmp_path)
        assert "eval_loss" not in log_of(tmp_path)[3]
    else:
        assert train(run, TinyStream(), tmp_path).step == 10
        assert state_of(tmp_path)["left_out"] == [3, 4]
        assert all("eval_loss" in record for record in log_of(tmp_path) if record["step"] in (4, 8, 10))
    assert "run 'tiny', step 4: the held-out loss is nan" in caplog.text


def test_experts_are_balanced_by_what_was_learned_alone(tmp_path: Path) -> None:
    run = run_of("skip", model="num_experts = 2\nbalance = 'bias'")
    report = train(run, Spiky(), tmp_path)
    assert report.weights == weights_without({AT}, run, Spiky())


def test_all_ranks_leave_out_the_same(tmp_path: Path, runs: dict[str, Any]) -> None:
    done = torchrun("tests.test_spikes", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert state_of(tmp_path)["left_out"] == [AT - 1, AT]
    for one, two in zip(log_of(tmp_path), log_of(runs["rewind"][1]), strict=True):
        assert one.keys() == two.keys()
        assert one.get("loss", 0) == pytest.approx(two.get("loss", 0), rel=1e-4)


def main(out: Path) -> None:
    """Train as a rank, and leave the weights' digest."""
    report = train(run_of("rewind"), Spiky(), out)
    (out / f"rank{os.environ['RANK']}.json").write_text(json.dumps([report.weights, report.tokens]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
