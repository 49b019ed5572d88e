"""Bad words as C4 looks for them (Raffel et al. 2020, arXiv:1910.10683, section 2.2), in a list that the recipe pins.

Matched as datatrove 0.10.1's `C4BadWordsFilter` matches the lists of LDNOOBW, one for each language: an entry stands in
the text in lower case, to the character, with nothing or a character that is neither letter, digit nor underscore on
both sides; with `match = "anywhere"`, as C4 has it for Japanese, Thai and Chinese, wherever it stands. A page with any
goes: that is a rule's to say. An entry is a line of the file, in UTF-8, without the white space around it; blank lines
and those in `allow` are none. No list comes with Headrace.

`word_list` is for lists whose entries are words: it folds case, takes other white space and marks between words for
one space, and so finds more; what stands in a list as `a*b` or a picture only this signal finds.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.entry_lists import read_lines
from headrace.filters.models import ModelFileError, find_pinned


@register
@dataclass(frozen=True)
class BadWords:
    """How often the entries of a list stand in a text: a file by path, or by bare name in a folder of models."""

    name: ClassVar[str] = "bad_words"
    version: ClassVar[int] = 1

    path: str
    sha256: str
    match: Literal["words", "anywhere"] = "words"
    allow: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """Counts."""
        return (
            Column("num_matches", "int", "occurrences of entries, those of one entry not overlapping"),
            Column("num_entries", "int", "different entries that stand in the text"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the digest of the list and of what lowers case; raises ModelFileError where the list is not here."""
        return {"list": find_pinned(self.path, self.sha256)[1], "unicode": unicodedata.unidata_version}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts; raises ModelFileError where there is no such list."""
        entries = _read(find_pinned(self.path, self.sha256)[0], self.sha256, self.allow)
        return by_column(self.columns, (self._count(text.lower(), entries) for text in batch.texts))

    def _count(self, text: str, entries: Sequence[str]) -> tuple[int, int]:
        counts = [self._occurrences(entry, text) for entry in entries if entry in text]
        return sum(counts), sum(count > 0 for count in counts)

    def _occurrences(self, entry: str, text: str) -> int:
        if self.match == "anywhere":
            return text.count(entry)
        return sum(1 for _ in re.finditer(rf"(?<!\w){re.escape(entry)}(?!\w)", text))


@cache
def _read(path: Path, sha256: str, allow: tuple[str, ...]) -> tuple[str, ...]:
    """Return the entries of a list in lower case; `sha256` only tells one state of the file from the next."""
    allowed = {entry.lower() for entry in allow}
    entries = dict.fromkeys(line.strip().lower() for line in read_lines(path))
    found = tuple(entry for entry in entries if entry and entry not in allowed)
    if not found:
        raise ModelFileError(f"{path}: there is no entry in this list")
    return found
