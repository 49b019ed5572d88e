"""Commands that take a trained model, or try a run: what they print and write, and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import headrace
from tests.small_run import make_run_file


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run_file(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def trained(run_file: Path) -> Path:
    out = run_file.with_name("run")
    ran = headrace("train", run_file, "--out", out, "--json")
    assert ran.status == 0, ran.err
    return out


# ----------------------------------------------------------------------------------------------------------- export


def test_export_writes_what_transformers_loads_and_a_card(trained: Path, tmp_path: Path) -> None:
    import transformers

    ran = headrace("export", trained, "--to", "hf", "--out", tmp_path / "out", "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["architecture"], ran.json["obstacles"], ran.json["step"]) == ("LlamaForCausalLM", [], 4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = tokenizer("Zürich", return_tensors="pt")
    with torch.no_grad():
        assert model(**ids).logits.shape == (1, ids.input_ids.shape[1], 300)
    assert list((tmp_path / "out").glob("*.safetensors"))
    assert not list((tmp_path / "out").glob("*.bin"))


def test_the_card_tells_data_training_and_evaluation(trained: Path, tmp_path: Path) -> None:
    assert headrace("export", trained, "--out", tmp_path / "out", "--json").status == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    record = json.loads((trained / "run.json").read_text())
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    for told in (
        "pipeline_tag: text-generation",
        "- documents: 50",
        "Sources: lines (jsonl, extracted by plain).",
        "| MIT | 26 |\n| CC0 | 14 |\n| not named | 10 |",
        "- steps: 4 of 4",
        "- objective: causal",
        "learning_rate = 0.003",
        f"| 4 | {log[-1]['eval_loss']:.4f} | {log[-1]['bits_per_byte']:.4f} |",
        f"- plan of the run: `{record['plan']}`",
        f"It saw {log[-1]['tokens']:,} tokens in 4 steps.",
    ):
        assert told in card


def test_a_checkpoint_is_exported_as_it_was(trained: Path, tmp_path: Path) -> None:
    ran = headrace("export", trained / "checkpoints" / "step-00000002", "--out", tmp_path / "out", "--json")
    assert ran.json["step"] == 2
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "- steps: 2 of 4" in card
    assert "| 2 | " in card
    assert "| 4 | " not in card
    shutil.copytree(trained / "checkpoints" / "step-00000002", tmp_path / "alone")
    ran = headrace("export", tmp_path / "alone", "--out", tmp_path / "other", "--json")
    assert ran.json["step"] == 2, ran.err
    assert "The log has no measurement" in (tmp_path / "other" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--to", "gguf"], 2, "--to takes hf"),
        (["--dtype", "int8"], 2, "--dtype takes float32, bfloat16, float16"),
        (["--tokens", "nowhere"], 1, "nowhere: the tokens of the run are not there any more"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    words: list[str], status: int, told: str, trained: Path, tmp_path: Path
) -> None:
    ran = headrace("export", trained, "--out", tmp_path / "out", *words)
    assert ran.status == status
    assert told in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    ran = headrace("export", tmp_path, "--out", tmp_path / "out")
    assert (ran.status, f"{tmp_path}: no checkpoint there" in ran.err) == (1, True)


# --------------------------------------------------------------------------------------------------------- generate


def test_generate_writes_what_follows(trained: Path, tmp_path: Path) -> None:
    words = ["generate", trained, "--prompt", "Zürich", "--max-tokens", 40, "--seed", 1, "--top-k", 50, "--top-p", 0.9]
    ran = headrace(*words)
    assert ran.status == 0, ran.err
    told = headrace(*words, "--json").json
    assert ran.out == f"Zürich{told['text']}\n"
    assert "ended by: max tokens" in ran.err
    assert (len(told["tokens"]), told["ended_by"], told["step"], told["seed"]) == (40, "max tokens", 4, 1)
    assert told["prompt"] == "Zürich"
    (tmp_path / "prompt").write_text("Zürich", encoding="utf-8")
    from_file = headrace("generate", trained, "--prompt-file", tmp_path / "prompt", *words[4:], "--json").json
    assert from_file["text"] == told["text"]
    older = headrace("generate", trained / "checkpoints" / "step-00000002", *words[2:], "--json").json
    assert older["step"] == 2


def test_generate_stops_and_tells_what_was_cut(trained: Path) -> None:
    words = ["generate", trained, "--prompt", "Zürich " * 30, "--temperature", 0, "--max-tokens", 20, "--json"]
    told = headrace(*words).json
    assert told["prompt_cut"] == told["prompt_tokens"] - 32
    assert told["text"]
    stop = told["text"][-3:-1]
    stopped = headrace(*words, "--stop", stop).json
    assert (stopped["text"], stopped["ended_by"]) == (told["text"][: told["text"].index(stop)], "stop string")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "give one of --prompt and --prompt-file"),
        (["--prompt", "a", "--prompt-file", "b"], 2, "give one of --prompt and --prompt-file"),
        (["--prompt-file", "nowhere"], 1, "nowhere: cannot be read"),
        (["--prompt", "a", "--top-p", "2"], 1, "top_p = 2.0 must be above 0"),
        (["--prompt", "a", "--condition", "1"], 1, "condition = 1: the model has no conditions"),
        (["--prompt", "a", "--device", "tpu"], 1, "'tpu'"),
    ],
)
def test_a_text_that_cannot_be_written_is_refused(words: list[str], status: int, told: str, trained: Path) -> None:
    ran = headrace("generate", trained, *words)
    assert ran.status == status
    assert told in " ".join(ran.err.split())


def test_a_prompt_that_is_no_text_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"ab\xff")
    ran = headrace("generate", trained, "--prompt-file", tmp_path / "prompt")
    assert (ran.status, "byte 2 is not UTF-8" in ran.err) == (1, True)


def test_a_terminal_is_given_no_control_characters() -> None:
    from headrace.commands.generate import _harmless

    assert _harmless("a\x1b[31m\n\tb\x07é🏳️‍🌈\x9b").replace("\N{REPLACEMENT CHARACTER}", "?") == "a?[31m\n\tb?é🏳️‍🌈?"


# ----------------------------------------------------------------------------------------------- lr-find and profile


def test_lr_find_leaves_the_run_alone(run_file: Path, trained: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run_file.parent.rglob("*"))
    ran = headrace("lr-find", run_file, "--steps", 40, "--from", 1e-5, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["ended_by"] in ("steps", "rising loss")
    assert 1e-5 < ran.json["suggestion"] < 1
    shown = headrace("lr-find", run_file, "--steps", 40, "--from", 1e-5)
    assert f"{ran.json['suggestion']:.2e}" in shown.out
    assert sorted((path, path.stat().st_mtime_ns) for path in run_file.parent.rglob("*")) == before
    refused = headrace("lr-find", run_file, "--from", 2)
    assert (refused.status, "above the first" in refused.err) == (1, True)


def test_profile_writes_a_trace_and_nothing_else(run_file: Path, trained: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run_file.parent.rglob("*"))
    ran = headrace("profile", run_file, "--out", tmp_path / "trace.json", "--steps", 1, "--warmup", 0, "--json")
    assert ran.status == 0, ran.err
    assert sum(ran.json["shares"].values()) == pytest.approx(1)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    shown = headrace("profile", run_file, "--out", tmp_path / "trace.json", "--steps", 1, "--top", 3)
    for word in ("stream", "forward", "backward", "optimizer", "peak memory", "operator"):
        assert word in shown.out
    assert sorted((path, path.stat().st_mtime_ns) for path in run_file.parent.rglob("*")) == before
