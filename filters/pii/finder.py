"""Runs finders in order of precedence: what one has found is out of sight of those after it.

A finding is masked by NUL characters, which belong to nothing that is looked for; so a later finder can neither take
it again nor grow into it, and spans of all kinds are disjoint.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headrace.filters.pii.folding import fold
from headrace.filters.spans import Span, to_byte_offsets

Range = tuple[int, int]
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


def find_spans(text: str, finders: Sequence[Finder]) -> dict[str, list[Span]]:
    """Return the spans of each finder by label, in byte offsets; where kinds overlap, the first in order has it."""
    found: dict[str, list[Span]] = {}
    seen, folded = text, None
    for finder in finders:
        if finder.folded and folded is None:
            folded = fold(seen)
        source = folded if finder.folded and folded is not None else seen
        ranges = list(finder.find(source))
        replaced = [Span(a, b, finder.label, finder.replace(text[a:b])) for a, b in ranges]
        found[finder.label] = to_byte_offsets(text, replaced)
        if ranges:
            seen = _mask(seen, ranges)
            folded = None if folded is None else _mask(folded, ranges)
    return found


def _mask(text: str, ranges: Iterable[Range]) -> str:
    parts: list[str] = []
    position = 0
    for start, end in ranges:
        parts += (text[position:start], "\0" * (end - start))
        position = end
    return "".join((*parts, text[position:]))


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
