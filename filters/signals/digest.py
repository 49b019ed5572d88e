"""Digests by which documents are exact duplicates: of the normalised text, and of the canonical URL.

They are XXH3's 128 bits: two different texts of a billion share one with a probability of 1.5e-21. What is not told
apart is said by `normalize`; with `lowercase`, `numbers`, `punctuation`, `whitespace` and `diacritics` it is the text
that near-duplicates share (`filters.normalize`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from xxhash import xxh3_128, xxh3_128_digest

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.normalize import no_numbers, no_punctuation, normalize_resources, strip_marks
from headrace.filters.pieces import iter_pieces
from headrace.filters.urls import canonical_url

Step = Literal["lowercase", "numbers", "punctuation", "whitespace", "diacritics"]

_WHITE_SPACE, _END_OF_PIECE = re.compile(r"\s+"), re.compile(r"\s")
_STEPS: Mapping[Step, Callable[[str], str]] = {  # in this order
    "lowercase": str.lower,
    "numbers": no_numbers,
    "punctuation": no_punctuation,
    "whitespace": lambda text: _WHITE_SPACE.sub(" ", text),
    "diacritics": strip_marks,
}


@register
@dataclass(frozen=True)
class Digest:
    """What exact duplicates have in common; `normalize` says what of a text does not matter, in any order."""

    name: ClassVar[str] = "digest"
    version: ClassVar[int] = 1

    normalize: tuple[Step, ...] = ("whitespace",)

    def __post_init__(self) -> None:
        """Refuse a step that is not there."""
        for step in self.normalize:
            if step not in _STEPS:
                raise ValueError(f"normalize: there is no step {step!r}; there are {', '.join(_STEPS)}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The digests of text and URL."""
        return (
            Column("text", "hashes", "128 bits of the normalised text; null where nothing is left of it"),
            Column("url", "hashes", "128 bits of the canonical URL; null without one"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the Unicode tables that the steps use."""
        return normalize_resources() if self.normalize else {}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return both digests of each document, big-endian."""
        urls = (canonical_url(url) for url in batch.urls)
        return {
            "text": [self._digest(text.strip()) for text in batch.texts],
            "url": [xxh3_128_digest(url.encode(errors="replace")) if url else None for url in urls],
        }

    def _digest(self, text: str) -> bytes | None:
        """Return the digest of a text without white space at its ends; a large one is normalised in pieces."""
        found, gap, size = xxh3_128(), b"", 0
        for piece in iter_pieces(text, _END_OF_PIECE):
            data = self._normalized(piece).encode(errors="replace")
            if data:
                found.update(gap + data)
                size += len(data)
                gap = b" " if "whitespace" in self.normalize else b""
        return found.digest() if size else None

    def _normalized(self, text: str) -> str:
        for step, change in _STEPS.items():
            if step in self.normalize:
                text = change(text)
        return text.strip() if "whitespace" in self.normalize else text
