"""The language of a text by a fastText model: lid.176 (Joulin et al. 2016, arXiv:1607.01759), GlotLID, OpenLID.

The whole text is one line to the model, as datatrove 0.10.1's `LanguageFilter` passes it; scores are rounded to 1e-4.
With `num_chars` only the beginning is asked: the first 1,000 characters of a web page give the same language on 99.5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.fasttext_models import IMPOSSIBLE, load_model
from headrace.filters.models import find_pinned
from headrace.filters.utf8 import Utf8


@register
@dataclass(frozen=True)
class Language:
    """Which language a text is most likely in, and how likely it is English.

    `model` is a known model by name, or a file by path (or bare name in a folder of models) with its `sha256`.
    `english` is the model's label of English: `eng_Latn` in GlotLID and OpenLID. `top_k` languages have columns of
    their own. `num_chars` is how many characters, from the first, are looked at; 0 means all.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    model: str = "lid.176.ftz"
    sha256: str | None = None
    english: str = "en"
    top_k: int = 1
    num_chars: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that mean nothing."""
        if self.top_k < 1 or self.num_chars < 0:
            raise ValueError(f"top_k ({self.top_k}) must be 1 or more, num_chars ({self.num_chars}) 0 or more")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Label and score of the likeliest language, the score of English, then the runners-up."""
        return (
            Column("label", "string", "the model's label of the likeliest language: an ISO 639 code in lid.176"),
            Column("score", "float", "probability of that language"),
            Column("en_score", "float", "probability of English"),
            *(column for rank in range(2, self.top_k + 1) for column in _runner_up(rank)),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the model's digest; raises ModelFileError where there is no model."""
        path, digest = find_pinned(self.model, self.sha256)
        return {path.name: digest}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return labels and scores; raises ModelFileError where there is no model or it has no label of English."""
        model = load_model(find_pinned(self.model, self.sha256)[0])
        english = model.column(self.english)
        texts = Utf8.of([text[: self.num_chars] for text in batch.texts]) if self.num_chars else batch.utf8
        found, defined = model.probabilities(texts)
        best = np.argsort(-found, axis=1, kind="stable")[:, : self.top_k]
        rows = zip(found.tolist(), best.tolist(), defined.tolist(), strict=True)
        return by_column(self.columns, (self._row(*row, english, model.labels) for row in rows))

    def _row(
        self, scores: list[float], best: list[int], defined: bool, english: int, labels: list[str]
    ) -> tuple[Any, ...]:
        if not defined:
            return (None,) * (1 + 2 * self.top_k)
        pairs = [(labels[label], round(scores[label], 4)) for label in best if scores[label] >= IMPOSSIBLE]
        runners_up: list[str | float | None] = [value for pair in pairs[1:] for value in pair]
        runners_up += [None] * (2 * (self.top_k - 1) - len(runners_up))
        return *pairs[0], round(scores[english], 4), *runners_up


def _runner_up(rank: int) -> tuple[Column, Column]:
    return (
        Column(f"label_{rank}", "string", f"label of the language in place {rank}; null below a probability of 1e-5"),
        Column(f"score_{rank}", "float", f"probability of the language in place {rank}"),
    )
