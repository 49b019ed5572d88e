"""The language of a text by fastText's lid.176 (Joulin et al. 2016, arXiv:1607.01759).

The whole text is one line to the model, as datatrove 0.10.1's `LanguageFilter` passes it; scores are rounded to 1e-4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.models import KNOWN_MODELS, find_model

_ALL_LABELS = -1
_LABEL_PREFIX = "__label__"


@register
@dataclass(frozen=True)
class Language:
    """Which language a text is most likely in, and how likely it is English."""

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    model: str = "lid.176.ftz"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Label and scores."""
        return (
            Column("label", "string", "ISO 639 code of the likeliest language"),
            Column("score", "float", "probability of that language"),
            Column("en_score", "float", "probability of English"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the model's digest and the library that runs it; raises ModelFileError where there is no model."""
        find_model(self.model)
        return {self.model: KNOWN_MODELS[self.model].sha256, "fasttext": _library_version()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return labels and scores; raises ModelFileError where there is no model."""
        model = _load(str(find_model(self.model)))
        return by_column(self.columns, (_identify(model, text) for text in batch.texts))


def _identify(model: Any, text: str) -> tuple[str | None, float | None, float | None]:
    # The binding under `fasttext.predict`, which itself fails on a string with some builds for numpy 2.
    found = model.f.predict(text.replace("\n", " ") + "\n", _ALL_LABELS, 0.0, "strict")
    if not found:
        return None, None, None
    scores = {label.removeprefix(_LABEL_PREFIX): score for score, label in found}
    label = max(scores, key=scores.__getitem__)
    return label, round(scores[label], 4), round(scores.get("en", 0.0), 4)


@cache
def _load(path: str) -> Any:
    """Return the model of a file, loaded once a process."""
    from fasttext.FastText import _FastText

    return _FastText(path)


def _library_version() -> str:
    for distribution in ("fasttext-numpy2-wheel", "fasttext"):
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return "unknown"
