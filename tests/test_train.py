"""Training: it learns, it says what it does, and no interruption changes a bit of it."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.pipeline.errors import RecipeError, StoreError
from headrace.trainer.batch import IGNORE
from headrace.trainer.checkpoint import find_checkpoints, open_checkpoint, restore_model
from headrace.trainer.device import choose_bf16, choose_device
from headrace.trainer.evaluation.heldout import evaluate
from headrace.trainer.learner import DivergenceError, Learner
from headrace.trainer.metrics import MetricsLog, read_metrics
from headrace.trainer.model import logits_of
from headrace.trainer.optimizer import parameter_groups
from headrace.trainer.parallel import World
from headrace.trainer.run_config import OptimizerSection, load_run, parse_run
from headrace.trainer.schedule import SCHEDULES, Span, rate_at
from headrace.trainer.train import TrainReport, train
from tests.processes import environment, log_of, torchrun
from tests.tiny_stream import TinyStream, tiny_run

ALONE = World(0, 1, torch.device("cpu"))
MANY = 1200
"""Steps of a run that is long enough to be killed ten times."""

EVERY_THREE = {"eval": "every = 5", "checkpoint": "every = 3\nkeep = 2"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainReport, Path]:
    """A run of twelve steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("straight")
    return train(tiny_run(**EVERY_THREE), TinyStream(), out), out


# Learning


def test_two_hundred_steps_of_the_1m_model_learn_the_language(tmp_path: Path) -> None:
    run = tiny_run(steps=200, optimizer="schedule = 'wsd'").model_copy(
        update={"model": tiny_run().model.model_copy(update={"size": "1m", "num_layers": None, "width": None})}
    )
    report = train(run, TinyStream(global_batch=8), tmp_path)
    losses = [record["loss"] for record in log_of(tmp_path)]
    assert losses[0] == pytest.approx(math.log(64), rel=0.05)
    assert np.mean(losses[-10:]) < 1.5
    assert report.eval_loss is not None
    assert report.eval_loss < 1.5
    # The language's entropy is 0.1 * ln 64 + H(0.1) nats, less the chance that noise hits what was expected.
    assert report.eval_loss > 0.6


def test_the_first_loss_is_the_mean_over_targets_of_the_model_as_built() -> None:
    learner = Learner.build(tiny_run(), 64, ALONE)
    batch = TinyStream().batch(0)
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.documents))
    logits = logits_of(learner.model, *arrays, "mask")
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten().long(), ignore_index=IGNORE
    )
    result = learner.advance(TinyStream())
    assert result.loss == pytest.approx(expected.item(), rel=1e-5)
    assert result.num_targets == (batch.targets != IGNORE).sum()


@pytest.mark.parametrize("microbatch", [1, 3])
def test_accumulation_does_not_change_the_loss(tmp_path: Path, microbatch: int, straight: Any) -> None:
    train(tiny_run(optimizer=f"microbatch = {microbatch}", **EVERY_THREE), TinyStream(), tmp_path)
    for one, two in zip(log_of(tmp_path), log_of(straight[1]), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-4)
        assert one.get("eval_loss", 0) == pytest.approx(two.get("eval_loss", 0), rel=1e-5)


def test_bf16_follows_float32(tmp_path: Path, straight: Any) -> None:
    run = tiny_run(**EVERY_THREE)
    run = run.model_copy(update={"run": run.run.model_copy(update={"bf16": True})})
    report = train(run, TinyStream(), tmp_path)
    assert report.loss == pytest.approx(straight[0].loss, rel=0.02)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    run = tiny_run(optimizer="").model_copy(
        update={"optimizer": tiny_run().optimizer.model_copy(update={"learning_rate": 1e30, "clip": None})}
    )
    with pytest.raises(DivergenceError, match="step"):
        train(run, TinyStream(), tmp_path)
    assert all(math.isfinite(record["loss"]) for record in log_of(tmp_path))


# Interruption


def same_run(resumed: TrainReport, out: Path, straight: tuple[TrainReport, Path]) -> None:
    report, expected = straight
    assert resumed.weights == report.weights
    assert (resumed.step, resumed.loss, resumed.eval_loss) == (report.step, report.loss, report.eval_loss)
    assert (resumed.tokens, resumed.plan, resumed.interrupted) == (report.tokens, report.plan, False)
    assert log_of(out) == log_of(expected)


def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path: Path) -> None:
    def insist(record: Mapping[str, Any]) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.1)

    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, on_metrics=insist)
    assert not find_checkpoints(tmp_path / "checkpoints")


class DeathError(Exception):
    """Ends a run without notice."""


@pytest.mark.parametrize("at", [2, 3, 4, 11])
def test_a_run_that_died_goes_on_as_if_it_had_not(tmp_path: Path, at: int, straight: Any) -> None:
    def die(record: Mapping[str, Any]) -> None:
        torch.rand(3), np.random.random(2)
        if record["step"] == at:
            raise DeathError

    with pytest.raises(DeathError):
        train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, on_metrics=die)
    resumed = train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, resume=True)
    assert resumed.resumed_from == ((at - 1) // 3 * 3 or None)
    same_run(resumed, tmp_path, straight)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step(tmp_path: Path, number: signal.Signals, straight: Any) -> None:
    before = signal.getsignal(number)

    def tell(record: Mapping[str, Any]) -> None:
        if record["step"] == 4:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # as where a launcher passes on what all processes had already

    report = train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, on_metrics=tell)
    assert signal.getsignal(number) is before
    assert report.interrupted
    assert report.preempted == (number == signal.SIGTERM)
    assert report.step == 4
    assert report.checkpoint == tmp_path / "checkpoints" / "step-00000004"
    same_run(train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, resume=True), tmp_path, straight)


def test_a_killed_process_goes_on_in_another(tmp_path: Path, straight: Any) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.test_train", str(tmp_path)]
    with subprocess.Popen(command, env=environment(PACE="0.05"), stderr=subprocess.PIPE) as process:
        while process.poll() is None and len(find_checkpoints(tmp_path / "checkpoints")) < 2:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr and process.stderr.read().decode()
    resumed = train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, resume=True)
    assert resumed.resumed_from is not None
    same_run(resumed, tmp_path, straight)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_killed_ten_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    calm = train(tiny_run(steps=MANY, **EVERY_THREE), TinyStream(), tmp_path / "calm")
    out, random = tmp_path / "killed", np.random.default_rng(0)
    command = [sys.executable, "-W", "error", "-m", "tests.test_train", str(out)]
    for _ in range(10):
        with subprocess.Popen(command, env=environment(PACE="0.02", STEPS=str(MANY))) as process:
            before = len(read_metrics(out / "metrics.jsonl"))
            while process.poll() is None and len(read_metrics(out / "metrics.jsonl")) == before:
                time.sleep(0.01)
            time.sleep(0.3 * random.random())
            process.kill()
            assert process.wait() == -signal.SIGKILL
    resumed = train(tiny_run(steps=MANY, **EVERY_THREE), TinyStream(), out, resume=True)
    assert resumed.resumed_from is not None
    same_run(resumed, out, (calm, tmp_path / "calm"))


def test_a_corrupt_checkpoint_costs_steps_and_nothing_else(
    tmp_path: Path, straight: Any, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path)
    newest = find_checkpoints(tmp_path / "checkpoints")[-1]
    (newest / "optimizer.safetensors").write_bytes(b"")
    with caplog.at_level(logging.ERROR):
        resumed = train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, resume=True)
    assert newest.name in caplog.text
    assert resumed.resumed_from == 9
    same_run(resumed, tmp_path, straight)
    assert open_checkpoint(newest).step == 12


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, straight: Any) -> None:
    train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path)
    again = train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path, resume=True)
    assert again.seconds == 0
    same_run(again, tmp_path, straight)


def test_another_run_does_not_write_over_this_one(tmp_path: Path) -> None:
    train(tiny_run(steps=2), TinyStream(), tmp_path)
    with pytest.raises(StoreError, match="already holds a run"):
        train(tiny_run(steps=2), TinyStream(), tmp_path)
    with pytest.raises(RecipeError, match=r"run\.steps is 3, was 2"):
        train(tiny_run(steps=3), TinyStream(), tmp_path, resume=True)
    with pytest.raises(RecipeError, match=r"stream\.seed is 1, was 0"):
        train(tiny_run(steps=2), TinyStream(seed=1), tmp_path, resume=True)


def test_training_leaves_no_setting_behind(straight: Any) -> None:
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    reports: list[TrainReport] = []
    thread = threading.Thread(target=lambda: reports.append(train(tiny_run(steps=1), TinyStream(), tmp_path)))
    thread.start()
    thread.join()
    assert reports[0].step == 1


# What is written


def test_the_log_says_what_happened(straight: tuple[TrainReport, Path]) -> None:
    report, out = straight
    records = read_metrics(out / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 13))
    assert [record["step"] for record in records if "bits_per_byte" in record] == [5, 10, 12]
    assert records[-1]["tokens"] == report.tokens
    wanted = {"loss", "learning_rate", "grad_norm", "tokens", "seconds", "tokens_per_second"}
    assert all(wanted <= record.keys() for record in records)
    assert [path.name for path in find_checkpoints(out / "checkpoints")] == ["step-00000009", "step-00000012"]
    assert list((out / "tensorboard").iterdir())


def test_the_log_is_cut_back_to_a_step_and_forgets_half_a_line(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": step / 3})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with MetricsLog(tmp_path, 2) as log:
        assert log.last == {"step": 2, "loss": 2 / 3}
        log.write({"step": 3, "loss": 0.0})
    assert [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1 / 3, 2 / 3, 0.0]


def test_the_callback_hears_what_the_log_holds(tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    train(tiny_run(steps=3), TinyStream(), tmp_path, on_metrics=heard.append)
    assert heard == read_metrics(tmp_path / "metrics.jsonl")


def test_utilisation_is_given_where_the_peak_is_known(tmp_path: Path) -> None:
    run = tiny_run(steps=1)
    train(run.model_copy(update={"run": run.run.model_copy(update={"peak_flops": 1e9})}), TinyStream(), tmp_path)
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert record["mfu"] > 0


def test_a_checkpoint_gives_the_model_that_was_trained(straight: tuple[TrainReport, Path]) -> None:
    report, _ = straight
    assert report.checkpoint is not None
    checkpoint = open_checkpoint(report.checkpoint)
    assert checkpoint.state["plan"] == report.plan
    learner = Learner.build(tiny_run(), 64, ALONE)
    learner.model.load_state_dict(restore_model(checkpoint).state_dict())
    measured = evaluate(learner, TinyStream().heldout())
    assert measured is not None
    assert measured.loss == report.eval_loss


# Evaluation


def test_evaluation_is_a_quotient_of_sums() -> None:
    learner = Learner.build(tiny_run(), 64, ALONE)
    whole = evaluate(learner, TinyStream().heldout())
    parts = [
        evaluate(learner, [batch.rows(slice(row, row + 1))]) for batch in TinyStream().heldout() for row in range(8)
    ]
    assert whole is not None
    assert whole.num_bytes == sum(batch.num_bytes.sum() for batch in TinyStream().heldout())
    assert whole.nll == pytest.approx(sum(part.nll for part in parts if part), rel=1e-5)
    assert whole.bits_per_byte == pytest.approx(whole.loss / math.log(2) / 3)
    assert evaluate(learner, []) is None
    limited = evaluate(learner, TinyStream().heldout(), max_batches=1)
    assert limited is not None
    assert limited.num_targets < whole.num_targets


# Optimizer and schedules


def test_vectors_do_not_decay() -> None:
    model = Learner.build(tiny_run(), 64, ALONE).model
    decayed, free = parameter_groups(model, OptimizerSection(weight_decay=0.3))
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all("norm" in names[id(parameter)] for parameter in free["params"])
    assert not any("norm" in names[id(parameter)] for parameter in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_and_ends_where_it_says(name: str) -> None:
    span = Span(steps=100, warmup_steps=10, final_fraction=0.2, decay_fraction=0.3)
    rates = [rate_at(name, step, span) for step in range(100)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(1.0 if name == "constant" else 0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(name, 0, Span(steps=1)) > 0


def test_schedules_have_their_shapes() -> None:
    span = Span(steps=101, final_fraction=0.0, decay_fraction=0.2)
    assert rate_at("linear", 50, span) == pytest.approx(0.5)
    assert rate_at("cosine", 25, span) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert rate_at("wsd", 80, span) == 1.0
    assert rate_at("wsd", 90, span) == pytest.approx(0.5)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.75), ("minus_sqrt", 0.5), ("cosine", (2 + 2**0.5) / 4)])
@pytest.mark.parametrize("name", ["wsd", "inverse_sqrt"])
def test_a_cool_down_has_its_steps_and_shape(name: str, shape: str, middle: float) -> None:
    """After a quarter of its 40 steps."""
    span = Span(steps=101, warmup_steps=15, final_fraction=0.0, decay_steps=40, decay_shape=shape)
    before = 1.0 if name == "wsd" else math.sqrt(16 / 61)
    assert rate_at(name, 60, span) == pytest.approx(before)
    assert rate_at(name, 70, span) == pytest.approx(before * middle)
    assert rate_at(name, 100, span) == 0.0


def test_inverse_sqrt_falls_with_the_root_and_not_below_the_end() -> None:
    span = Span(steps=1001, warmup_steps=9, final_fraction=0.2, decay_steps=10)
    assert rate_at("inverse_sqrt", 39, span) == pytest.approx(0.5)
    assert rate_at("inverse_sqrt", 900, span) == rate_at("inverse_sqrt", 1000, span) == 0.2


# Run files


RUN = """
[run]
name = "x"
steps = 10
[data]
corpora = [{tokens = "a", weight = 2.0}]
sequence_length = 8
global_batch = 4
[model]
size = "5m"
[optimizer]
betas = [0.9, 0.98]
"""


def test_a_run_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    run = load_run(tmp_path / "run.toml")
    assert run == parse_run(RUN)
    assert run.optimizer.betas == (0.9, 0.98)
    assert run.model.resolve(100).width == 256


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("steps", "step", "'run.step'; did you mean 'steps'?"),
        ("weight", "wieght", "'data.corpora.0.wieght'; did you mean 'weight'?"),
        ("[optimizer]", "[optimiser]", "'optimiser'; did you mean 'optimizer'?"),
        ("betas", "zzz", "'optimizer.zzz'; known here: balance_loss"),
        ('name = "x"', "", "'run.name' is missing"),
        ("10", '"10"', "run.steps = '10'"),
        ("10", "nan", "run.steps"),
        ("0.98", "1.5", "betas must lie in [0, 1)"),
        ("5m", "5mm", "model.size = '5mm': no such size (did you mean '5m'?); one of: 1m, 5m"),
        ("steps = 10", "steps = 10\nobjective = 'causl'", "no such objective (did you mean 'causal'?)"),
        (
            'size = "5m"',
            "num_layers = 2\nwidth = 8",
            "give a size, or num_layers, width and num_heads; missing: num_heads",
        ),
        ("[optimizer]", "num_kv_heads = 3\n[optimizer]", "model.num_kv_heads = 3: num_heads (4) must be a multiple"),
        ("[optimizer]", "num_heads = 3\n[optimizer]", "model.num_heads = 3: width (256) must be num_heads (3) times"),
        ("[optimizer]", "width = 30\n[optimizer]", "model.width = 30: width (30) must be num_heads (4) times"),
        ("[optimizer]", "ffn_width = 0\n[optimizer]", "model.ffn_width = 0: "),
        ('"x"', "2026-11-25", "run.name = 2026-11-25: a date or time is no value here; put it in quotes"),
        ("[optimizer]", "[optimizer]\nschedule = 'cos'", "one of: constant, cosine, inverse_sqrt, linear, wsd"),
        ("[optimizer]", "[optimizer]\ndecay_shape = 'sqrt'", "one of: cosine, linear, minus_sqrt"),
        ("[model]", "[model", "not TOML"),
    ],
)
def test_a_wrong_run_file_is_refused_with_what_would_be_right(right: str, wrong: str, said: str) -> None:
    assert right in RUN
    with pytest.raises(RecipeError) as caught:
        parse_run(RUN.replace(right, wrong), "my.toml")
    assert said in str(caught.value)
    assert all(line.startswith("my.toml: ") for line in str(caught.value).splitlines())


def test_no_error_speaks_of_what_a_person_did_not_write() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_run(RUN.replace("[optimizer]", "num_heads = 3\n[optimizer]"))
    assert "vocab_size" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"run\.device = '{name}': cannot be used here .*\"auto\".*\"cpu\""):
        choose_device(name)


def test_precision_and_device_are_chosen() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_bf16(True, torch.device("cpu"))
    assert not choose_bf16(False, torch.device("cpu"))
    assert choose_bf16("auto", torch.device("cpu")) == bool(torch.cpu.get_capabilities().get("avx512_bf16"))


# Several processes, compilation


def test_two_ranks_train_as_one(tmp_path: Path, straight: Any) -> None:
    done = torchrun("tests.test_train", tmp_path)
    assert done.returncode == 0, done.stderr
    for one, two in zip(log_of(tmp_path), log_of(straight[1]), strict=True):
        assert one.keys() == two.keys()
        assert one["tokens"] == two["tokens"]
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one.get("eval_loss", 0) == pytest.approx(two.get("eval_loss", 0), rel=1e-5)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    left = [name for path in tmp_path.glob("threads*.json") for name in json.loads(path.read_text())]
    assert not [name for name in left if "gloo_runloop" in name], "they would abort a process that ends before them"
    assert open_checkpoint(tmp_path / "checkpoints" / "step-00000012").step == 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates
def test_a_compiled_model_gives_the_same_losses(tmp_path: Path, straight: Any) -> None:
    run = tiny_run(**EVERY_THREE)
    train(run.model_copy(update={"run": run.run.model_copy(update={"compile": True})}), TinyStream(), tmp_path)
    for one, two in zip(log_of(tmp_path), log_of(straight[1]), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


def main(out: Path) -> None:
    """Train in a process of its own, as slowly as `PACE` says, and leave the weights' digest for each rank."""
    pace = float(os.environ.get("PACE", "0"))
    run = tiny_run(steps=int(os.environ.get("STEPS", "12")), **EVERY_THREE)
    report = train(run, TinyStream(), out, resume="STEPS" in os.environ, on_metrics=lambda record: time.sleep(pace))
    rank = os.environ.get("RANK", "0")
    (out / f"rank{rank}.json").write_text(json.dumps([report.weights, report.tokens]))
    (out / f"threads{rank}.json").write_text(json.dumps(threads_of_this_process()))


def threads_of_this_process() -> list[str]:
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
