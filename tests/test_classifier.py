"""Classifiers: what they learn from, what is held out, what is measured, and that they lie in the store."""

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.filters.fasttext_models import load_model
from headrace.filters.one_line import one_line
from headrace.filters.utf8 import Utf8
from headrace.pipeline.binary_metrics import Counted, evaluate
from headrace.pipeline.errors import InputError
from headrace.pipeline.labelled_texts import Choice, read_texts
from headrace.pipeline.schema import Manifest
from headrace.pipeline.training_lines import split_lines
from headrace.pipeline.verify import verify
from tests.commands import headrace
from tests.making import WORDS

SMALL = ("--dim", 8, "--buckets", 2000, "--epochs", 20)


def sentence(seed: int, words: list[str]) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(words) for _ in range(12)).capitalize() + "."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write good and bad texts in every format, with some that are empty, equal or under both labels."""
    folder = tmp_path_factory.mktemp("classifier")
    good = [sentence(seed, WORDS) for seed in range(300)]
    bad = [sentence(seed, ["buy", "now", "cheap", "click", "win", *WORDS[:20]]) for seed in range(300)]
    with gzip.open(folder / "good.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in [*good[:150], good[0], "", " \n"])
        file.write("{no json\n")
    pq.write_table(pa.table({"text": good[150:], "n": range(150)}), folder / "good.parquet")
    with (folder / "bad.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "kind"])
        rows.writerows([[text, "bad"] for text in [*bad[:299], good[299]]])
        rows.writerow(["neither this", "other"])
    (folder / "bad.txt").write_text(bad[299])
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    return train(folder)


def train(folder: Path, *more: object) -> Any:
    ran = headrace(
        *("classifier", "train", "--positive", folder / "good.*", "--negative", folder / "bad.csv"),
        *("--negative-where", "kind=bad", "--store", folder / "store", "--name", "good", "--heldout", 0.2),
        *(*SMALL, *more, "--json"),
    )
    assert ran.status == 0, ran.err
    return ran.json


def test_it_tells_good_from_bad_on_texts_it_has_not_seen(trained: Any) -> None:
    assert trained["texts"]["train"]["positive"] + trained["texts"]["heldout"]["positive"] == 299
    dropped = {reason: tally["records"] for reason, tally in trained["dropped"].items()}
    assert dropped == {"unreadable": 1, "empty": 2, "same_text": 1, "both_labels": 2}
    held = trained["heldout"]
    assert held["documents"] == sum(trained["texts"]["heldout"].values()) > 80
    assert held["average_precision"] > 0.95
    assert held["best_f1"]["f1"] > 0.9
    assert sum(item["documents"] for item in held["calibration"]) == held["documents"]


def test_it_is_an_artifact_of_the_store(folder: Path, trained: Any) -> None:
    manifest = Manifest.load(Path(trained["manifest"]))
    assert (manifest.stage, manifest.name, manifest.content) == ("classifier", "classifier", trained["content"])
    assert manifest.parts[0].files["model"].sha256 == trained["sha256"]
    assert {item.role for item in manifest.parts[0].inputs} == {"positive", "negative"}
    assert verify(folder / "store").ok
    model = Path(trained["model"])
    data = model.read_bytes()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        assert [finding.path for finding in verify(Path(trained["manifest"])).findings]
    finally:
        model.write_bytes(data)


def test_the_same_texts_are_not_trained_on_twice(folder: Path, trained: Any) -> None:
    assert train(folder) == trained
    assert train(folder, "--min-count", 2)["manifest"] != trained["manifest"]


def test_what_is_held_out_and_the_order_follow_from_the_texts(tmp_path: Path) -> None:
    pairs = [("positive" if n % 3 else "negative", f"text {n}") for n in range(500)]
    splits = []
    for number, order in enumerate((pairs, pairs[::-1])):
        (tmp_path / str(number)).mkdir()
        splits.append(split_lines(iter(order), ("positive", "negative"), tmp_path / str(number), 1000))
    assert splits[0].train.read_bytes() == splits[1].train.read_bytes()
    assert splits[0].heldout.read_bytes() == splits[1].heldout.read_bytes()
    assert 20 < sum(splits[0].counts["heldout"].values()) < 90
    labels = [line.split()[0] for line in splits[0].train.read_text().splitlines()]
    assert labels[:50].count("__label__negative") in range(5, 30)  # mixed, not one after the other
    splits[0].ledger.check("the split")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--positive", "absent/*.jsonl"), "no file matches"),
        (("--negative-where", "kind"), "write COLUMN=VALUE"),
        (("--negative-where", "kinds=bad"), "has no column 'kinds'; it has text, kind"),
        (("--negative-where", "kind=none"), "no negative text is left to train"),
        (("--text-column", "body"), "under 'body'"),
        (("--name", "Good One"), "lower-case letters"),
        (("--heldout", "0"), "heldout"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, tmp_path: Path, options: tuple[str, str], message: str) -> None:
    words = {
        "--positive": str(folder / "good.jsonl.gz"),
        "--negative": str(folder / "bad.csv"),
        "--store": str(tmp_path / "store"),
        "--name": "good",
        **dict([options]),
    }
    ran = headrace("classifier", "train", *(word for pair in words.items() for word in pair))
    assert ran.status in (1, 2)
    assert message in ran.err


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name, data in (
        ("x.html", b"<p>x"),
        ("x.parquet", b"PAR1"),
        ("x.csv.gz", b"text\n1\n"),
        ("x.csv", b"text\n\xff"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            list(read_texts(tmp_path / name, Choice()))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="a text file has no column"):
        list(read_texts(tmp_path / "x.txt", Choice.parse("text", "a=b")))


def test_values_are_compared_as_text(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c", None], "n": [1.0, 2.5, None, 1.0], "yes": [True, False, True, True]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert list(read_texts(tmp_path / "x.parquet", Choice.parse("text", "n=1,2.5"))) == ["a", "b", ""]
    assert list(read_texts(tmp_path / "x.parquet", Choice.parse("text", "yes=true"))) == ["a", "c", ""]


def test_one_line() -> None:
    assert one_line(" A\r\nb\u2028c\x0bd ", "lines") == "A b c d"
    assert one_line("The End. (Fin)", "words") == "the end .   ( fin )"
    assert one_line("x __label__good </s> y", "lines") == "x __ label__good < /s> y"
    assert "\n" not in one_line("a\nb\x85c\0", "words")


scored = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), max_size=40)


@given(scored)
def test_metrics_are_what_their_definitions_say(pairs: list[tuple[float, bool]]) -> None:
    scores, positive = [score for score, _ in pairs], [flag for _, flag in pairs]
    counted, hits = Counted.of(scores, positive), sum(positive)
    ups, downs = ([s for s, flag in pairs if flag is wanted] for wanted in (True, False))
    chances = [(a > b) + (a == b) / 2 for a in ups for b in downs]
    assert counted.roc_auc() == (pytest.approx(np.mean(chances)) if chances else None)
    steps, previous = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        at = counted.at(threshold)
        called = [flag for score, flag in pairs if score >= threshold]
        assert (at.true_positives, at.false_positives) == (sum(called), len(called) - sum(called))
        if at.recall is not None and at.precision is not None:
            steps, previous = steps + (at.recall - previous) * at.precision, at.recall
    assert counted.average_precision() == (pytest.approx(steps) if hits else None)
    found = evaluate(scores, positive)
    best = max((counted.at(score).f1 or 0.0 for score in scores), default=None)
    assert (found["best_f1"] or {"f1": None})["f1"] == (pytest.approx(best) if hits else None)
    if pairs:
        groups = [[pair for pair in pairs if min(int(pair[0] * 10), 9) == number] for number in range(10)]
        gaps = [abs(sum(s for s, _ in group) - sum(f for _, f in group)) for group in groups]
        assert found["expected_calibration_error"] == pytest.approx(sum(gaps) / len(pairs))


def test_toxicity_of_labelled_tweets(real_data: Path, tmp_path: Path) -> None:
    tweets = real_data / "safety" / "hate-speech-davidson.csv.gz"
    ran = headrace(
        *("classifier", "train", "--name", "toxicity", "--store", tmp_path, "--text-column", "tweet"),
        *("--positive", tweets, "--positive-where", "class=0,1", "--negative", tweets, "--negative-where", "class=2"),
        *("--normalize", "words", "--dim", 16, "--buckets", 200_000, "--epochs", 10, "--json"),
    )
    assert ran.status == 0, ran.err
    held = ran.json["heldout"]
    assert ran.json["texts"]["heldout"]["positive"] > 1500
    assert held["roc_auc"] > 0.96
    assert held["average_precision"] > 0.98
    assert held["best_f1"]["f1"] > 0.95
    assert held["expected_calibration_error"] < 0.05
    found, _ = load_model(Path(ran.json["model"])).probabilities(
        Utf8.of([one_line("What a lovely day it is!", "words")])
    )
    assert found.shape == (1, 2)
