"""How much a text surprises a KenLM model of sentence pieces, as CCNet measures it.

Wenzek et al. 2020, arXiv:1911.00359, "LM filtering", with KenLM (Heafield 2011). The text is normalized, cut into
pieces and scored; the perplexity is 10^(-score / length), with the score the sum of the log10 probabilities of all
pieces and ends, and the length their number. This is what facebookresearch/cc_net at 0714a6f runs
(`text_normalizer.normalize`, `MultiSentencePiece` and `DocLM`, in the order of `mine.py`), and datatrove 0.10.1 after
it: the whole document is normalized at once, which takes out line feeds with the other control characters, so it is a
single sentence whose lines are joined without a space. With `unit = "line"` each line is normalized, cut and scored for
itself and ends once, as `DocLM` does with lines, empty ones included. KenLM adds up a sentence in single precision.

An instance has one model, of one language; a rule's `when` says which documents it is for. Both files are trusted with
their digests alone: a binary model is mapped into memory as it is.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol
from unicodedata import unidata_version

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.libraries import library_version
from headrace.filters.models import ModelFileError, find_pinned
from headrace.filters.normalize import strip_marks

_DIGIT = re.compile(r"\d")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACED = str.maketrans(
    {
        **dict.fromkeys("\u201e\u201d\u201c\u00ab\u00bb\u300d\u300c\u300a\u300b", '"'),
        **dict(
            zip("\u3001\u3002\u2236\u3008\u3009\u3010\u3011\u2501\u25ba\u2013\u00b4\u2019", ",.:<>[]---''", strict=True)
        ),
        **dict(zip("\uff0c\uff1a\uff1f\uff01\uff08\uff09\uff1b\uff5e\uff05", ",:?!();~%", strict=True)),
        "\u2014": " - ",
        "\uff0e": ". ",
        "\u2026": "...",
        **dict.fromkeys(map(chr, (*range(32), *range(127, 160))), ""),
    }
)


class Scorer(Protocol):
    """A tokenizer and a language model over its pieces."""

    def cut(self, line: str) -> str:
        """Return the pieces of a normalized line, joined by spaces."""
        ...

    def score(self, pieces: str) -> float:
        """Return the log10 probability of pieces as one sentence, its end included."""
        ...


class Scored(NamedTuple):
    """Sums over the sentences of a text: log10 probability, pieces, ends."""

    log10_prob: float
    num_pieces: int
    num_ends: int

    @property
    def perplexity(self) -> float | None:
        """10 to the mean surprise; None where there are no pieces, or it is more than a float can be."""
        if not self.num_pieces or not math.isfinite(self.log10_prob):
            return None
        try:
            return float(10.0 ** (-self.log10_prob / (self.num_pieces + self.num_ends)))
        except OverflowError:
            return None


@register
@dataclass(frozen=True)
class Perplexity:
    """A text's perplexity under `model` (ARPA or KenLM's binary form) over the pieces of the SentencePiece `tokenizer`.

    Files are named by path, or by a bare name where models are kept. Of a longer text the first `max_chars` characters
    are measured, for which memory is needed all at once.
    """

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 1

    model: str
    model_sha256: str
    tokenizer: str
    tokenizer_sha256: str
    unit: Literal["document", "line"] = "document"
    max_chars: int = 4_000_000

    @property
    def columns(self) -> tuple[Column, ...]:
        """The perplexity and what it is made of."""
        return (
            Column("perplexity", "float", "10 to the power of minus log10_prob over pieces and ends; low is likely"),
            Column("log10_prob", "float", "log10 probability of all pieces and ends"),
            Column("num_pieces", "int", "pieces"),
            Column("num_ends", "int", "ends of sentences: 1, or the number of lines"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the digests of both files and the versions of what reads them.

        Raises:
            ModelFileError: a file is not here, or another one.
            MissingLibraryError: a library is not installed.
        """
        find_pinned(self.model, self.model_sha256)
        find_pinned(self.tokenizer, self.tokenizer_sha256)
        return {
            "perplexity_model": self.model_sha256,
            "perplexity_tokenizer": self.tokenizer_sha256,
            **_libraries(),
            "unicode": unidata_version,
        }

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return perplexities; a text without pieces has none. Raises ModelFileError as `resources` does."""
        model, _ = find_pinned(self.model, self.model_sha256)
        tokenizer, _ = find_pinned(self.tokenizer, self.tokenizer_sha256)
        scorer = _load(str(model), self.model_sha256, str(tokenizer), self.tokenizer_sha256)
        return by_column(self.columns, (self._row(text[: self.max_chars], scorer) for text in batch.texts))

    def _row(self, text: str, scorer: Scorer) -> tuple[float | None, float | None, int, int]:
        scored = score_sentences([text] if self.unit == "document" else text.split("\n"), scorer)
        if (perplexity := scored.perplexity) is None:
            return None, None, scored.num_pieces, scored.num_ends
        return round(perplexity, 4), round(scored.log10_prob, 4), scored.num_pieces, scored.num_ends


def normalize(line: str) -> str:
    """Return a line as CCNet's models read it: lower case, no accents, each digit 0, ASCII punctuation, no controls."""
    line = strip_marks(line.strip().lower())
    return _DIGIT.sub("0", line).translate(_REPLACED)


def score_sentences(sentences: Iterable[str], scorer: Scorer) -> Scored:
    """Normalize, cut and score sentences; lone surrogates count as replacement characters."""
    log10_prob, num_pieces, num_ends = 0.0, 0, 0
    for sentence in sentences:
        pieces = scorer.cut(normalize(_SURROGATE.sub("\ufffd", sentence)))
        log10_prob += scorer.score(pieces)
        num_pieces += len(pieces.split())
        num_ends += 1
    return Scored(log10_prob, num_pieces, num_ends)


class _KenLM:
    """The scorer of two files."""

    def __init__(self, model: str, tokenizer: str) -> None:
        import kenlm
        from sentencepiece import SentencePieceProcessor

        config = kenlm.Config()
        config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
        self._model = _opened(model, lambda: kenlm.Model(model, config))
        self._tokenizer = _opened(tokenizer, lambda: SentencePieceProcessor(model_file=tokenizer))

    def cut(self, line: str) -> str:
        return " ".join(self._tokenizer.encode_as_pieces(line))

    def score(self, pieces: str) -> float:
        return float(self._model.score(pieces))


def _opened(path: str, open_it: Any) -> Any:
    try:
        return open_it()
    except (OSError, RuntimeError) as error:
        raise ModelFileError(f"{path}: has the right digest and cannot be read as a model: {error}") from None


@cache
def _load(model: str, model_sha256: str, tokenizer: str, tokenizer_sha256: str) -> Scorer:
    """Return the scorer of two files of these digests, opened once a process."""
    _libraries()
    return _KenLM(model, tokenizer)


def _libraries() -> dict[str, str]:
    """Return the versions of what reads the models; raises MissingLibraryError where one is not installed."""
    named = {"kenlm": ("ufal-kenlm", "kenlm"), "sentencepiece": ("sentencepiece",)}
    return {
        name: library_version(*distributions, extra="perplexity", purpose="signal 'perplexity'")
        for name, distributions in named.items()
    }
