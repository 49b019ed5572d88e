"""What a heavier classifier says of a text: any ONNX model over tokens (BERT-like classifiers of toxicity or quality).

The model is a `model.onnx` that takes `input_ids` (and, where it has them, `attention_mask` and `token_type_ids`),
int64 of shape (texts, tokens), and gives logits of shape (texts, labels) as its first output; the tokenizer is a
`tokenizer.json` of the `tokenizers` library. Both come with their digests. onnxruntime runs it on one thread of one
core, each text by itself and without padding, so that a score depends on nothing but the text; another CPU may round
differently in the last bits, which is why scores are rounded to 1e-4. Needs the extra `onnx`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, Literal

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.libraries import library_version
from headrace.filters.models import ModelFileError, find_pinned

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_CHARACTERS_PER_TOKEN = 32  # of a longer text the rest is not even cut into tokens


@register
@dataclass(frozen=True)
class Onnx:
    """The likeliest label, and the probability of one label.

    `labels` name the model's outputs, in order; `label` is the one whose probability is the score. Probabilities are
    the `softmax` of the logits, or the `sigmoid` of each. The first `max_tokens` tokens are looked at.
    """

    name: ClassVar[str] = "onnx"
    version: ClassVar[int] = 1

    model: str
    sha256: str
    tokenizer: str
    tokenizer_sha256: str
    labels: tuple[str, ...]
    label: str
    activation: Literal["softmax", "sigmoid"] = "softmax"
    max_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse a label that is none of the model's, and a limit that lets nothing through."""
        if self.label not in self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"label = {self.label!r} must be one of labels, each given once: {', '.join(self.labels)}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be 1 or more")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Label and score."""
        return (
            Column("label", "string", "the likeliest label"),
            Column("score", "float", f"probability of the label {self.label!r}"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the digests of both files and the libraries; raises ModelFileError where one is not here."""
        libraries = {"onnxruntime": _onnxruntime_version(), "tokenizers": version_of("tokenizers")}
        digests = [find_pinned(*pair)[1] for pair in self._files()]
        return {"model": digests[0], "tokenizer": digests[1], **libraries}

    def _files(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self.model, self.sha256), (self.tokenizer, self.tokenizer_sha256)

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return labels and scores; both are null for a text without a token, or where a logit is not finite.

        Raises:
            ModelFileError: a file is not here, is another one, or is no such model.
        """
        _onnxruntime_version()
        paths = [find_pinned(*pair)[0] for pair in self._files()]
        session, tokenizer = _load_session(paths[0], self.sha256), self._tokenizer(paths[1])
        rows = (self._judge(session, tokenizer, text, paths[0]) for text in batch.texts)
        return by_column(self.columns, rows)

    def _tokenizer(self, path: Path) -> Any:
        return _load_tokenizer(path, self.tokenizer_sha256, self.max_tokens)

    def _judge(self, session: Any, tokenizer: Any, text: str, path: Path) -> tuple[str | None, float | None]:
        import numpy as np

        start = text[: self.max_tokens * _CHARACTERS_PER_TOKEN].encode(errors="replace").decode()
        encoding = tokenizer.encode(start)
        if not encoding.ids:
            return None, None
        values = dict(zip(_INPUTS, (encoding.ids, encoding.attention_mask, encoding.type_ids), strict=True))
        fed = {item.name: np.array([values[item.name]], np.int64) for item in session.get_inputs()}
        logits = session.run(None, fed)[0]
        if logits.shape != (1, len(self.labels)):
            raise ModelFileError(f"{path}: gives logits of shape {logits.shape}, for {len(self.labels)} labels")
        if not np.isfinite(logits).all():
            return None, None
        scores = _probabilities(logits[0].tolist(), self.activation)
        best = max(range(len(scores)), key=scores.__getitem__)
        return self.labels[best], round(scores[self.labels.index(self.label)], 4)


def _probabilities(logits: list[float], activation: str) -> list[float]:
    if activation == "sigmoid":
        return [0.5 * (1 + math.tanh(logit / 2)) for logit in logits]
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def _onnxruntime_version() -> str:
    """Return the version of the library; raises MissingLibraryError where it is not installed."""
    return library_version("onnxruntime", extra="onnx", purpose="signal 'onnx'")


@cache
def _load_session(path: Path, sha256: str) -> Any:
    """Return a session that does one thing at a time; `sha256` only tells one state of the file from the next."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, which share no base
        raise ModelFileError(f"{path}: onnxruntime cannot load it: {error}") from None
    names = [item.name for item in session.get_inputs()]
    if "input_ids" not in names or not set(names) <= set(_INPUTS):
        raise ModelFileError(f"{path}: takes {', '.join(names)}; known are {', '.join(_INPUTS)}, the first is needed")
    return session


@cache
def _load_tokenizer(path: Path, sha256: str, max_tokens: int) -> Any:
    """Return a tokenizer that keeps its own special tokens when it cuts a text at `max_tokens`."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises the base class itself
        raise ModelFileError(f"{path}: is no tokenizer.json: {error}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
