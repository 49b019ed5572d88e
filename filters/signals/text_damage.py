"""What went wrong with a text's characters before it came here: counts of what no writer meant.

Each code point is of one kind. The kinds are Unicode's (general categories Cc, Co and Cn, Default_Ignorable_Code_Point,
White_Space), written out here or generated with the version of Unicode named in `data/codepoint_ranges.json`, so that
another Python counts the same. Some ignorable characters are part of how a script is written and count only where they
do nothing (UAX #31 section 2.3, UTS #51, UAX #14): joiners behind a letter of a script that joins or within an emoji
sequence, a zero-width space behind a letter of a script without spaces, variation selectors behind a visible character,
and tags in a flag are what their author meant.

Mojibake is counted as `filters.mojibake` says. Code points that Unicode 14.0, the oldest of a supported Python, does
not have are no letters there and combine with nothing, so that neither it nor the normal form depends on the Python.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import is_normalized

import numpy as np
import numpy.typing as npt

from headrace.filters.contract import Column, TextBatch, by_column, register
from headrace.filters.mojibake import count_mojibake, mojibake_resources

_RANGES = Path(__file__).parents[1] / "data" / "codepoint_ranges.json"
_BLOCK_CHARS = 1 << 18  # whose int64 copy in `bincount` stays small
_NONCHARACTER = "\uffff"


class Kind(IntEnum):
    """What a code point is; `PLAIN` is everything that needs no attention."""

    PLAIN = 0
    REPLACEMENT = auto()
    CONTROL = auto()
    ODD_SPACE = auto()
    SOFT_HYPHEN = auto()
    BIDI = auto()
    IGNORABLE = auto()
    DEPENDENT = auto()  # ignorable, but part of how some scripts and emoji are written
    PRIVATE = auto()
    UNASSIGNED = auto()
    NEWER = auto()  # assigned since Unicode 14.0


_JOINERS, _SPACE = "\u200c\u200d", "\u200b"
_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_TAGS = "\U000e0001\U000e0020-\U000e007f"
_WRITTEN: tuple[tuple[Kind, str], ...] = (
    (Kind.REPLACEMENT, "\ufffd"),
    (Kind.CONTROL, "\x00-\x08\x0b-\x1f\x7f-\x9f"),
    (Kind.ODD_SPACE, "\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f"),
    (Kind.SOFT_HYPHEN, "\xad"),
    (Kind.BIDI, "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"),
    (Kind.IGNORABLE, "\u034f\u115f\u1160\u17b4\u17b5\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"),
    (Kind.IGNORABLE, "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"),
    (Kind.DEPENDENT, f"\u180e{_SPACE}{_JOINERS}{_SELECTORS}{_TAGS}"),
    (Kind.PRIVATE, "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"),
    (Kind.UNASSIGNED, "\ud800-\udfff"),  # lone surrogates
)

# Arabic, Syriac, N'Ko, Mandaic, the scripts of India, Sri Lanka, Tibet, Myanmar, Khmer, Mongolian, Balinese to Lepcha,
# presentation forms; and the supplementary planes' Brahmic scripts.
_JOINING = "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1b00-\u1c4f\ua800-\ua9ff\uaa60-\uaaff\uabc0-\uabff"
_JOINING += "\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f"
# Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Buginese, Tai Tham, Balinese, Javanese, Cham, Tai Viet.
_WITHOUT_SPACES = "\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1b7f\ua980-\uaadf"
_PICTURES = "\u00a9\u00ae\u2010-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_UNSEEN = "\\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffd\U000e0000-\U000e0fff"
_MEANT = re.compile(
    f"(?<=[{_JOINING}])[{_JOINERS}]|(?<=[{_PICTURES}\ufe0f])\u200d(?=[{_PICTURES}])|(?<=[{_WITHOUT_SPACES}]){_SPACE}"
    f"|(?<=[\u1800-\u18af])\u180e|(?<=[^{_UNSEEN}{_SELECTORS}])[{_SELECTORS}]"
)
_FLAG = re.compile("\U0001f3f4([\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)")


@register
@dataclass(frozen=True)
class TextDamage:
    """Characters that were lost, misread or never meant to be seen."""

    name: ClassVar[str] = "text_damage"
    version: ClassVar[int] = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """Counts of code points unless they say otherwise, and shares of them."""
        return (
            Column("num_chars", "int", "code points"),
            Column("num_replacement", "int", "replacement characters, U+FFFD: what a decoder could not read"),
            Column("num_control", "int", "C0 and C1 controls but tab and line feed"),
            Column("num_odd_space", "int", "white space but space, tab, line feed and the ideographic space"),
            Column("num_soft_hyphen", "int", "soft hyphens, U+00AD"),
            Column(
                "num_bidi", "int", "controls of writing direction; marks among them are usual in right-to-left text"
            ),
            Column(
                "num_invisible", "int", "other ignorable characters (zero width, fillers, tags) that do nothing here"
            ),
            Column("num_private", "int", "private use, as icon fonts have it"),
            Column("num_unassigned", "int", "lone surrogates, noncharacters and what Unicode has not assigned"),
            Column("num_mojibake", "int", "sequences that UTF-8 makes when it is read in another encoding"),
            Column("is_nfc", "bool", "whether the text is in normalization form C"),
            Column("damage_ratio", "float", "replacement, control, private and unassigned code points, of all"),
            Column("invisible_ratio", "float", "soft hyphens, controls of direction and invisible ones, of all"),
            Column("mojibake_ratio", "float", "mojibake sequences a code point"),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the digest of the generated ranges and what says what mojibake looks like."""
        return {"codepoint_ranges": sha256(_RANGES.read_bytes()).hexdigest(), **mojibake_resources()}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and ratios; of an empty text the ratios are undefined."""
        return by_column(self.columns, map(_measure, batch.texts))


def _measure(text: str) -> tuple[int | float | bool | None, ...]:
    kinds = count_kinds(text)
    settled = _unsettled().sub(_NONCHARACTER, text) if kinds[Kind.UNASSIGNED] or kinds[Kind.NEWER] else text
    invisible = kinds[Kind.IGNORABLE] + kinds[Kind.DEPENDENT]
    if kinds[Kind.DEPENDENT]:
        invisible -= count_meant(text)
    mojibake = count_mojibake(settled)
    damaged = sum(kinds[kind] for kind in (Kind.REPLACEMENT, Kind.CONTROL, Kind.PRIVATE, Kind.UNASSIGNED))
    hidden = kinds[Kind.SOFT_HYPHEN] + kinds[Kind.BIDI] + invisible
    return (
        len(text),
        kinds[Kind.REPLACEMENT],
        kinds[Kind.CONTROL],
        kinds[Kind.ODD_SPACE],
        kinds[Kind.SOFT_HYPHEN],
        kinds[Kind.BIDI],
        invisible,
        kinds[Kind.PRIVATE],
        kinds[Kind.UNASSIGNED],
        mojibake,
        is_normalized("NFC", settled),
        *(part / len(text) if text else None for part in (damaged, hidden, mojibake)),
    )


def count_kinds(text: str) -> list[int]:
    """Return how many code points of each kind a text has, by `Kind`."""
    table = _kind_table()
    counts = np.zeros(len(Kind), dtype=np.int64)
    for start in range(0, len(text), _BLOCK_CHARS):
        block = text[start : start + _BLOCK_CHARS]
        if block.isascii():
            codes: npt.NDArray[Any] = np.frombuffer(block.encode("ascii"), np.uint8)
        else:
            codes = np.frombuffer(block.encode("utf-32-le", "surrogatepass"), "<u4")
        counts += np.bincount(table[codes], minlength=len(Kind))
    return counts.tolist()


def count_meant(text: str) -> int:
    """Return how many of the dependent characters stand where they belong."""
    return sum(1 for _ in _MEANT.finditer(text)) + sum(len(match[1]) for match in _FLAG.finditer(text))


@cache
def _kind_table() -> npt.NDArray[np.uint8]:
    """Return the kind of every code point, of shape (0x110000,)."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for name, kind in (("unassigned", Kind.UNASSIGNED), ("newer", Kind.NEWER)):
        for first, last in _ranges()[name]:
            table[first : last + 1] = kind
    for kind, characters in _WRITTEN:
        for first, last in _closed_ranges(characters):
            table[first : last + 1] = kind
    return table


def _closed_ranges(characters: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a class as patterns write it, `a-z` for one of more than one."""
    for match in re.finditer("(.)(?:-(.))?", characters, re.DOTALL):
        yield ord(match[1]), ord(match[2] or match[1])


@cache
def _unsettled() -> re.Pattern[str]:
    """Return a pattern of the code points about which versions of Python disagree, or may."""
    ranges = (*_ranges()["unassigned"], *_ranges()["newer"])
    return re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in ranges)}]")


@cache
def _ranges() -> Mapping[str, Sequence[tuple[int, int]]]:
    found: Mapping[str, Sequence[tuple[int, int]]] = json.loads(_RANGES.read_text(encoding="utf-8"))
    return found
