"""Signals that cannot be made without options, made with small files, so that the laws run over them too."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from headrace.filters.contract import Signal, signal_classes
from headrace.filters.unspaced import Unspaced
from headrace.filters.words import Words
from headrace.pipeline.stages.classifier import THREADS
from tests.making import article


def _classifier(folder: Path) -> dict[str, Any]:
    lines = [f"__label__{label} {label} {article(seed, 3)}" for seed in range(20) for label in ("positive", "negative")]
    text = folder / "train.txt"
    text.write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n", encoding="utf-8")
    model = train_fasttext(text, dim=4, bucket=100, wordNgrams=2)
    model.save_model(str(folder / "small.bin"))
    return pinned("model", folder / "small.bin")


def train_fasttext(path: Path, how: str = "train_supervised", **settings: Any) -> Any:
    """Train on a small file, with threads enough that the library reads no memory that it has not set."""
    import fasttext

    return getattr(fasttext, how)(str(path), thread=THREADS, verbose=0, **settings)


def pinned(option: str, path: Path, digest: str = "sha256") -> dict[str, str]:
    """Return the options that name a file and its digest."""
    return {option: str(path), digest: sha256(path.read_bytes()).hexdigest()}


def _word_list(folder: Path) -> dict[str, Any]:
    path = folder / "words.txt"
    path.write_text("# some words\nmill\nold mill\na b\nlorem ipsum\nشكر\n", encoding="utf-8")
    return pinned("path", path)


def _onnx(folder: Path) -> dict[str, Any]:
    """Make a classifier of bytes: each byte has two logits, those of a text are their mean."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = np.random.RandomState(7).normal(size=(len(alphabet), 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["rows"]),
            helper.make_node("ReduceMean", ["rows", "axes"], ["logits"], keepdims=0),
        ],
        "bytes",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, str(folder / "model.onnx"))
    files = pinned("model", folder / "model.onnx") | pinned("tokenizer", folder / "tokenizer.json", "tokenizer_sha256")
    return {**files, "labels": ("good", "bad"), "label": "bad"}


def _perplexity(folder: Path) -> dict[str, Any]:
    from tests.test_perplexity import PROSE, make_models

    return asdict(make_models(folder, PROSE))


OPTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "bad_words": _word_list,
    "classifier": _classifier,
    "onnx": _onnx,
    "perplexity": _perplexity,
    "word_list": _word_list,
}


@cache
def example_options(name: str) -> dict[str, Any]:
    """Return options that a signal can be made with: none for most."""
    return OPTIONS[name](Path(mkdtemp(prefix=f"headrace-{name}-"))) if name in OPTIONS else {}


def example(name: str) -> Signal:
    """Return a signal of that name."""
    signal: Signal = signal_classes()[name](**example_options(name))
    return signal


def examples_with_words_of_libraries() -> Iterator[Signal]:
    """Yield each signal whose words can be chosen, with the words of spaCy, and of ICU in scripts without spaces."""
    others: dict[Any, str] = {Words: "spacy", Unspaced: "segment"}
    for name, cls in signal_classes().items():
        of_cls: Any = cls
        chosen = {field.name: others[field.type] for field in fields(of_cls) if field.type in others}
        if chosen:
            yield of_cls(**example_options(name), **chosen)
