"""fastText models are asked as the library asks them: the same labels, the same probabilities."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.fasttext_kernel import BLOCK, LONG_WORD
from headrace.filters.fasttext_models import IMPOSSIBLE, FastTextModel, huffman_tree, load_model
from headrace.filters.models import ModelFileError
from headrace.filters.utf8 import Utf8
from tests.making import article
from tests.signal_examples import train_fasttext

LABELS = ("river", "mill", "müller")
KINDS: dict[str, dict[str, Any]] = {
    "words": {"loss": "softmax"},
    "bigrams": {"loss": "softmax", "wordNgrams": 2, "bucket": 5000},
    "characters": {"loss": "softmax", "minn": 1, "maxn": 5, "bucket": 5000},
    "tree": {"loss": "hs", "wordNgrams": 3, "minn": 2, "maxn": 4, "bucket": 5000},
    "quantized": {"loss": "softmax", "wordNgrams": 2, "minn": 3, "maxn": 3, "bucket": 5000},
    "many labels": {"loss": "softmax", "bucket": 100},
    "pruned": {"loss": "hs", "minn": 2, "maxn": 4, "bucket": 5000},
}
QUANTIZED: dict[str, dict[str, Any]] = {
    "quantized": {"qnorm": True, "dsub": 5},
    "pruned": {"cutoff": 400},
    "many labels": {"qout": True},
}
TEXTS = [
    "",
    " \n\t",
    "the mill by the river",
    "the mill </s> by the river",
    "a __label__mill b __label__ c",
    "müller Müller MÜLLER é 水車 🍷 \u2028 x",
    "NUL\0tab\tform\x0cfeed\x0bline\nend\r\n",
    "x" * (LONG_WORD - 1),
    "x" * (LONG_WORD + 1),
    "é水🍷" * (3 * LONG_WORD),
    "river " * 5000,
    "<a> > < >< aa",
    article(7),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def trained(folder: Path, kind: str) -> tuple[Path, Any]:
    """Train a small model."""
    lines = [
        f"__label__{label} {label} {' '.join(random.Random(seed).sample(article(seed).split(), 30))} 水車 é"
        for seed in range(60)
        for label in LABELS[: 1 + seed % 3]
    ]
    if kind == "many labels":
        lines += [f"__label__label-{number} word-{number} mill" for number in range(300)]
    text = folder / f"{kind}.txt"
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = train_fasttext(text, dim=12, epoch=3, minCount=1, **KINDS[kind])
    if kind in QUANTIZED:
        model.quantize(str(text), retrain=False, **QUANTIZED[kind])
    path = folder / f"{kind}.bin"
    model.save_model(str(path))
    return path, fasttext.load_model(str(path))


def assert_same(model: FastTextModel, library: Any, texts: list[str]) -> None:
    found, defined = model.probabilities(Utf8.of(texts))
    for text, row, is_defined in zip(texts, found.tolist(), defined.tolist(), strict=True):
        line = text.replace("\n", " ") + "\n"
        expected = {label.removeprefix("__label__"): p for p, label in library.f.predict(line, -1, 0.0, "strict")}
        assert is_defined == bool(expected)
        for label, probability in zip(model.labels, row, strict=True):
            if is_defined and (label in expected or probability > 2 * IMPOSSIBLE):
                assert probability == pytest.approx(expected[label], abs=3e-6), (text[:80], label)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_the_library_s(folder: Path, kind: str) -> None:
    path, library = trained(folder, kind)
    assert_same(load_model(path), library, TEXTS)


pieces = st.sampled_from(
    ["river", "mill", "<", ">", "</s>", "__label__mill", "é", "水車", "🍷", " ", "\n", "\0", "x" * 2000, "\x85", "of"]
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(pieces, max_size=30).map("".join), max_size=4))
@pytest.mark.parametrize("kind", ["bigrams", "pruned"])
def test_any_text_is_read_as_the_library_reads_it(folder: Path, kind: str, texts: list[str]) -> None:
    path, library = trained(folder, kind)
    assert_same(load_model(path), library, texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_same_alone_and_among_others(folder: Path, kind: str) -> None:
    model = load_model(trained(folder, kind)[0])
    together, _ = model.probabilities(Utf8.of(TEXTS))
    for number, text in enumerate(TEXTS):
        assert np.array_equal(model.probabilities(Utf8.of([text]))[0][0], together[number])


@pytest.mark.parametrize("kind", ["bigrams", "tree"])
def test_texts_of_several_blocks_of_words(folder: Path, kind: str) -> None:
    path, library = trained(folder, kind)
    texts = ["the mill", "river mill by " * (BLOCK // 2), "x " * BLOCK + "</s> mill", "", "a " * (BLOCK - 1), "river"]
    assert_same(load_model(path), library, texts)


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    path, _ = trained(folder, "bigrams")
    data = path.read_bytes()
    for size in (0, 3, 8, 60, 100, len(data) // 2, len(data) - 1):
        short = folder / f"short-{size}.bin"
        short.write_bytes(data[:size])
        with pytest.raises(ModelFileError, match="is no fastText model, or not all of one"):
            load_model(short)


@pytest.mark.parametrize("kind", ["bigrams", "pruned"])
def test_a_file_with_a_changed_byte_is_refused_or_read_within_its_bounds(folder: Path, kind: str) -> None:
    """Kernels look where the file says, so a number in its head or dictionary must not point outside of it."""
    path, _ = trained(folder, kind)
    data, changed = path.read_bytes(), folder / f"changed-{kind}.bin"
    drawn = random.Random(5)
    refused = 0
    for number in range(150):
        place = drawn.randrange(8, 4000)
        changed.write_bytes(data[:place] + bytes([data[place] ^ (1 << drawn.randrange(8))]) + data[place + 1 :])
        load_model.cache_clear()
        try:
            found, _ = load_model(changed).probabilities(Utf8.of(TEXTS))
        except ModelFileError:
            refused += 1
            continue
        assert len(found) == len(TEXTS), number
    assert 0 < refused < 150


def test_a_model_that_is_no_classifier_is_refused(folder: Path) -> None:
    trained(folder, "words")
    model = train_fasttext(folder / "words.txt", "train_unsupervised", dim=4, epoch=1, bucket=100)
    model.save_model(str(folder / "vectors.bin"))
    with pytest.raises(ModelFileError, match="are not those of a classifier"):
        load_model(folder / "vectors.bin")


def test_the_tree_of_two_labels_is_one_node() -> None:
    left, right = huffman_tree((5, 3))
    assert (left.tolist(), right.tolist()) == ([1], [0])
