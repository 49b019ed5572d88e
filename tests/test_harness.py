"""lm-evaluation-harness runs our models, offline, and gets the numbers of our own scorer."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.pipeline.errors import InputError
from headrace.trainer.evaluation.task_file import load_task
from tests.small_model import scorer
from tests.test_scorer import PAIRS

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra harness)")

ITEMS = [
    ("Where does the water go", ["to the river", "to the mill and its wheel", "up", "they said so"], 1),
    ("Who can read the document", ["people", "one of the other people", "a river é日本"], 0),
    ("When was it", ["now", "then it was", "in the history of language"], 2),
    ("What would they make", ["a long word", "a thing", "two", "hot water"], 3),
    ("How many", ["one", "two", "many of them"], 1),
]
THEIRS = """
task: small
dataset_path: json
dataset_kwargs: {{ data_files: {{ test: {data} }} }}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{ metric: acc }}
  - {{ metric: acc_norm }}
  - {{ metric: acc_bytes }}
"""
OURS = """
name = "small"
kind = "multiple_choice"
[data]
files = ["items.jsonl"]
[options]
prompt = "Question: {question}\\nAnswer:"
choices = "choices"
answer = "answer"
"""


@pytest.fixture(scope="module")
def model() -> Any:
    from headrace.trainer.evaluation.harness import HeadraceLM

    return HeadraceLM.of(scorer())


def instances(*arguments: Any) -> list[Any]:
    return [SimpleNamespace(args=one) for one in arguments]


@pytest.mark.filterwarnings("ignore")  # of the harness and what it imports
def test_a_task_of_the_harness_has_the_numbers_of_ours(
    tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    data = tmp_path / "items.jsonl"
    lines = [json.dumps({"question": q, "choices": some, "answer": a}) for q, some, a in ITEMS * 3]
    data.write_text("\n".join(lines) + "\n")
    (tmp_path / "small.yaml").write_text(THEIRS.format(data=data))
    (tmp_path / "small.toml").write_text(OURS)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = simple_evaluate(model=model, tasks=["small"], task_manager=manager, bootstrap_iters=10)["results"]
    ours = load_task(tmp_path / "small.toml").run(model.scorer)
    assert 0 < ours.metrics["acc"].value < 1
    for name in ("acc", "acc_norm", "acc_bytes"):
        found = ours.metrics[name]
        assert results["small"][f"{name},none"] == pytest.approx(found.value)
        assert results["small"][f"{name}_stderr,none"] == pytest.approx(found.stderr)


def test_requests_are_answered_in_their_order(model: Any) -> None:
    found = model.loglikelihood(instances(*PAIRS))
    expected = model.scorer.likelihoods(PAIRS)
    assert found == [(pytest.approx(one.total), one.is_greedy) for one in expected]
    texts = [context for context, _ in PAIRS]
    rolled = model.loglikelihood_rolling(instances(*((text,) for text in texts)))
    assert rolled == pytest.approx([one.total for one in model.scorer.rolling(texts)])
    options = [{"until": ["e"], "max_gen_toks": 9}, {"until": "o", "max_new_tokens": 5, "do_sample": False}]
    asked = [(text, options[number % 2]) for number, text in enumerate(texts)]
    made = model.generate_until(instances(*asked))
    for text, option, written in zip(texts, options * 4, made, strict=True):
        until, limit = (["e"], 9) if option is options[0] else (["o"], 5)
        assert [written] == model.scorer.generate([text], until, limit)
    with pytest.raises(InputError, match="the task samples"):
        model.generate_until(instances(("x", {"until": [], "do_sample": True})))


def test_the_model_has_its_name_in_the_registry(model: Any) -> None:
    from lm_eval.api.registry import get_model

    assert get_model("headrace") is type(model)
    assert model.tokenizer_name


def test_nothing_else_imports_the_harness() -> None:
    code = (
        "import sys, importlib\n"
        "for name in ('subject', 'task_file', 'kinds.contract', 'metrics.contract'):\n"
        "    importlib.import_module(f'headrace.trainer.evaluation.{name}')\n"
        "from headrace.trainer.evaluation.kinds.contract import kinds\n"
        "from headrace.trainer.evaluation.metrics.contract import metrics\n"
        "kinds(), metrics()\n"
        "print([name for name in ('lm_eval', 'sacrebleu', 'rouge_score', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
