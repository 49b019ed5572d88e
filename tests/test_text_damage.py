"""What went wrong with characters is counted alike by every Python, in linear time, and not where scripts need them."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftfy.badness import BADNESS_RE, badness, is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.mojibake import count_mojibake, has_mojibake
from headrace.filters.signals import text_damage
from headrace.filters.signals.text_damage import Kind, TextDamage, count_kinds
from headrace.pipeline.extract import Extracted, make_extractor
from tests.test_extract import iter_pages

COUNTS = [column.name for column in TextDamage().columns if column.name.startswith("num_")]


def measure(text: str) -> dict[str, Any]:
    return {name: values[0] for name, values in TextDamage().measure(TextBatch([text], [""])).items()}


def found(text: str) -> dict[str, int]:
    """Return the counts that are not 0, but for the number of characters."""
    values = measure(text)
    assert values["num_chars"] == len(text)
    return {name: values[name] for name in COUNTS[1:] if values[name]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text,\twith a tab\nand “quotes” — é 日本語\u3000。", {}),
        ("lost \ufffd", {"num_replacement": 1}),
        ("\x00\x07\r\x0b\x1f\x7f", {"num_control": 6}),
        ("next\x85line", {"num_control": 1, "num_mojibake": 1}),
        ("a\xa0b\u2009c\u202fd\u2028e", {"num_odd_space": 4}),
        ("hy\xadphen", {"num_soft_hyphen": 1}),
        ("\u200ea\u202eb\u2066c", {"num_bidi": 3}),
        ("a\u200bb\ufeffc\u2060d\u3164", {"num_invisible": 4}),
        ("\ue000\uf8ff\U000f0000\U0010fffd", {"num_private": 4}),
        ("\ufdd0\ufffe\U0010ffff\u0378\U000e0fff", {"num_unassigned": 5}),
        ("\U0001f6dc\U0001fae8", {}),  # of Unicode 15
        ("cafÃ© itâ€™s", {"num_mojibake": 2}),
        ("ÐŸÑ€Ð\xb8Ð²Ðµ", {"num_mojibake": 4}),
        ("ï¿½", {"num_mojibake": 1}),
        ("Ãvila, Ål, ÀÉÎ, naïve", {}),
    ],
)
def test_each_kind_of_damage_is_counted(text: str, expected: dict[str, int]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cشود",  # Persian needs it
        "क्\u200dष क्\u200cष",
        "👩🏽\u200d🚀 👨\u200d👩\u200d👧 🏴\u200d☠\ufe0f",
        "❤\ufe0f 1\ufe0f\u20e3 ©\ufe0f 葛\U000e0100",
        "ภาษา\u200bไทย ភាសា\u200bខ្មែរ",
        "ᠮᠣᠩᠭᠣᠯ\u180eᠠ ᠭ\u180b",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_what_scripts_and_emoji_need_is_no_damage(text: str) -> None:
    assert found(text) == {}


@pytest.mark.parametrize(
    ("text", "invisible"),
    [
        ("a\u200cb\u200dc", 2),
        ("\u200bไทย", 1),
        ("a\u200d🚀", 1),
        ("🙂\ufe0f\ufe0f\ufe0f\U000e0101", 3),  # what is hidden in a picture
        ("a \ufe0f", 1),
        ("x\U000e0068\U000e0069", 2),
        ("🏴\U000e0067\U000e0062", 2),
        ("\ufe0f", 1),
    ],
)
def test_the_same_characters_count_where_they_do_nothing(text: str, invisible: int) -> None:
    assert found(text) == {"num_invisible": invisible}


def test_ratios_and_normal_form() -> None:
    values = measure("ab\ufffd\x01\xad\u200bÃ©")
    assert values["damage_ratio"] == 2 / 8
    assert values["invisible_ratio"] == 2 / 8
    assert values["mojibake_ratio"] == 1 / 8
    assert values["is_nfc"] is True
    assert measure("e\u0301")["is_nfc"] is False
    assert measure("\u212b")["is_nfc"] is False
    empty = measure("")
    assert empty["is_nfc"] is True
    assert [empty[name] for name in ("damage_ratio", "invisible_ratio", "mojibake_ratio")] == [None] * 3


def test_kinds_are_those_of_unicode() -> None:
    """The written ranges hold what Unicode says, as far as this Python knows it."""
    kinds, categories = of_kind(), of_category()
    assert kinds[Kind.CONTROL] == categories["Cc"] - {ord("\t"), ord("\n")}
    assert kinds[Kind.PRIVATE] == categories["Co"]
    assert kinds[Kind.UNASSIGNED] <= categories["Cn"] | categories["Cs"]
    assert categories["Cn"] <= kinds[Kind.UNASSIGNED] | kinds[Kind.NEWER]
    unseen = (Kind.SOFT_HYPHEN, Kind.BIDI, Kind.IGNORABLE, Kind.DEPENDENT, Kind.NEWER)
    assert categories["Cf"] - VISIBLE_FORMATS <= set().union(*(kinds[kind] for kind in unseen))
    spaces = {code for code in range(0x110000) if chr(code).isspace()}
    assert spaces - kinds[Kind.ODD_SPACE] == {*range(9, 14), *range(28, 33), 0x85, 0x3000}
    assert kinds[Kind.ODD_SPACE] < spaces


def of_kind() -> dict[Kind, set[int]]:
    table = text_damage._kind_table()
    return {kind: set(np.flatnonzero(table == kind).tolist()) for kind in Kind}


def of_category() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for code in range(0x110000):
        found.setdefault(unicodedata.category(chr(code)), set()).add(code)
    return found


# Signs that stand around or before numbers and words and are seen: Arabic, Syriac, Kaithi, Egyptian.
VISIBLE_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}


def test_ranges_are_of_one_version_of_unicode() -> None:
    tables = json.loads(text_damage._RANGES.read_text())
    assert tables["oldest"] == "14.0.0"
    unassigned, newer = (
        {code for first, last in tables[name] for code in range(first, last + 1)} for name in ("unassigned", "newer")
    )
    assert not unassigned & newer
    if unicodedata.unidata_version == tables["oldest"]:
        assert unassigned | newer == of_category()["Cn"]
    assert of_category()["Cn"] - unassigned - newer == set()  # no Python knows less


@pytest.mark.parametrize("character", ["\U0001f6dc", "\u0897", "\U00011b60", "\u0378"])  # of Unicode 15, 16, 17, none
def test_what_pythons_disagree_about_changes_nothing(character: str) -> None:
    """A character that this Python has not yet counts like one that it never will have."""
    for text in (f"a{character}\u0301", f"É“{character}", f"e\u0301{character}"):
        other = text.replace(character, "\ufdd0")
        assert [measure(text)[name] for name in ("num_mojibake", "is_nfc")] == [
            measure(other)[name] for name in ("num_mojibake", "is_nfc")
        ]


mojibake_characters = st.sampled_from(
    sorted({c for c in BADNESS_RE.pattern if ord(c) > 127} | set(map(chr, range(0x80, 0x180))) | set("ΑωЁџ═╬日"))
)
mojibake_texts = st.lists(
    st.one_of(
        mojibake_characters,
        st.sampled_from(
            [*"aZ .,!?\n_9", "Ã ", "ГўВЂВ.x", "ГўВЂВ. ", "вЂ", "β€Ά", "√±", "ØªØ±", "\u201aÄì", "\xd7²", "à²"]
        ),
    ),
    max_size=20,
).map("".join)


@settings(max_examples=1500)
@given(mojibake_texts)
def test_mojibake_is_what_ftfy_calls_bad(text: str) -> None:
    assert count_mojibake(text) == badness(text)
    assert has_mojibake(text) == is_bad(text)


@settings(max_examples=300)
@given(st.text(st.characters(codec=None), max_size=50))
def test_every_character_is_of_one_kind(text: str) -> None:
    kinds = count_kinds(text)
    assert sum(kinds) == len(text)
    expected = Counter(int(text_damage._kind_table()[ord(character)]) for character in text)
    assert kinds == [expected[kind] for kind in Kind]
    values = measure(text)
    assert 0 <= values["num_invisible"] <= kinds[Kind.IGNORABLE] + kinds[Kind.DEPENDENT]


HOSTILE = [
    "a\u0301\u0323",
    "\u0301\u0323",
    "\u200d",
    "🏴\U000e0067",
    "\ufe0f",
    "Ã",
    "a é",
    "é\u2019",
    "\ufffd",
    "\U0001f600\u200d",
]


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_text_takes_no_quadratic_time(part: str) -> None:
    text = part * (2_000_000 // len(part))
    values = measure(text)
    assert values["num_chars"] == len(text)


def test_a_long_text_is_counted_in_blocks() -> None:
    size = text_damage._BLOCK_CHARS
    text = "a" * (size - 1) + "\ufffd" + "\x01" * size + "é\U0001f6dc"
    assert found(text) == {"num_replacement": 1, "num_control": size}


@pytest.fixture(scope="module")
def pages(real_data: Path) -> dict[str, dict[str, str]]:
    """Texts of the packed crawls by URL, by crawl."""
    extractor = make_extractor("resiliparse", {})
    texts: dict[str, dict[str, str]] = {}
    for name, step in (("mixed", 1), ("news", 1), ("wikipedia", 1), ("web", 3)):
        found = list(iter_pages(real_data / "crawl" / f"pages-{name}.warc.gz"))[::step]
        outcomes = ((page.url, extractor.extract(page)) for page in found)
        texts[name] = {url: outcome.text for url, outcome in outcomes if isinstance(outcome, Extracted)}
    return texts


def test_real_pages_have_the_damage_that_a_search_finds(pages: dict[str, dict[str, str]]) -> None:
    damaged = Counter[tuple[str, str]]()
    for name, texts in pages.items():
        for text in texts.values():
            values = measure(text)
            assert values["num_replacement"] == text.count("\ufffd")
            assert values["num_soft_hyphen"] == text.count("\xad")
            assert values["num_private"] == len(re.findall("[\ue000-\uf8ff]", text))
            assert values["num_unassigned"] == 0
            assert values["is_nfc"] == unicodedata.is_normalized("NFC", text)
            damaged.update((name, column) for column in COUNTS if values[column])
    assert damaged["news", "num_soft_hyphen"] >= 5  # German news hyphenate for the browser
    assert damaged["wikipedia", "num_replacement"] + damaged["wikipedia", "num_control"] == 0
    # Pages whose bytes hold UTF-8 that was read as Latin-1 and written as UTF-8 again.
    assert 0.01 < damaged["web", "num_mojibake"] / len(pages["web"]) < 0.05


def test_real_mojibake_is_where_latin_1_was_read(pages: dict[str, dict[str, str]]) -> None:
    """What a person sees is what is counted: such pages hold the traces of UTF-8 in Latin-1 or Windows-1252."""
    traces = re.compile("[\xc2\xc3][\x80-\xbf]|\xe2(?:\x80|\u20ac)|\xe2\x86|[\x80-\x9f]")
    counted = {url: (measure(text)["num_mojibake"], text) for texts in pages.values() for url, text in texts.items()}
    marked = {url for url, (number, text) in counted.items() if number > 2}
    assert len(marked) >= 5
    assert all(traces.search(counted[url][1]) for url in marked)
    assert sum(bool(traces.search(text)) for number, text in counted.values() if not number) == 0
