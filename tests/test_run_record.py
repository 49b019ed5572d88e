"""The record of a run: there before the first step, enough to trace by, and what a resumed run is held to."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.trainer.batch import Batch
from headrace.trainer.checkpoint import latest_checkpoint
from headrace.trainer.checkpoint_files import Share, save_checkpoint
from headrace.trainer.run_config import RunFile
from headrace.trainer.run_record import RunRecord, read_run
from headrace.trainer.tensor_files import part_of
from headrace.trainer.train import train
from tests.commands import build_words, headrace, small_crawl
from tests.making import RUN_FILE
from tests.tiny_stream import TinyStream, tiny_run


class Dying(TinyStream):
    """A stream that ends its run before the first step."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        raise OSError("killed")


def died(out: Path) -> RunRecord:
    with pytest.raises(OSError, match="killed"):
        train(tiny_run(), Dying(), out)
    assert not (out / "checkpoints").exists()
    return read_run(out)


def steeper(run: RunFile) -> RunFile:
    return run.model_copy(update={"optimizer": run.optimizer.model_copy(update={"learning_rate": 0.5})})


def test_a_run_that_dies_at_once_leaves_its_record(tmp_path: Path) -> None:
    record = died(tmp_path)
    assert record == RunRecord.of(tiny_run(), TinyStream())
    assert record.run == tiny_run()
    report = train(tiny_run(), TinyStream(), tmp_path, resume=True)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint
    assert record.plan == report.plan == checkpoint.state["plan"]
    assert read_run(tmp_path) == record


def test_another_plan_does_not_resume_it_and_may_start_anew(tmp_path: Path) -> None:
    record = died(tmp_path)
    with pytest.raises(RecipeError, match=r"run\.json was made by another plan: optimizer\.learning_rate is 0\.5, was"):
        train(steeper(tiny_run()), TinyStream(), tmp_path, resume=True)
    assert read_run(tmp_path) == record
    train(steeper(tiny_run()), TinyStream(), tmp_path)
    assert read_run(tmp_path).run == steeper(tiny_run())


def test_what_is_no_part_of_the_plan_may_change(tmp_path: Path) -> None:
    record = died(tmp_path)
    renamed = tiny_run().model_copy(update={"run": tiny_run().run.model_copy(update={"name": "other"})})
    train(renamed, TinyStream(), tmp_path, resume=True)
    assert (read_run(tmp_path).plan, read_run(tmp_path).run.run.name) == (record.plan, "other")


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    died(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"seed":', '"sead":'))
    with pytest.raises(IntegrityError, match=r"run\.json: the record is damaged"):
        train(tiny_run(), TinyStream(), tmp_path, resume=True)


def test_a_run_without_a_record_is_read_from_its_checkpoint(tmp_path: Path) -> None:
    report = train(tiny_run(), TinyStream(), tmp_path)
    (tmp_path / "run.json").unlink()
    assert (read_run(tmp_path).plan, read_run(tmp_path).run) == (report.plan, tiny_run())
    with pytest.raises(InputError, match="no run there"):
        read_run(tmp_path / "none")


# ------------------------------------------------------------------------------------------------------------- trace


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and a run of two steps over it."""
    folder = small_crawl(tmp_path_factory.mktemp("house"))
    built = headrace(*build_words(folder), "--json").json
    (folder / "run.toml").write_text(RUN_FILE.format(tokens=built["tokens_manifest"]))
    assert headrace("train", folder / "run.toml", "--out", folder / "run").status == 0
    return folder


def traced(run: Path, *words: object) -> Any:
    ran = headrace("trace", run, "--step", 2, "--json", *words)
    assert ran.status == 0, ran.err
    return ran.json["documents"]


def test_a_run_without_a_checkpoint_is_traced(house: Path, tmp_path: Path) -> None:
    out = shutil.copytree(house / "run", tmp_path / "run")
    shutil.rmtree(out / "checkpoints")
    assert traced(out) == traced(house / "run")
    (out / "metrics.jsonl").unlink()
    ran = headrace("trace", out, "--step", 2, "--json")
    assert (ran.status, ran.json["trained"], ran.json["documents"]) == (0, False, traced(house / "run"))
    assert "step 2 has not been trained yet (the log ends with step 0)" in ran.err


def test_a_step_that_was_left_out_trained_nothing(house: Path, tmp_path: Path) -> None:
    out = shutil.copytree(house / "run", tmp_path / "run")
    checkpoint = latest_checkpoint(out / "checkpoints")
    assert checkpoint
    doc_id = traced(out)[0]["doc_id"]
    state = {**checkpoint.state, "spikes": {"left_out": [1]}}
    tensors = [part_of(tensors) for tensors in (checkpoint.model_tensors(), checkpoint.optimizer_tensors())]
    save_checkpoint(out / "checkpoints", checkpoint.step, Share(tensors[0], tensors[1], state))
    ran = headrace("trace", out, "--step", 2, "--json")
    assert (ran.status, ran.json["trained"]) == (0, False)
    assert "step 2 was left out at a loss spike" in ran.err
    steps = [
        {one["step"] for one in headrace("exposure", folder, "--doc", doc_id, "--json").json["exposed"]}
        for folder in (house / "run", out)
    ]
    assert 2 in steps[0]
    assert steps[1] == steps[0] - {2}


@pytest.mark.parametrize("step", [3, 10**12])
def test_a_step_beyond_the_plan_is_refused(house: Path, step: int) -> None:
    ran = headrace("trace", house / "run", "--step", step, "--json")
    assert (ran.status, ran.json["kind"]) == (1, "InputError")
    assert f"--step {step}: run 'x' has the steps 1 to 2" in ran.json["error"]


@pytest.mark.parametrize("record", [True, False])
def test_a_moved_store_is_found_by_what_is_in_it(house: Path, tmp_path: Path, record: bool) -> None:
    """By the content id of its tokens, or, in a run without a record, by their key."""
    folder = shutil.copytree(house, tmp_path / "house")
    before = traced(folder / "run")
    run = folder / "run"
    if record:
        (run / "checkpoints").rename(folder / "aside")
    else:
        (run / "run.json").unlink()
    hidden = house / "store"
    hidden.rename(house / "hidden")
    try:
        ran = headrace("trace", run, "--step", 2, "--json")
        assert (ran.status, ran.json["kind"]) == (1, "InputError")
        assert "--store DIR" in ran.json["error"]
        assert places(traced(run, "--store", folder / "store")) == places(before)
        (tokens,) = (folder / "store" / "artifacts" / "tokenize").iterdir()
        assert places(traced(run, "--tokens", tokens / "manifest.json")) == places(before)
        ran = headrace("trace", run, "--step", 2, "--tokens", tokens, "--tokens", tokens)
        assert "2 manifests of tokens are named; the run has 1 corpora" in ran.err
    finally:
        (house / "hidden").rename(hidden)


def places(documents: Any) -> list[Any]:
    return [(item["row"], item["offset"], item["doc_id"], item["origin"]) for item in documents]


def test_other_tokens_are_refused(house: Path, tmp_path: Path) -> None:
    folder = small_crawl(tmp_path / "other")
    words = [*build_words(folder), "--set", "gopher_quality.num_words.min=480", "--json"]
    other = headrace(*words).json
    ran = headrace("trace", house / "run", "--step", 1, "--tokens", other["tokens_manifest"], "--json")
    assert (ran.status, ran.json["kind"]) == (1, "IntegrityError")
    assert "are not those of run 'x'" in ran.json["error"]
    ran = headrace("trace", house / "run", "--step", 1, "--store", folder / "store", "--json")
    assert (ran.status, ran.json["kind"]) == (1, "InputError")
    assert "no tokens with the content id" in ran.json["error"]
