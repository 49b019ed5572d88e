"""Texts in scripts without spaces: measured as the reference does, or null where words are asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from headrace.filters.analysis.letters import UNSPACED_BLOCKS, load_letters
from headrace.filters.analysis.scripts import mostly_unspaced
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import OF_WORDS, GopherQuality, GopherRepetition

CHINESE = "水車站在河邊,已經兩百年了。\n它仍然在工作。\n" * 3
THAI = "โรงสีตั้งอยู่ริมแม่น้ำ\nมันยังคงทำงานอยู่\n" * 3
KOREAN = "물레방아는 강가에 서 있다.\n그것은 여전히 일한다.\n" * 3
ENGLISH = "The mill stands by the river.\nIt is still at work.\n" * 3
TEXTS = [CHINESE, THAI, KOREAN, ENGLISH, "12 34\n", ""]


def measure(signal: Signal, texts: Sequence[str] = TEXTS) -> Mapping[str, Sequence[Any]]:
    return signal.measure(TextBatch(texts, [""] * len(texts)))


def unspaced(*texts: str) -> list[bool]:
    found: list[bool] = mostly_unspaced(*TextBatch(texts, [""] * len(texts)).utf8, *load_letters()).tolist()
    return found


def test_letters_decide_and_more_than_half_of_them() -> None:
    assert unspaced(*TEXTS) == [True, True, False, False, False, False]
    assert unspaced("水車 ab", "水車 a", "カタカナ", "ཆུ་འཁོར", "ទឹក", "ລາວ", "မြန်မာ") == [False, *[True] * 6]


def test_blocks_are_in_order_and_apart() -> None:
    ends = [0, *(end for _, end, _ in UNSPACED_BLOCKS)]
    assert all(end < first <= last for end, (first, last, _) in zip(ends, UNSPACED_BLOCKS, strict=False))


@pytest.mark.parametrize(
    ("measuring", "nulling", "concerned"),
    [
        (GopherQuality(), GopherQuality(unspaced="null"), set(OF_WORDS)),
        (FineWeb(), FineWeb(unspaced="null"), {"new_line_ratio"}),
        (
            GopherRepetition(),
            GopherRepetition(unspaced="null"),
            {name.name for name in GopherRepetition().columns if "gram" in name.name},
        ),
    ],
)
def test_columns_of_words_are_null(measuring: Signal, nulling: Signal, concerned: set[str]) -> None:
    plain, found = measure(measuring), measure(nulling)
    assert concerned <= set(found)
    for name, values in found.items():
        if name in concerned:
            assert values[:2] == [None, None]
            assert list(values[2:]) == list(plain[name][2:])
        else:
            assert list(values) == list(plain[name])
    assert "letters" in nulling.resources()
    assert "letters" not in measuring.resources()


def test_declarations_in_387_languages_are_told(real_data: Path) -> None:
    """Those are found whose words between white space are long, except Amharic, which divides words by a mark."""
    with ZipFile(real_data / "languages" / "udhr2.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".txt")]
        texts = [archive.read(name).decode(errors="replace") for name in names]
    found = {Path(name).stem for name, told in zip(names, unspaced(*texts), strict=True) if told}
    assert found == {"bod", "cmn_hans", "cmn_hant", "dzo", "iii", "jpn", "khm", "lao", "mya", "tha"}
    means = {
        Path(name).stem: len("".join(text.split())) / len(text.split())
        for name, text in zip(names, texts, strict=True)
        if text.split()
    }
    assert all(means[name] > 11 for name in found)
    assert {name for name, mean in means.items() if mean > 15 and name not in found} == {"amh"}
