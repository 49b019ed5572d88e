"""Text that was read in the wrong encoding, put right as ftfy 6.3.1 does (Speer 2019, doi:10.5281/zenodo.2591652).

The fixers, their order and what they decide are ftfy's `fix_text`, segment by segment: a segment is a line, or
1,000,000 characters of a longer one. Only what undoes a wrong encoding is on by default; what changes how a text was
meant to look (quotes, ligatures, widths) is not, and there is no normalization. ftfy goes on until nothing changes, in
quadratic time where each pass undoes one character of a long run (an "Ã" before thousands of "ƒ"); and so does
its decoder of UTF-8 variants. Here the decoder is Python's, and the passes of a segment together look at `max_passes`
times its length: a segment that is not done by then is left as it was and counted as `unfinished`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from itertools import takewhile
from re import Match
from typing import ClassVar, TypeVar
from unicodedata import unidata_version

from headrace.filters.mojibake import has_mojibake
from headrace.pipeline.repair import Repaired, register

_SEGMENT_CHARS = 1_000_000
_SMALL_CHANGE = 64  # that many characters may be looked at on top, so that short segments have their passes, too
_TEXT_FIXERS = (
    "fix_c1_controls",
    "fix_latin_ligatures",
    "fix_character_width",
    "uncurl_quotes",
    "fix_line_breaks",
    "remove_terminal_escapes",
    "remove_control_chars",
)

_ASCII_FIXERS = ("unescape_html", "fix_line_breaks", "remove_terminal_escapes", "remove_control_chars")
T = TypeVar("T", str, bytes)


class _UnfinishedError(Exception):
    """A segment has used up its passes."""


@dataclass
class _Budget:
    """Characters that the passes of one segment may still look at."""

    left: int

    def spend(self, text: str) -> None:
        self.left -= len(text)
        if self.left < 0:
            raise _UnfinishedError


@register
@dataclass(frozen=True)
class FtfyRepairer:
    """Each switch is ftfy's fixer of that name; the second to the fourth are parts of the first."""

    name: ClassVar[str] = "ftfy"
    version: ClassVar[int] = 1

    fix_encoding: bool = True
    restore_byte_a0: bool = True
    replace_lossy_sequences: bool = True
    decode_inconsistent_utf8: bool = True
    fix_c1_controls: bool = True
    unescape_html: bool = False
    fix_latin_ligatures: bool = False
    fix_character_width: bool = False
    uncurl_quotes: bool = False
    fix_line_breaks: bool = False
    remove_terminal_escapes: bool = False
    remove_control_chars: bool = False
    max_passes: int = 16

    def resources(self) -> Mapping[str, str]:
        """Return the version of ftfy, and of Unicode, which says what is a letter or a digit beside mojibake."""
        return {"ftfy": version_of("ftfy"), "unicode": unidata_version}

    def repair(self, text: str) -> Repaired:
        """Return the text with every segment fixed.

        The counts are `segments` that changed, `characters` of them that are others now, each fixer's segments by its
        name, and `unfinished` segments.
        """
        if self._leaves(text):
            return Repaired(text, {})
        counts: Counter[str] = Counter()
        segments = [
            segment if self._leaves(segment) else self._repair_segment(segment, counts) for segment in _segments(text)
        ]
        return Repaired("".join(segments), dict(sorted(counts.items())))

    def _leaves(self, text: str) -> bool:
        """Whether no fixer that is on can change a text, because it is ASCII."""
        return text.isascii() and not any(getattr(self, name) for name in _ASCII_FIXERS)

    def _repair_segment(self, segment: str, counts: Counter[str]) -> str:
        names: set[str] = set()
        try:
            fixed = self._fix(segment, names)
        except _UnfinishedError:
            counts["unfinished"] += 1
            return segment
        if fixed != segment:
            counts.update(["segments", *names])
            counts["characters"] += _num_changed(segment, fixed)
        return fixed

    def _fix(self, text: str, names: set[str]) -> str:
        """Return what ftfy's `fix_and_explain` gives, adding to `names` the fixers that did something."""
        from ftfy import FIXERS

        budget = _Budget(self.max_passes * (len(text) + _SMALL_CHANGE))
        while True:
            budget.spend(text)
            before = text
            if self.unescape_html:
                text = _noted("unescape_html", text, FIXERS["unescape_html"](text), names)
            if self.fix_encoding:
                text = self._fix_encoding(text, budget, names)
            for name in _TEXT_FIXERS:
                if getattr(self, name):
                    text = _noted(name, text, FIXERS[name](text), names)
            if text == before:
                return text

    def _fix_encoding(self, text: str, budget: _Budget, names: set[str]) -> str:
        """Undo wrong encodings, one on top of the other, until the text looks right."""
        while has_mojibake(text):
            budget.spend(text)
            fixed = self._undo_one(text, budget, names)
            if fixed == text:
                break
            names.add("fix_encoding")
            text = fixed
        return text

    def _undo_one(self, text: str, budget: _Budget, names: set[str]) -> str:
        """Return the text read anew in the first encoding that makes UTF-8 of it, or with the parts fixed that can be.

        This is ftfy's `_fix_encoding_one_step_and_explain`, for a text that looks bad.
        """
        from ftfy.chardata import CHARMAP_ENCODINGS, possible_encoding

        for encoding in CHARMAP_ENCODINGS:
            if possible_encoding(text, encoding):
                fixed = self._read_anew(text.encode(encoding), encoding, names)
                if fixed is not None:
                    return fixed
        if self.decode_inconsistent_utf8:
            fixed = self._fix_embedded(text, budget, names)
            if fixed != text:
                names.add("decode_inconsistent_utf8")
                return fixed
        if possible_encoding(text, "latin-1"):
            fixed = _decoded(text.encode("latin-1"), "windows-1252")
            if fixed is not None and fixed != text:
                return fixed
        if self.fix_c1_controls:
            from ftfy.fixes import fix_c1_controls

            return _noted("fix_c1_controls", text, fix_c1_controls(text), names)
        return text

    def _read_anew(self, data: bytes, encoding: str, names: set[str]) -> str | None:
        """Return bytes as UTF-8, with what it lost on the way put back where that is plain; None if they are not."""
        from ftfy.chardata import ALTERED_UTF8_RE
        from ftfy.fixes import replace_lossy_sequences, restore_byte_a0

        used: set[str] = set()
        if self.restore_byte_a0 and encoding != "macroman" and ALTERED_UTF8_RE.search(data):
            data = _noted("restore_byte_a0", data, restore_byte_a0(data), used)
        if self.replace_lossy_sequences and encoding.startswith("sloppy"):
            data = _noted("replace_lossy_sequences", data, replace_lossy_sequences(data), used)
        fixed = _decode_variants(data) if b"\xed" in data or b"\xc0" in data else _decoded(data, "utf-8")
        if fixed is not None:
            names |= used
        return fixed

    def _fix_embedded(self, text: str, budget: _Budget, names: set[str]) -> str:
        """Fix runs that look like UTF-8 each for itself, in a text that is not of one piece."""
        from ftfy.chardata import UTF8_DETECTOR_RE

        def fix(match: Match[str]) -> str:
            part = match[0]
            return self._fix_encoding(part, budget, names) if len(part) < len(text) and has_mojibake(part) else part

        return UTF8_DETECTOR_RE.sub(fix, text)


def _segments(text: str) -> Iterator[str]:
    """Yield lines with their line feeds, those that are too long in pieces."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        end = min(end, start + _SEGMENT_CHARS)
        yield text[start:end]
        start = end


def _noted(name: str, before: T, after: T, names: set[str]) -> T:
    if after != before:
        names.add(name)
    return after


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _decode_variants(data: bytes) -> str | None:
    """Return UTF-8 that may write characters as pairs of surrogates and U+0000 in two bytes, as ftfy's codec does."""
    try:
        text = data.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def _num_changed(before: str, after: str) -> int:
    """Return how many characters stand between the first and the last that are no longer what they were."""
    same_start = sum(1 for _ in takewhile(bool, map(str.__eq__, before, after)))
    before, after = before[same_start:], after[same_start:]
    return len(before) - sum(1 for _ in takewhile(bool, map(str.__eq__, reversed(before), reversed(after))))
