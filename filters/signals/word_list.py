"""Words and phrases of a list in a text: bad words, boilerplate, names; the list is a file, pinned by its digest.

One entry a line, in UTF-8; blank lines and lines that begin with `#` are not entries. Case is ignored (Unicode case
folding of the NFC form). An entry matches whole words, which are runs of letters, digits, marks and underscores, or,
with `match = "characters"`, wherever its characters stand, white space left out: for scripts without spaces. From left
to right the longest entry is taken, and matches do not overlap.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, Literal

import regex

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.entry_lists import read_lines
from headrace.filters.models import ModelFileError, find_pinned

_WORD = regex.compile(r"[\w\p{M}]+")
_END = ""

Trie = dict[str, Any]


@register
@dataclass(frozen=True)
class WordList:
    """How much of a text is in a list: a file by path, or by bare name in a folder of models, and its `sha256`."""

    name: ClassVar[str] = "word_list"
    version: ClassVar[int] = 1

    path: str
    sha256: str
    match: Literal["words", "characters"] = "words"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Counts, and the share of the text."""
        return (
            Column("num_matches", "int", "places in the text where an entry of the list stands"),
            Column("num_entries", "int", "different entries that stand in the text"),
            Column("match_frac", "float", f"share of the text's {self.match} that belong to a match; null without any"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the list's digest and what folds case and cuts words; raises ModelFileError where it is not here."""
        _, digest = find_pinned(self.path, self.sha256)
        return {"list": digest, "unicode": unicodedata.unidata_version, "regex": version_of("regex")}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and shares; raises ModelFileError where there is no such list."""
        trie = _read(find_pinned(self.path, self.sha256)[0], self.sha256, self.match)
        return by_column(self.columns, (_measure(_units(text, self.match), trie) for text in batch.texts))


def _units(text: str, match: str) -> Sequence[str]:
    """Return what matches are made of: words, or characters without white space."""
    folded = unicodedata.normalize("NFC", text).casefold()
    words: list[str] = _WORD.findall(folded) if match == "words" else []
    return words if match == "words" else "".join(folded.split())


def _measure(units: Sequence[str], trie: Trie) -> tuple[int, int, float | None]:
    found = list(_matches(units, trie))
    matched = sum(length for _, length in found)
    return len(found), len({entry for entry, _ in found}), matched / len(units) if len(units) else None


def _matches(units: Sequence[str], trie: Trie) -> Iterator[tuple[int, int]]:
    """Yield number and length of each entry that is met; the work is at most units times the longest entry."""
    start = 0
    while start < len(units):
        node, longest, entry = trie, 0, -1
        for length, position in enumerate(range(start, len(units)), 1):
            if units[position] not in node:
                break
            node = node[units[position]]
            if _END in node:
                longest, entry = length, node[_END]
        if longest:
            yield entry, longest
        start += longest or 1


@cache
def _read(path: Path, sha256: str, match: str) -> Trie:
    """Return the entries of a list as a trie of units; `sha256` only tells one state of the file from the next."""
    trie: Trie = {}
    for number, line in enumerate(read_lines(path)):
        units = _units(line, match)
        if not units or line.startswith("#"):
            continue
        node = trie
        for unit in units:
            node = node.setdefault(unit, {})
        node.setdefault(_END, number)
    if not trie:
        raise ModelFileError(f"{path}: there is no entry in this list of {match}")
    return trie
