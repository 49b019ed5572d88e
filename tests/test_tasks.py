"""Tasks: what is asked and counted, as other people's software does it; faults of files are named."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.filters import libraries
from headrace.filters.libraries import MissingLibraryError
from headrace.pipeline.errors import InputError, RecipeError
from headrace.trainer.evaluation.items import Item, Template, read_task_items
from headrace.trainer.evaluation.kinds.classification import macro_f1
from headrace.trainer.evaluation.kinds.contract import Kind, kinds, make_kind
from headrace.trainer.evaluation.metrics.contract import make_metric, metrics
from headrace.trainer.evaluation.metrics.squad import exact, f1
from headrace.trainer.evaluation.scorer import Likelihood
from headrace.trainer.evaluation.task_file import Task, load_task
from tests.small_model import scorer


@dataclass
class Told:
    """A model that answers as it is told to."""

    values: Mapping[str, float] = field(default_factory=dict)
    texts: Sequence[str] = ()
    asked: list[tuple[str, str]] = field(default_factory=list)

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        self.asked.extend(pairs)
        return [Likelihood(self.values[text], len(text.split()), self.values[text] > -1) for _, text in pairs]

    def generate(self, prompts: Sequence[str], until: Sequence[str], max_tokens: int) -> list[str]:
        self.asked.extend((prompt, "") for prompt in prompts)
        return list(self.texts)


def items_of(*records: dict[str, Any]) -> list[Item]:
    return [Item(Path("items.jsonl"), number, number, record) for number, record in enumerate(records)]


def measured(kind: Kind, model: Told, items: Sequence[Item]) -> dict[str, float]:
    found = kind.measure(model, items, [kind.question(item) for item in items])
    return {name: one.value for name, one in found.items()}


# --------------------------------------------------------------------------------------------------------------- kinds

CHOICES = {"prompt": "Q: {question}\nA:", "choices": "choices.text", "answer": "answerKey", "labels": "choices.label"}
ARC = {"question": "Which?", "choices": {"text": ["one", "éé", "one two three"], "label": ["A", "B", "C"]}}


def test_choices_are_compared_whole_and_by_their_lengths() -> None:
    """Whole `one` is likeliest, per character `one two three`, per byte too, per token `éé` is worst."""
    kind = make_kind("multiple_choice", CHOICES)
    model = Told({" one": -3.0, " éé": -3.1, " one two three": -6.0})
    found = {key: measured(kind, model, items_of({**ARC, "answerKey": key})) for key in "ABC"}
    assert [found[key]["acc"] for key in "ABC"] == [1, 0, 0]
    assert [found[key]["acc_norm"] for key in "ABC"] == [0, 0, 1]
    assert [found[key]["acc_bytes"] for key in "ABC"] == [0, 0, 1]
    assert [found[key]["acc_tokens"] for key in "ABC"] == [0, 0, 1]
    assert model.asked[0] == ("Q: Which?\nA:", " one")
    near = Told({" one": -3.0, " éé": -1.9, " one two three": -13.0})
    both = measured(kind, near, items_of({**ARC, "answerKey": "B"}))
    assert (both["acc_norm"], both["acc_bytes"]) == (1, 1)
    bytewise = Told({" one": -3.0, " éé": -3.9, " one two three": -12.9})
    assert measured(kind, bytewise, items_of({**ARC, "answerKey": "B"}))["acc_bytes"] == 1
    assert measured(kind, bytewise, items_of({**ARC, "answerKey": "B"}))["acc_norm"] == 0


@pytest.mark.parametrize(
    ("options", "record"),
    [
        ({"choices": ["yes", "{no}"], "answer": "n"}, {"no": "no", "n": 1}),
        ({"choices": ["yes", "{no}"], "answer": "t"}, {"no": "no", "t": "no"}),
        ({"choices": ["yes", "{no}"], "answer": "n", "labels": ["1", "2"]}, {"no": "no", "n": 2}),
        ({"choices": "c", "answer": "a.0"}, {"c": ["yes", "no"], "a": ["no"]}),
    ],
)
def test_the_right_answer_is_a_number_a_label_or_a_text(options: dict[str, Any], record: dict[str, Any]) -> None:
    kind = make_kind("multiple_choice", {"prompt": "?", **options})
    (item,) = items_of(record)
    assert kind.solution(item) == "no"
    assert measured(kind, Told({" yes": -2.0, " no": -1.0}), [item])["acc"] == 1


def test_a_cloze_asks_for_the_last_word() -> None:
    kind = make_kind("cloze", {"text": "{text}"})
    items = items_of({"text": "the mill  stood by the river\n"}, {"text": "a wheel"})
    model = Told({" river": -0.5, " wheel": -2.5})
    found = measured(kind, model, items)
    assert model.asked == [("the mill  stood by the", " river"), ("a", " wheel")]
    assert found["acc"] == 0.5
    assert found["perplexity"] == pytest.approx(np.exp(1.5))
    assert found["bits_per_byte"] == pytest.approx(3 / np.log(2) / 12)
    given = make_kind("cloze", {"prompt": "{a}", "target": "{b}, all of it", "delimiter": ""})
    (item,) = items_of({"a": "x", "b": "y"})
    assert (given.question(item), given.solution(item)) == ("x", "y, all of it")
    with pytest.raises(InputError, match=r"items.jsonl: record 1: nothing is to be found"):
        kind.question(items_of({"text": "alone"})[0])


def test_labels_have_words() -> None:
    kind = make_kind("classification", {"prompt": "{t}", "answer": "l", "labels": {"0": "bad", "1": "very good"}})
    items = items_of({"t": "x", "l": 0}, {"t": "y", "l": 1}, {"t": "z", "l": "1"})
    model = Told({" bad": -2.0, " very good": -3.0})
    assert measured(kind, model, items) == {"acc": pytest.approx(1 / 3), "f1_macro": pytest.approx(0.25)}
    for normalize, acc in (("tokens", 2 / 3), ("characters", 2 / 3), ("bytes", 2 / 3), ("none", 1 / 3)):
        made = make_kind(
            "classification",
            {"prompt": "", "answer": "l", "labels": {"0": "bad", "1": "very good"}, "normalize": normalize},
        )
        assert measured(made, model, items)["acc"] == pytest.approx(acc)
    plain = make_kind("classification", {"prompt": "{t}", "answer": "l", "labels": ["true", "false"]})
    assert plain.solution(items_of({"t": "x", "l": True})[0]) == "true"
    with pytest.raises(InputError, match="record 1: l = 'maybe' is none of 'true', 'false'"):
        plain.solution(items_of({"t": "x", "l": "maybe"})[0])


def test_macro_f1_is_scikit_learn_s() -> None:
    scores = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    random = np.random.default_rng(0)
    for labels in (2, 3, 5):
        right, chosen = random.integers(labels, size=(2, 40))
        chosen[chosen == labels - 1] = 0
        assert macro_f1(right, chosen, labels + 1) == pytest.approx(scores.f1_score(right, chosen, average="macro"))


def test_generated_text_is_held_against_references() -> None:
    options = {"prompt": "{q}", "references": "answers", "metrics": ["exact_match", "squad_f1"], "until": ["."]}
    kind = make_kind("generation", options)
    items = items_of({"q": "a", "answers": ["x y", "z"]}, {"q": "b", "answers": "the end"}, {"q": "c", "answers": []})
    model = Told(texts=[" z\n", "an end", ""])
    assert measured(kind, model, items) == {"exact_match": pytest.approx(2 / 3), "squad_f1": 100}
    assert kind.solution(items[0]) == "x y"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("multiple_choice", {"prompt": "{", "choices": "c", "answer": "a"}, "refuses its options"),
        ("multiple_choice", {"prompt": "{a!r}", "choices": "c", "answer": "a"}, "the path of a field alone"),
        ("cloze", {"prompt": "x"}, "give text, whose last word is asked for, or both prompt and target"),
        ("cloze", {"text": "x", "prompt": "y", "target": "z"}, "give text"),
        ("classification", {"prompt": "", "answer": "a", "labels": ["x"]}, "give two at least"),
        ("classification", {"prompt": "", "answer": "a", "labels": {"a": "x", "b": "x"}}, "each its own words"),
        ("classification", {"prompt": "", "answer": "a", "labels": ["x", "y"], "normalise": ""}, "mean 'normalize'"),
        ("generation", {"prompt": "", "references": "r", "metrics": ["blue"]}, "did you mean 'bleu'?"),
        ("generation", {"prompt": "", "references": "r", "metrics": []}, "give metrics"),
        ("generation", {"prompt": "", "references": "r"}, "needs the option 'metrics'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_kind(name, options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "there is no field 'question'; at 'question' there is a table with nothing"),
        ({**ARC, "answerKey": "D"}, "answerKey = 'D' is none of 'A', 'B', 'C'"),
        ({**ARC, "question": ["x"], "answerKey": "A"}, "the field 'question' is a list of 1, not a text"),
        ({**ARC, "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "A"}, "two answers at least"),
        ({**ARC, "choices": {"text": ["x", ""], "label": ["A"]}, "answerKey": "A"}, "none empty"),
    ],
)
def test_an_item_that_lacks_something_is_named(record: dict[str, Any], said: str) -> None:
    kind = make_kind("multiple_choice", CHOICES)
    (item,) = items_of(record)
    with pytest.raises(InputError) as caught:
        kind.question(item), kind.solution(item)
    assert str(caught.value).startswith("items.jsonl: record 1: ")
    assert said in str(caught.value)


def test_every_kind_and_metric_has_a_test() -> None:
    assert set(kinds()) == {"classification", "cloze", "generation", "multiple_choice"}
    assert set(metrics()) == {
        *("bleu", "chrf", "exact_match", "rouge1", "rouge2", "rougeL", "rougeLsum", "squad_em", "squad_f1")
    }


# ------------------------------------------------------------------------------------------------------------- metrics

WRITTEN = ["the cat sat on the mat", "a dog barked", "nothing at all was said"]
REFERENCES = [["the cat sat on a mat", "a cat was on the mat"], ["the dog barked loudly"], ["nothing was said at all"]]


def test_squad_counts_as_its_script() -> None:
    """Values of evaluate-v1.1.py by hand: articles, punctuation and case are nothing, words are a bag."""
    assert exact("The  Eiffel Tower!", "eiffel tower") == 1
    assert f1("the big red dog", "a red dog, red") == pytest.approx(2 * (2 / 3) * (2 / 3) / (4 / 3))
    assert f1("cat", "dog") == 0
    assert (f1("the", ""), f1("x", "")) == (1, 0)
    found = make_metric("squad_em").measure(["Denver Broncos", "x"], [["Carolina", "The Denver Broncos."], ["y"]])
    assert (found.value, found.n) == (50, 2)


def test_bleu_and_chrf_are_sacrebleu_s() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra eval)")
    streams = [["the cat sat on a mat", "the dog barked loudly", "nothing was said at all"]]
    streams.append(["a cat was on the mat", None, None])
    for name, corpus in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        found = make_metric(name).measure(WRITTEN, REFERENCES)
        assert found.value == pytest.approx(corpus(WRITTEN, streams).score)
        assert found.signature is not None
        assert "|version:" in found.signature
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high
        assert make_metric(name).measure(WRITTEN[:1], REFERENCES[:1]).low is None


@pytest.mark.parametrize("name", ["bleu", "chrf"])
@pytest.mark.parametrize(("num_good", "bad"), [(1, ""), (1, "qqq"), (0, "")])
def test_answers_that_hardly_fit_have_an_interval(name: str, num_good: int, bad: str) -> None:
    """Most resamples have no n-gram in common with their references, which is a score of 0 and no fault."""
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra eval)")
    written = [*["the cat sat on the mat"] * num_good, *[bad] * (20 - num_good)]
    found = make_metric(name).measure(written, [["the cat sat on a mat"]] * 20)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 100


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_is_rouge_score_s(name: str) -> None:
    rouge = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed (extra eval)")
    one = rouge.RougeScorer([name])
    best = [
        max(one.score(known, text)[name].fmeasure for known in some)
        for text, some in zip(WRITTEN, REFERENCES, strict=True)
    ]
    found = make_metric(name).measure(WRITTEN, REFERENCES)
    assert found.value == pytest.approx(np.mean(best))
    assert found.stderr == pytest.approx(np.std(best, ddof=1) / np.sqrt(3))
    assert found.signature is not None


def test_a_library_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise libraries.PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", absent)
    for name in ("bleu", "chrf", "rouge1", "rougeL"):
        with pytest.raises(MissingLibraryError, match=rf"'{name}' needs .*headrace\[eval\]"):
            make_metric(name)


# --------------------------------------------------------------------------------------------------------------- files

TASK = """
name = "bridges"
kind = "classification"
description = "Bridges.\\n\\n"

[data]
files = ["items.jsonl"]

[few_shot]
count = 2
seed = 3

[options]
prompt = "{q}?"
answer = "a"
labels = ["yes", "no"]
"""


def task_in(folder: Path, text: str = TASK, num_items: int = 8) -> Task:
    lines = [json.dumps({"q": f"q{n}", "a": ("yes", "no")[n % 2]}) for n in range(num_items)]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "task.toml").write_text(text)
    return load_task(folder / "task.toml")


def test_examples_are_drawn_by_seed_and_never_the_item_itself(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    prompts = task.prompts()
    assert prompts == task_in(tmp_path).prompts()
    assert prompts[:3] == task_in(tmp_path, TASK.replace("[few_shot]", "limit = 3\n[few_shot]")).prompts()
    assert prompts != task_in(tmp_path, TASK.replace("seed = 3", "seed = 4")).prompts()
    for number, prompt in enumerate(prompts):
        first, second, question = prompt.removeprefix("Bridges.\n\n").split("\n\n")
        assert question == f"q{number}?"
        assert f"q{number}? " not in prompt
        for example in (first, second):
            asked, said = example.split("? ")
            assert said == ("yes", "no")[int(asked[1:]) % 2]
    assert len({prompt.rpartition("\n\n")[0] for prompt in prompts}) > 4
    assert {number for item in task.items for number in (one.number for one in task.drawn(item))} == set(range(8))
    with pytest.raises(InputError, match=r"few_shot.count = 2, but there are 1 examples beside the item"):
        task_in(tmp_path, num_items=2).prompts()


@pytest.mark.parametrize(
    ("kind", "options", "wrong", "said"),
    [
        ("generation", 'references = "r"\nmetrics = ["exact_match"]', {"r": None}, "the field 'r' is None, not a text"),
        ("generation", 'references = ["{r}", "{s}"]\nmetrics = ["exact_match"]', {"r": "x"}, "there is no field 's'"),
        ("multiple_choice", 'choices = ["b", "c"]\nanswer = "r"', {"r": "d"}, "r = 'd' is none of 'b', 'c'"),
        ("classification", 'answer = "r"\nlabels = ["b", "c"]', {"r": "d"}, "r = 'd' is none of 'b', 'c'"),
        ("cloze", 'target = "{r}"', {"r": ""}, "nothing is to be found there"),
    ],
)
def test_what_is_wrong_with_an_item_is_told_before_anything_is_asked(
    tmp_path: Path, kind: str, options: str, wrong: dict[str, Any], said: str
) -> None:
    records = [{"q": "a", "r": "b", "s": "b"}, {"q": "c", **wrong}]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    body = f'name = "t"\nkind = "{kind}"\n[data]\nfiles = ["items.jsonl"]\n[options]\nprompt = "{{q}}"\n{options}\n'
    (tmp_path / "task.toml").write_text(body)
    with pytest.raises(InputError) as caught:
        load_task(tmp_path / "task.toml").check()
    assert str(caught.value).startswith(f"{tmp_path / 'items.jsonl'}: record 2: ")
    assert said in str(caught.value)


def test_a_result_has_all_that_it_rests_on(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    result = task.run(scorer())
    assert (result.num_items, result.num_examples, result.num_cut) == (8, 2, 0)
    report = json.loads(json.dumps(result.report()))
    assert set(report["metrics"]) == {"acc", "f1_macro"}
    assert set(report["metrics"]["acc"]) == {"value", "n", "stderr", "low", "high"}
    again = task_in(tmp_path)
    assert again.digest == result.digest
    assert task_in(tmp_path, num_items=9).digest != result.digest
    assert task_in(tmp_path, TASK.replace("{q}?", "{q}!")).digest != result.digest
    assert task.run(scorer(length=8)).num_cut == 16, "two labels an item"


def test_items_are_read_from_parquet_and_json(tmp_path: Path) -> None:
    records = [{"q": "x", "a": ["u", "v"], "n": 1.5}, {"q": "y", "a": [], "n": 2.0}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text(json.dumps({"data": {"rows": records}}))
    for name, where in (("a.parquet", ""), ("b.json", "data.rows")):
        items = read_task_items([tmp_path / name], where)
        assert [item.record for item in items] == records
        assert items[0].texts("a") == ["u", "v"]
        assert Template("{q}{{{a.1}}} {n}").fill(items[0]) == "x{v} 1.5"
    (tmp_path / "c.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match=r"c.jsonl: record 1 is a list of 1, not a table of fields"):
        read_task_items([tmp_path / "c.jsonl"], "")
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(InputError, match="no record there"):
        read_task_items([tmp_path / "c.jsonl"], "")


def test_a_row_with_more_cells_than_there_are_columns_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('q,a\n"x\ny",1\nno, never,2\n')
    with pytest.raises(InputError, match=r"a\.csv: line 4 has 3 cells, but there are 2 columns: q, a; .*quotes"):
        read_task_items([tmp_path / "a.csv"], "")


def test_a_fault_names_the_record_s_place_in_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "x"}\n{"q": "y"}\n')
    (tmp_path / "b.jsonl").write_text('{"q": "z"}\n7\n')
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    items = read_task_items(paths, "", limit=3)
    assert [item.number for item in items] == [0, 1, 2]
    assert str(items[1].fault("no")) == f"{paths[0]}: record 2: no"
    assert str(items[2].fault("no")) == f"{paths[1]}: record 1: no"
    with pytest.raises(InputError, match=r"b\.jsonl: record 2 is 7, not a table"):
        read_task_items(paths, "")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("classification", "clasification", "no such kind of task (did you mean 'classification'?)"),
        ("seed = 3", "sed = 3", "unknown key 'few_shot.sed'; did you mean 'seed'?"),
        ('answer = "a"', "", "options = {'prompt': '{q}?', 'labels': ['yes', 'no']}: task kind"),
        ('files = ["items.jsonl"]', "", "the key 'data.files' is missing"),
        ("count = 2", "count = 0", "few_shot.count = 0"),
        ("[data]", "[data", "not TOML"),
    ],
)
def test_a_wrong_task_file_is_refused_with_what_would_be_right(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in TASK
    with pytest.raises(RecipeError) as caught:
        task_in(tmp_path, TASK.replace(right, wrong))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "task.toml"))
