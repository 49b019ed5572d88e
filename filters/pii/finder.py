"""Runs finders in order of precedence: what one has found is out of sight of those after it.

A finding is masked by NUL characters, which belong to nothing that is looked for; so a later finder can neither take
it again nor grow into it, and spans of all kinds are disjoint.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np

from headrace.filters.pii.folding import fold
from headrace.filters.utf8 import Int64s

Range = tuple[int, int]
Kinds = dict[tuple[str, str | None], int]
Find = Callable[[str], Iterable[Range]]


@dataclass(frozen=True, slots=True)
class Finder:
    """One kind: its label, where it stands in a text (in characters, in order, disjoint) and what replaces it.

    `folded` says that `find` reads the text as `fold` writes it.
    """

    label: str
    find: Find
    replace: Callable[[str], str]
    folded: bool = False


def find_spans(text: str, finders: Sequence[Finder], kinds: Kinds) -> dict[str, Int64s]:
    """Return by label a row of start, end (in bytes of UTF-8) and kind for each finding, in order.

    Where findings overlap, the first finder has it. `kinds` numbers labels with replacements, and gets those that come
    up. Findings are numbers from the beginning, since a text may consist of millions of them.
    """
    found: dict[str, Int64s] = {}
    seen, folded = text, None
    for finder in finders:
        if finder.folded and folded is None:
            folded = fold(seen)
        ranges = array("q")
        for start, end in finder.find(folded if finder.folded and folded is not None else seen):
            kind = kinds.setdefault((finder.label, finder.replace(text[start:end])), len(kinds))
            ranges.extend((start, end, kind))
        rows = np.array(ranges, np.int64).reshape(-1, 3)
        found[finder.label] = to_byte_rows(text, rows)
        if len(rows):
            seen = _mask(seen, rows)
            folded = None if folded is None else _mask(folded, rows)
    return found


def to_byte_rows(text: str, rows: Int64s) -> Int64s:
    """Return disjoint rows in order whose first two columns count characters as rows that count bytes of UTF-8."""
    if text.isascii() or not len(rows):
        return rows
    moved = rows.copy()
    before = num_bytes = 0
    for row, start, end in zip(moved, rows[:, 0], rows[:, 1], strict=True):
        row[0] = num_bytes + len(text[before:start].encode())
        row[1] = num_bytes = row[0] + len(text[start:end].encode())
        before = end
    return moved


def _mask(text: str, rows: Int64s) -> str:
    masked, position = StringIO(newline=""), 0
    for start, end in zip(rows[:, 0], rows[:, 1], strict=True):
        masked.write(text[position:start])
        masked.write("\0" * (end - start))
        position = end
    masked.write(text[position:])
    return masked.getvalue()


def choose(replacements: Sequence[str]) -> Callable[[str], str]:
    """Return the function from a finding to one of some replacements, chosen by its hash; one of them stays itself."""
    from xxhash import xxh64_intdigest

    def replace(finding: str) -> str:
        if finding in replacements:
            return finding
        return replacements[xxh64_intdigest(finding.encode()) % len(replacements)]

    return replace


def blank(finding: str) -> str:
    """Return a finding with each digit 0 and each letter X, so that only its form is left."""
    return "".join("0" if c.isdecimal() else "X" if c.isalpha() else c for c in finding)
