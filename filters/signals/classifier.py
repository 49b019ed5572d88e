"""What a trained fastText classifier says of a text: learned quality (Li et al. 2024, arXiv:2406.11794), toxicity.

The model comes from `headrace classifier train`, or is anybody's `.bin` or `.ftz` with its digest. A recipe can measure
several, each under a name of its own (`as`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.filters.classifiers import FoundClassifier, find_classifier
from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.fasttext_models import load_model
from headrace.filters.one_line import Normalize, one_line
from headrace.filters.utf8 import Utf8


@register
@dataclass(frozen=True)
class Classifier:
    """The likeliest label, and the probability of one label.

    `model` is the manifest of a trained classifier, the folder it lies in, or the name of such a folder among the
    folders of models; or a model file with its `sha256`. `label` is the label whose probability is the score.
    `normalize` is how a text becomes one line: as in training where a manifest says so, else `lines`.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 1

    model: str
    sha256: str | None = None
    label: str = "positive"
    normalize: Normalize | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """Label and score."""
        return (
            Column("label", "string", "the likeliest label"),
            Column("score", "float", f"probability of the label {self.label!r}"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the model's digest and how its lines are made; raises ModelFileError where there is no model."""
        found = find_classifier(self.model, self.sha256)
        return {"model": found.sha256, "normalize": self._normalize(found)}

    def _normalize(self, found: FoundClassifier) -> Normalize:
        return self.normalize or found.normalize or "lines"

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return labels and scores; raises ModelFileError where there is no model or it has no such label.

        Both are null where the model can say nothing: it knows no word of the text.
        """
        found = find_classifier(self.model, self.sha256)
        model, normalize = load_model(found.path), self._normalize(found)
        column = model.column(self.label)
        scores, defined = model.probabilities(Utf8.of([one_line(text, normalize) for text in batch.texts]))
        best = scores.argmax(axis=1) if len(scores) else []
        rows = zip(defined.tolist(), best, scores[:, column].tolist(), strict=True)
        return by_column(
            self.columns, ((model.labels[b], round(score, 4)) if ok else (None, None) for ok, b, score in rows)
        )
