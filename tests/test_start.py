"""A run that starts from another's checkpoint: it goes on as that one would have, cools down, or says why it cannot."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.errors import HeadraceError, InputError, IntegrityError, RecipeError
from headrace.trainer.checkpoint import manifest_digest
from headrace.trainer.metrics import read_metrics
from headrace.trainer.run_config import RunFile
from headrace.trainer.run_record import read_run
from headrace.trainer.train import TrainReport, train
from tests.tiny_stream import TinyStream, tiny_run

CONSTANT = "schedule = 'constant'"
COOLING = "schedule = 'wsd'\ndecay_steps = 3\nfinal_fraction = 0.0"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainReport, Path]:
    """A run of twelve steps at a constant rate, with a checkpoint after every third."""
    out = tmp_path_factory.mktemp("trunk")
    run = tiny_run(optimizer=f"{CONSTANT}\nema = 0.9", checkpoint="every = 3\nkeep = 9")
    return train(run, TinyStream(), out), out


def branch(
    start: Path, more: str = "start_step = 6", steps: int = 12, optimizer: str = CONSTANT, **rest: str
) -> RunFile:
    return tiny_run(
        steps=steps, run=f"start = '{start}'\n{more}", optimizer=optimizer, checkpoint="every = 3\nkeep = 9", **rest
    )


def test_with_the_same_settings_it_is_the_run_that_went_on(trunk: tuple[TrainReport, Path], tmp_path: Path) -> None:
    report, out = trunk
    went_on = train(branch(out), TinyStream(), tmp_path)
    assert (went_on.weights, went_on.tokens, went_on.step) == (report.weights, report.tokens, 12)
    log = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in log] == list(range(7, 13))
    assert [record["loss"] for record in log] == [r["loss"] for r in read_metrics(out / "metrics.jsonl")[6:]]
    averaged = train(branch(out, optimizer=f"{CONSTANT}\nema = 0.9"), TinyStream(), tmp_path / "averaged")
    assert averaged.weights == report.weights
    assert read_metrics(tmp_path / "averaged" / "metrics.jsonl")[-1]["ema_eval_loss"] == pytest.approx(
        read_metrics(out / "metrics.jsonl")[-1]["ema_eval_loss"], abs=0
    )


def test_it_cools_down_from_there_and_its_plan_names_the_checkpoint(trunk: Any, tmp_path: Path) -> None:
    _, out = trunk
    train(branch(out, optimizer=COOLING, steps=10), TinyStream(), tmp_path)
    rates = [record["learning_rate"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([3e-3, 2e-3, 1e-3, 0.0])
    start = read_run(tmp_path).intent["start"]
    assert start["checkpoint"] == manifest_digest(out / "checkpoints" / "step-00000006")
    assert start["step"] == 6


def test_the_newest_checkpoint_or_a_folder_of_one_can_be_named(trunk: Any, tmp_path: Path) -> None:
    _, out = trunk
    train(branch(out, more="", steps=13), TinyStream(), tmp_path / "newest")
    assert read_run(tmp_path / "newest").intent["start"]["step"] == 12
    train(branch(out / "checkpoints" / "step-00000003", more="", steps=4), TinyStream(), tmp_path / "one")
    assert read_run(tmp_path / "one").intent["start"]["step"] == 3


def test_recounted_it_begins_the_stream_and_the_schedule_anew(trunk: Any, tmp_path: Path) -> None:
    _, out = trunk
    run = branch(out, more="start_step = 6\nrecount = true\nstart_optimizer = false", steps=2)
    report = train(run, TinyStream(), tmp_path)
    log = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in log] == [1, 2]
    assert log[0]["learning_rate"] == 1e-3
    assert report.tokens == sum(int((TinyStream().batch(step).targets >= 0).sum()) for step in (0, 1))
    assert log[0]["loss"] < read_metrics(out / "metrics.jsonl")[0]["loss"] - 0.1


class DeathError(Exception):
    """Ends a run without notice."""


@pytest.mark.parametrize("at", [7, 11])
def test_it_resumes_bit_for_bit(trunk: Any, tmp_path: Path, at: int) -> None:
    """Before its first checkpoint, from the other run's; the newest of that is another by then."""
    report, out = trunk
    theirs = shutil.copytree(out, tmp_path / "trunk")
    for step in (9, 12):
        (theirs / "checkpoints" / f"step-{step:08d}").rename(tmp_path / str(step))

    def die(record: Any) -> None:
        if record["step"] == at:
            raise DeathError

    run = branch(theirs, more="")
    with pytest.raises(DeathError):
        train(run, TinyStream(), tmp_path / "branch", on_metrics=die)
    for step in (9, 12):
        (tmp_path / str(step)).rename(theirs / "checkpoints" / f"step-{step:08d}")
    resumed = train(run, TinyStream(), tmp_path / "branch", resume=True)
    assert (resumed.weights, resumed.tokens) == (report.weights, report.tokens)
    assert [record["step"] for record in read_metrics(tmp_path / "branch" / "metrics.jsonl")] == list(range(7, 13))


def test_what_it_started_from_must_be_there_and_the_same_until_it_has_a_checkpoint(trunk: Any, tmp_path: Path) -> None:
    _, out = trunk
    theirs = shutil.copytree(out, tmp_path / "trunk")
    run = branch(theirs)

    def die(record: Any) -> None:
        raise DeathError

    with pytest.raises(DeathError):
        train(run, TinyStream(), tmp_path / "branch", on_metrics=die)
    place = theirs / "checkpoints" / "step-00000006"
    place.rename(tmp_path / "aside")
    with pytest.raises(InputError, match="that the run starts from is not there any more"):
        train(run, TinyStream(), tmp_path / "branch", resume=True)
    train(tiny_run(steps=6), TinyStream(seed=1), tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "step-00000006", place)
    with pytest.raises(IntegrityError, match="not the checkpoint that the run started from"):
        train(run, TinyStream(), tmp_path / "branch", resume=True)
    with pytest.raises(RecipeError, match=r"start\.checkpoint is '[0-9a-f]+', was '[0-9a-f]+'"):
        train(branch(place, more=""), TinyStream(), tmp_path / "branch", resume=True)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"more": "start_step = 5"},
            InputError,
            r"of run\.start_step = 5; there are those of 3, 6, 9, 12",
        ),
        ({"steps": 6}, RecipeError, r"run\.steps = 6: .*step-00000006 has taken 6 steps, .* recount = true"),
        ({"model": "qk_norm = true"}, RecipeError, r"run\.start: .* another model: model\.qk_norm is True, was False"),
        (
            {"optimizer": "kind = 'muon'"},
            RecipeError,
            r"kind is 'muon', was 'adamw'.*start_optimizer = false",
        ),
    ],
)
def test_why_it_cannot_start_is_told(
    trunk: Any, tmp_path: Path, change: dict[str, Any], error: type[HeadraceError], said: str
) -> None:
    with pytest.raises(error, match=said):
        train(branch(trunk[1], **change), TinyStream(), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_another_optimizer_begins_without_moments(trunk: Any, tmp_path: Path) -> None:
    run = branch(trunk[1], more="start_step = 6\nstart_optimizer = false", optimizer="kind = 'muon'", steps=7)
    assert train(run, TinyStream(), tmp_path).step == 7


def test_a_start_must_be_named_and_is_relative_to_the_run_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"run\.start_step = 3: .* start = \"DIR\""):
        tiny_run(run="start_step = 3")
    with pytest.raises(InputError, match=r"run\.start = .*nowhere'?: no checkpoint there; name what `headrace train"):
        train(branch(Path("nowhere")).beside(tmp_path), TinyStream(), tmp_path / "out")
    assert branch(Path("there")).beside(tmp_path).run.start == str(tmp_path / "there")
