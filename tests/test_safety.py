"""Lists of words, and heavier classifiers in ONNX: exact counts, pinned files, one score for one text."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.models import ModelFileError
from headrace.filters.signals.onnx import Onnx
from headrace.filters.signals.word_list import WordList
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import make_signal
from tests.signal_examples import example_options, pinned


def batch(*texts: str) -> TextBatch:
    return TextBatch(texts, [""] * len(texts))


def word_list(folder: Path, text: str, **more: Any) -> WordList:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return WordList(**pinned("path", path), **more)


def test_words_and_phrases_are_counted(tmp_path: Path) -> None:
    signal = word_list(tmp_path, "\ufeffmill\n# old\n\nold mill\nSTRASSE\nnaïve\nनमस्ते\n")
    texts = [
        "The old mill, an OLD\nMill and a mill-wheel; millers",
        "straße, Nai\u0308ve नमस्ते नमस्",
        "nothing here",
        "...",
    ]
    values = signal.measure(batch(*texts))
    assert values["num_matches"] == [3, 3, 0, 0]
    assert values["num_entries"] == [2, 3, 0, 0]
    assert values["match_frac"] == [5 / 11, 3 / 4, 0.0, None]


def test_characters_match_where_there_are_no_spaces(tmp_path: Path) -> None:
    signal = word_list(tmp_path, "水車\n車\n水車小屋\n", match="characters")
    values = signal.measure(batch("古い水車小屋と 水車と車", "水 車"))
    assert values["num_matches"] == [3, 1]
    assert values["num_entries"] == [3, 1]
    assert values["match_frac"] == [7 / 11, 1.0]


@given(st.lists(st.sampled_from("ab"), max_size=30), st.sets(st.text("ab", min_size=1, max_size=4), min_size=1))
def test_the_longest_entry_from_the_left_is_taken(units: list[str], entries: set[str]) -> None:
    from headrace.filters.signals.word_list import _matches

    trie: dict[str, Any] = {}
    for number, entry in enumerate(sorted(entries)):
        node = trie
        for unit in entry:
            node = node.setdefault(unit, {})
        node[""] = number
    text, position, expected = "".join(units), 0, []
    while position < len(text):
        here = [entry for entry in entries if text.startswith(entry, position)]
        if here:
            expected.append(max(here, key=len))
        position += len(expected[-1]) if here else 1
    assert [(sorted(entries)[number], length) for number, length in _matches(units, trie)] == [
        (entry, len(entry)) for entry in expected
    ]


def test_a_list_is_pinned(tmp_path: Path) -> None:
    signal = word_list(tmp_path, "mill\n")
    assert signal.measure(batch("mill wheel"))["num_matches"] == [1]
    Path(signal.path).write_text("wheel\n")
    with pytest.raises(ModelFileError, match="it is another file"):
        signal.measure(batch("mill wheel"))
    with pytest.raises(ModelFileError, match="there is no entry"):
        word_list(tmp_path, "# nothing\n...\n").measure(batch("x"))
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ModelFileError, match="no list in UTF-8"):
        WordList(**pinned("path", tmp_path / "latin.txt")).measure(batch("x"))
    with pytest.raises(RecipeError, match="option 'match'"):
        make_signal("word_list", {"path": "x", "sha256": "y", "match": "letters"})


@pytest.fixture(scope="module")
def onnx() -> Onnx:
    pytest.importorskip("onnxruntime")
    return Onnx(**example_options("onnx"))


def expected_logits(onnx: Onnx, text: str) -> Any:
    """Return what the model of the example gives, by its own rule: the mean of its bytes' weights."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(onnx.tokenizer).encode(text).ids[: onnx.max_tokens]
    weights = np.random.RandomState(7).normal(size=(256, 2)).astype(np.float32)
    return weights[ids].mean(axis=0)


TEXTS = ["The mill stands by the river.", "水車 🍷", "x" * 40_000, "a\ud800b", ""]


def test_scores_are_those_of_the_model(onnx: Onnx) -> None:
    values = onnx.measure(batch(*TEXTS))
    for row, text in enumerate(TEXTS[:3]):
        good, bad = expected_logits(onnx, text).tolist()
        assert values["score"][row] == pytest.approx(1 / (1 + math.exp(good - bad)), abs=1e-4)
        assert values["label"][row] == ("bad" if bad > good else "good")
    assert values["score"][3] is not None
    assert (values["label"][4], values["score"][4]) == (None, None)
    each = replace(onnx, activation="sigmoid").measure(batch(TEXTS[0]))["score"][0]
    assert each == pytest.approx(1 / (1 + math.exp(-expected_logits(onnx, TEXTS[0])[1])), abs=1e-4)
    start = replace(onnx, max_tokens=8)
    assert start.measure(batch("The mill stands"))["score"] == onnx.measure(batch("The mill"))["score"]


def test_both_files_are_pinned_and_must_be_what_they_are(onnx: Onnx, tmp_path: Path) -> None:
    assert {"model", "tokenizer", "onnxruntime", "tokenizers"} == set(onnx.resources())
    with pytest.raises(ModelFileError, match="it is another file"):
        replace(onnx, tokenizer_sha256="0" * 64).resources()
    with pytest.raises(ModelFileError, match="onnxruntime cannot load it"):
        replace(onnx, model=onnx.tokenizer, sha256=onnx.tokenizer_sha256).measure(batch("x"))
    with pytest.raises(ModelFileError, match=r"is no tokenizer\.json"):
        replace(onnx, tokenizer=onnx.model, tokenizer_sha256=onnx.sha256).measure(batch("x"))
    with pytest.raises(ModelFileError, match="for 3 labels"):
        replace(onnx, labels=("good", "bad", "odd")).measure(batch("x"))


def test_options_that_cannot_be(onnx: Onnx) -> None:
    options = {"model": "m", "sha256": "s", "tokenizer": "t", "tokenizer_sha256": "s", "labels": ["a", "b"]}
    for more, message in (
        ({"label": "c"}, "must be one of labels"),
        ({"label": "a", "max_tokens": 0}, "must be 1 or more"),
        ({"label": "a", "activation": "relu"}, "option 'activation'"),
        ({}, "needs the option 'label'"),
    ):
        with pytest.raises(RecipeError, match=message):
            make_signal("onnx", {**options, **more})
