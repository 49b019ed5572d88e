"""What a trained fastText classifier says of a text: learned quality (Li et al. 2024, arXiv:2406.11794), toxicity.

The model comes from `headrace classifier train`, by its name in the same store or by its place elsewhere, or is
anybody's `.bin` or `.ftz` with its digest. A recipe can measure several, each under a name of its own (`as`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from headrace.filters.classifiers import FoundClassifier, find_classifier
from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.fasttext_models import load_model
from headrace.filters.models import BY_DIGEST, ModelFileError
from headrace.filters.one_line import Normalize, one_line
from headrace.filters.utf8 import Utf8


@register
@dataclass(frozen=True)
class Classifier:
    """The likeliest label, and the probability of one label.

    `artifact` is the name that a classifier was trained under in the store that is built in, or `sha256:` and the
    digest of its model. `model` is one that lies elsewhere: the manifest of a trained classifier, the folder it lies
    in, or the name of such a folder among the folders of models; or a model file with its `sha256`. `label` is the
    label whose probability is the score. `normalize` is how a text becomes one line: as in training where a manifest
    says so, else `lines`.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 1

    stored_as: ClassVar[str] = "classifier"

    model: str | None = None
    sha256: str | None = None
    label: str = "positive"
    normalize: Normalize | None = None
    artifact: str | None = None

    def __post_init__(self) -> None:
        """Refuse two models, and none."""
        if (self.model is None) == (self.artifact is None):
            raise TypeError("it needs the option 'model' or the option 'artifact', one of them")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Label and score."""
        return (
            Column("label", "string", "the likeliest label"),
            Column("score", "float", f"probability of the label {self.label!r}"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the model's digest and how its lines are made; raises ModelFileError where there is no model."""
        if self.artifact is not None and self.artifact.startswith(BY_DIGEST):
            return {"model": self.artifact.removeprefix(BY_DIGEST), "normalize": self.normalize or "lines"}
        found = self._found()
        return {"model": found.sha256, "normalize": self._normalize(found)}

    def pin(self, manifest: Path) -> Mapping[str, Any]:
        """Return the options of the same signal with the digest of the model, and how its lines were made."""
        found = find_classifier(str(manifest), self.sha256)
        return {"artifact": BY_DIGEST + found.sha256, "sha256": None, "normalize": self._normalize(found)}

    def with_model(self, path: Path) -> "Classifier":
        """Return the pinned signal with the file to open."""
        return replace(self, model=str(path), sha256=self.resources()["model"], artifact=None)

    def _found(self) -> FoundClassifier:
        if self.model is None:
            raise ModelFileError(
                f"artifact = {self.artifact!r} is a classifier of the store that is built in; elsewhere give its "
                "manifest as `model`"
            )
        return find_classifier(self.model, self.sha256)

    def _normalize(self, found: FoundClassifier) -> Normalize:
        return self.normalize or found.normalize or "lines"

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return labels and scores; raises ModelFileError where there is no model or it has no such label.

        Both are null where the model can say nothing: it knows no word of the text.
        """
        found = self._found()
        model, normalize = load_model(found.path), self._normalize(found)
        column = model.column(self.label)
        scores, defined = model.probabilities(Utf8.of([one_line(text, normalize) for text in batch.texts]))
        best = scores.argmax(axis=1) if len(scores) else []
        rows = zip(defined.tolist(), best, scores[:, column].tolist(), strict=True)
        return by_column(
            self.columns, ((model.labels[b], round(score, 4)) if ok else (None, None) for ok, b, score in rows)
        )
