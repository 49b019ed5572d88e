"""`headrace eval` on a run: the held-out split by domain, tasks, checkpoints by name, stores that were moved."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.trainer.metrics import read_metrics
from tests.commands import Ran, build_words, headrace, small_crawl
from tests.making import RECIPE, RUN_FILE

RUN = (
    RUN_FILE.replace("steps = 2", "steps = 4")
    .replace("sequence_length = 32", "sequence_length = 64\nheldout = 0.1")
    .replace("global_batch = 2", "global_batch = 16")
)
TASKS = {
    "choice": """
name = "choice"
kind = "multiple_choice"
[data]
files = ["items.jsonl"]
[options]
prompt = "{text} and"
choices = ["the river", "the mill"]
answer = "n"
""",
    "written": """
name = "written"
kind = "generation"
[data]
files = ["items.jsonl"]
[options]
prompt = "{text}"
references = "text"
metrics = ["exact_match", "bleu", "rougeL"]
max_tokens = 8
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run of four steps with checkpoints after two and four, and task files."""
    folder = small_crawl(tmp_path_factory.mktemp("eval"))
    (folder / "small.toml").write_text(RECIPE + "\n[split]\nheldout = 1000\n", encoding="utf-8")
    built = headrace(*build_words(folder), "--json")
    assert built.status == 0, built.err
    text = RUN.format(tokens=Path(built.json["tokens_manifest"]).relative_to(folder))
    text = text.replace('" }]', '", name = "pages" }]')
    (folder / "run.toml").write_text(text + '[eval]\nevery = 2\ndomain = "url"\n[checkpoint]\nevery = 2\n')
    trained = headrace("train", folder / "run.toml", "--out", folder / "run")
    assert trained.status == 0, trained.err
    for name, task in TASKS.items():
        (folder / f"{name}.toml").write_text(task)
    lines = [
        json.dumps({"text": f"It was the {word}", "n": n % 2}) for n, word in enumerate(["one", "two", "long", "hot"])
    ]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def evaluated(*words: Any) -> Any:
    ran = headrace("eval", *words, "--json")
    assert ran.status == 0, ran.err
    return ran.json


def refused(*words: Any) -> str:
    ran: Ran = headrace("eval", *words)
    assert ran.status == 1, ran.out
    return ran.err


def test_the_held_out_split_is_measured_as_the_run_measured_it(folder: Path) -> None:
    log = {record["step"]: record for record in read_metrics(folder / "run" / "metrics.jsonl")}
    for where, step in (("run", 4), ("run/checkpoints/step-00000002", 2)):
        found = evaluated(folder / where)
        assert found["step"] == step
        assert found["heldout"]["loss"]["value"] == log[step]["eval_loss"]
        assert found["heldout"]["bits_per_byte"]["value"] == pytest.approx(log[step]["bits_per_byte"])
        assert found["heldout"]["loss"]["stderr"] == log[step]["eval_loss_stderr"]
        for url, part in found["heldout"]["domains"].items():
            assert part["loss"]["value"] == log[step][f"eval_loss/{url}"]
    assert found["heldout"]["documents"] == len(found["heldout"]["domains"]) > 2
    parts = found["heldout"]["domains"].values()
    assert sum(part["targets"] for part in parts) == found["heldout"]["targets"]


def test_domains_are_chosen_and_can_be_left_out(folder: Path) -> None:
    assert list(evaluated(folder / "run", "--domain", "source")["heldout"]["domains"]) == ["web"]
    assert list(evaluated(folder / "run", "--domain", "corpus")["heldout"]["domains"]) == ["pages"]
    less = evaluated(folder / "run", "--max-batches", 1)["heldout"]
    assert less["targets"] < evaluated(folder / "run")["heldout"]["targets"]
    assert evaluated(folder / "run", "--no-heldout")["heldout"] is None
    assert "no 'sorce' is beside tokens" in refused(folder / "run", "--domain", "sorce")


def test_tasks_are_run_on_a_checkpoint(folder: Path) -> None:
    words = [word for name in TASKS for word in ("--task", folder / f"{name}.toml")]
    choice, written = evaluated(folder / "run", "--no-heldout", *words)["tasks"]
    assert (choice["name"], choice["num_items"], choice["num_cut"]) == ("choice", 4, 0)
    assert choice["metrics"]["acc"]["n"] == 4
    assert set(written["metrics"]) == {"exact_match", "bleu", "rougeL"}
    shown = headrace("eval", folder / "run", *words)
    assert shown.status == 0, shown.err
    assert "acc_norm" in shown.out
    assert "bits per byte" in shown.out
    assert "signature: nrefs:1" in shown.out


def test_a_checkpoint_elsewhere_and_a_store_elsewhere_are_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run" / "checkpoints" / "step-00000004", tmp_path / "kept")
    shutil.copytree(folder / "store", tmp_path / "store")
    shutil.copytree(folder / "run", tmp_path / "run")
    expected = evaluated(folder / "run")["heldout"]
    assert evaluated(tmp_path / "kept")["heldout"] == expected
    (folder / "store").rename(folder / "gone")
    try:
        assert "not there any more" in refused(tmp_path / "run")
        assert evaluated(tmp_path / "run", "--store", tmp_path / "store")["heldout"] == expected
        assert evaluated(tmp_path / "kept", "--store", tmp_path / "store")["heldout"] == expected
    finally:
        (folder / "gone").rename(folder / "store")


def test_a_run_in_8_bits_is_measured_where_there_are_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "run.toml").read_text().replace('name = "x"', 'name = "x"\nfp8 = true')
    (folder / "bits.toml").write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr("headrace.trainer.learner.require_fp8", lambda device: None)
        trained = headrace("train", folder / "bits.toml", "--out", tmp_path / "run")
    assert trained.status == 0, trained.err
    logged = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["eval_loss"]
    found = evaluated(tmp_path / "run", "--device", "cpu")["heldout"]["loss"]["value"]
    assert found == pytest.approx(logged, rel=1e-3)
    assert found != logged
    traced = headrace("trace", tmp_path / "run", "--step", 4, "--loss")
    assert traced.status == 0, traced.err


def test_what_cannot_be_evaluated_says_why(folder: Path, tmp_path: Path) -> None:
    assert "no checkpoint there; name the folder of a run" in refused(tmp_path)
    assert "'causal' gives likelihoods" in refused(folder / "run", "--pseudo", "--task", folder / "choice.toml")
    (tmp_path / "task.toml").write_text(TASKS["choice"].replace('"n"', '"m"'))
    shutil.copy(folder / "items.jsonl", tmp_path)
    assert "items.jsonl: record 1: there is no field 'm'" in refused(tmp_path, "--task", tmp_path / "task.toml")
    assert "cannot be used here" in refused(folder / "run", "--device", "cuda:99")
