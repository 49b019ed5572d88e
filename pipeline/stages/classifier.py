"""Classifier: fastText trained on positive and negative texts, the way DCLM's was (Li et al. 2024, arXiv:2406.11794).

The defaults are the library's (Joulin et al. 2016, arXiv:1607.01759) with word bigrams added. Training runs eleven
threads without locks. With fewer, `fasttext` 0.9 leaves part of its random matrix as the memory was: each thread fills
a tenth, the remainder falls to the eleventh. With any number two runs give two models: so the first that is committed
under a task's key is the one that stays, named by the digest of its file. Everything before and after it is a function
of the texts.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

from pydantic import Field

from headrace.filters.fasttext_models import load_model
from headrace.filters.one_line import one_line
from headrace.filters.utf8 import Utf8
from headrace.pipeline.binary_metrics import evaluate
from headrace.pipeline.errors import InputError
from headrace.pipeline.hashing import canonical_json, digest_file
from headrace.pipeline.labelled_texts import Choice, read_texts
from headrace.pipeline.schema import StoredFile, Task, TaskInput
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.pipeline.stages.contract import Made, Planning, Stage, register
from headrace.pipeline.store import Store, writing
from headrace.pipeline.training_lines import Split, split_lines

LABELS: tuple[Literal["positive"], Literal["negative"]] = ("positive", "negative")
THREADS = 11
SCORED_AT_ONCE = 512
SCORE_DIGITS = 4
REPORT_VERSION = 2


@register
class TrainClassifier(Stage):
    """Trains a classifier on the texts of the sources `positive` and `negative`.

    `text_column` and the two `where` (COLUMN=VALUE,VALUE) choose texts of tables. `heldout` is in 10,000 texts.
    `quantize` makes the model several times smaller and a little worse.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 2
    table: ClassVar[str] = "model"

    text_column: str = "text"
    positive_where: str = ""
    negative_where: str = ""
    normalize: Literal["lines", "words"] = "lines"
    heldout: int = Field(default=1000, ge=1, lt=HELDOUT_UNIT)
    dim: int = Field(default=100, ge=1)
    epochs: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    word_ngrams: int = Field(default=2, ge=1)
    min_count: int = Field(default=1, ge=1)
    min_chars: int = Field(default=0, ge=0)
    max_chars: int = Field(default=0, ge=0)
    buckets: int = Field(default=2_000_000, ge=1)
    quantize: bool = False

    def resources(self) -> dict[str, str]:
        """Return the library that trains."""
        for distribution in ("fasttext-numpy2-wheel", "fasttext"):
            try:
                return {"fasttext": f"{distribution} {version(distribution)}"}
            except PackageNotFoundError:
                continue
        return {"fasttext": "unknown"}

    def inputs(self) -> tuple[str, ...]:
        """Return nothing: the texts come with the raw files, as two sources."""
        return ()

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all files."""
        inputs = [
            TaskInput(role=label, content=file.sha256, path=str(file.path), size=file.size)
            for label in LABELS
            for file in planning.files[label]
        ]
        return [self.task(inputs)]

    def run(self, task: Task, store: Store) -> Made:
        """Train on one part of the texts, measure on the other, write the model and what was measured."""
        with TemporaryDirectory(prefix="headrace-classifier-") as folder:
            split = split_lines(self._lines(task), LABELS, Path(folder), self.heldout)
            _refuse_one_sided(split)
            path = store.new_file(task, self.table, ".ftz" if self.quantize else ".bin")
            with writing(path):
                self._train(split.train, path)
            metrics = self._measure(split.heldout, path)
        digest = digest_file(path)
        model = StoredFile(name=path.name, bytes=path.stat().st_size, sha256=digest, content=digest)
        report = {
            "report_version": REPORT_VERSION,
            "labels": list(LABELS),
            "model_sha256": digest,
            "reproducible": False,
            "library": self.resources()["fasttext"],
            "settings": self.model_dump(mode="json"),
            "texts": split.counts,
            "heldout": metrics,
        }
        file = store.put_file(task, "report", (canonical_json(report) + "\n").encode(), ".json")
        return Made({self.table: model, "report": file}, split.ledger, _facts(split, metrics))

    def _lines(self, task: Task) -> Iterator[tuple[str, str | None]]:
        for item in task.inputs:
            where = self.positive_where if item.role == "positive" else self.negative_where
            for text in read_texts(Path(item.path), Choice.parse(self.text_column, where)):
                yield item.role, None if text is None else one_line(text, self.normalize)

    def _train(self, lines: Path, target: Path) -> None:
        import fasttext

        settings = {
            "dim": self.dim,
            "epoch": self.epochs,
            "lr": self.learning_rate,
            "wordNgrams": self.word_ngrams,
            "minCount": self.min_count,
            "minn": self.min_chars,
            "maxn": self.max_chars,
            "bucket": self.buckets,
        }
        try:
            model = fasttext.train_supervised(str(lines), thread=THREADS, verbose=0, loss="softmax", **settings)
        except RuntimeError as error:
            raise InputError(f"training failed: {error} Lower the learning rate ({self.learning_rate})") from None
        if self.quantize:
            try:
                model.quantize(str(lines), retrain=False, qnorm=True)
            except ValueError as error:
                raise InputError(f"the model cannot be quantized: {error}; train without --quantize") from None
        model.save_model(str(target))

    def _measure(self, lines: Path, path: Path) -> dict[str, Any]:
        """Return the metrics of the model over held-out lines, scored as the signal scores them."""
        model = load_model(path)
        column, scores, positive = model.column("positive"), [], []
        with lines.open(encoding="utf-8", newline="\n") as file:
            while rows := [
                line.rstrip("\n").split(" ", 1) for line, _ in zip(file, range(SCORED_AT_ONCE), strict=False)
            ]:
                found, _ = model.probabilities(Utf8.of([text for _, text in rows]))
                scores += [round(score, SCORE_DIGITS) for score in found[:, column].tolist()]
                positive += [label == "__label__positive" for label, _ in rows]
        return evaluate(scores, positive)


def _refuse_one_sided(split: Split) -> None:
    """Raise `InputError` unless there are texts of both labels on both sides."""
    for side, counts in split.counts.items():
        for label in LABELS:
            if not counts.get(label):
                raise InputError(f"no {label} text is left to {side}: {split.counts}; give more texts of that kind")


def _facts(split: Split, metrics: dict[str, Any]) -> dict[str, int | str]:
    """Return what people ask first; ratios as text, since facts are counts and names."""
    counts = {f"{side}_{label}": split.counts[side][label] for side in split.counts for label in LABELS}
    ratios = ("average_precision", "roc_auc", "expected_calibration_error")
    return {**counts, **{name: f"{metrics[name]:.4f}" for name in ratios}}
