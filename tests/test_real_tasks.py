"""Slices of real sets run through: ARC as multiple choice, BoolQ as labels, the files as they are."""

import gzip
import json
import re
from pathlib import Path

import pytest

from headrace.trainer.evaluation.task_file import TaskResult, load_task
from tests.small_model import scorer

LIMIT = 12


@pytest.fixture(scope="module")
def sets(real_data: Path) -> Path:
    if not (real_data / "tasks").is_dir():
        pytest.skip("real task sets (../shared/data/tasks) are not on this machine")
    return real_data / "tasks"


def run(folder: Path, text: str) -> TaskResult:
    (folder / "task.toml").write_text(text)
    return load_task(folder / "task.toml").run(scorer(length=256))


def test_a_slice_of_arc(sets: Path, tmp_path: Path) -> None:
    records = json.loads(gzip.decompress((sets / "arc-easy-train.json.gz").read_bytes()))[: LIMIT * 2]
    lines = []
    for record in records:
        question, answers, _ = record["instruction"].split("\n\n")
        choices = [part.strip() for part in re.split(r"Answer\d: ", answers)[1:]]
        right = int(record["answer"].removeprefix("answer")) - 1
        lines.append(json.dumps({"question": question.partition(": ")[2], "choices": choices, "answer": right}))
    (tmp_path / "arc.jsonl").write_text("\n".join(lines) + "\n")
    result = run(
        tmp_path,
        f"""
name = "arc_easy"
kind = "multiple_choice"
[data]
files = ["arc.jsonl"]
limit = {LIMIT}
[few_shot]
count = 1
[options]
prompt = "Question: {{question}}\\nAnswer:"
choices = "choices"
answer = "answer"
""",
    )
    assert result.num_items == LIMIT
    assert all(0 <= found.value <= 1 and found.n == LIMIT for found in result.metrics.values())


def test_a_slice_of_boolq(sets: Path, tmp_path: Path) -> None:
    result = run(
        tmp_path,
        f"""
name = "boolq"
kind = "classification"
[data]
files = ["{sets}/boolq-train.json.gz"]
limit = {LIMIT}
[few_shot]
count = 2
[options]
prompt = "{{instruction}}\\nthe correct answer is"
answer = "answer"
labels = ["true", "false"]
""",
    )
    assert (result.num_items, set(result.metrics)) == (LIMIT, {"acc", "f1_macro"})
    assert result.num_cut > 0, "two examples beside the question are longer than 256 tokens of this tokenizer"
