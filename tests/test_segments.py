"""Words of scripts without spaces, by ICU: where they stand, which scripts, how long it takes, and what is named."""

import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.filters import libraries
from headrace.filters.analysis.cutting import HAS_LETTER, NON_SYMBOL
from headrace.filters.analysis.hashing import hash_bytes
from headrace.filters.analysis.icu_words import cut_segments
from headrace.filters.analysis.letters import UNSPACED_BLOCKS, WITHOUT_DICTIONARY, load_letters
from headrace.filters.analysis.scripts import mostly_unspaced, segmentable, without_dictionary
from headrace.filters.analysis.token_tables import bytes_of_code_points, bytes_of_code_units
from headrace.filters.analysis.tokens import word_strings
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.libraries import MissingLibraryError
from headrace.filters.punctuation import PUNCTUATION_OR_TERMINAL
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import OF_WORDS, GopherQuality, GopherRepetition
from headrace.filters.signals.stop_words import StopWords
from headrace.filters.unspaced import unspaced_resources

breakers = pytest.importorskip("icu4py.breakers", reason="icu4py is not installed (the extra `segment`)")

KNOWN = {
    "我们的祖先生活在河边。": "我们 的 祖先 生活 在 河 边 。",
    "水車は川のそばに立っている。": "水車 は 川 の そば に 立 って いる 。",
    "มันยังคงทำงานอยู่ ๒๐๐ ปี": "มัน ยัง คง ทำงาน อยู่ ๒๐๐ ปี",
    "ທຸກໆຄົນມີສິດ": "ທຸກ ໆ ຄົນ ມີ ສິດ",
    "មនុស្សទាំងអស់កើតមក": "មនុស្ស ទាំងអស់ កើតមក",
    "လူတိုင်းသည်": "လူ တိုင်း သည်",
}
TIBETAN, YI, JAVANESE, BALINESE = "འགྲོ་བ་མི་རིགས་", "ꊿꂷꃅꄿꐨ", "ꦱꦧꦼꦤ꧀ꦮꦺꦴꦁ", "ᬳᬓ᭄ᬱᬭ"
PARTS = ("น้ำ", "ก", "水車", "の", "カ", "ក្", "ກ", "က", "👩", "👩\u200d", "ก\u0301", "𠀀", "ก\u200b", "㍿", "ᦀ", "水 ")


def batch_of(*texts: str) -> TextBatch:
    return TextBatch(texts, [""] * len(texts))


def segments(*texts: str) -> list[list[str]]:
    """Return ICU's words of each text, whatever its script."""
    utf8 = batch_of(*texts).utf8
    return word_strings(utf8.data, cut_segments(*utf8, np.ones(len(texts), np.bool_)))


def words(*texts: str) -> list[list[str]]:
    batch = batch_of(*texts)
    return word_strings(batch.utf8.data, batch.words_for("english", "segment"))


@pytest.mark.parametrize("text", KNOWN)
def test_sentences_of_six_languages(text: str) -> None:
    assert words(text) == [KNOWN[text].split()]


hostile = st.text(
    st.sampled_from(
        [*"水車の。カกานํា្កກကAa1.,' \n\u3000\x00\u200b\u200d\u202f\u0301\ufeff㍿가", "𠀀", "👩", "🏳", "\ufe0f"]
    )
)


@settings(max_examples=500, deadline=None)
@given(st.lists(hostile | st.text(), max_size=4))
@example(["𠀀水👩\u200d👩 a\u0301\u200bก", "", " \u0301", "\u200b", "a\u202fb"])
def test_words_are_icus_segments_without_white_space(texts: list[str]) -> None:
    pieces = [map(str.strip, breakers.WordBreaker(text, "root")) for text in texts]
    assert segments(*texts) == [[piece for piece in of_text if piece not in ("", "\u200b")] for of_text in pieces]


@given(hostile)
def test_the_table_says_of_each_word_what_python_says(text: str) -> None:
    utf8 = batch_of("水", text).utf8
    table = cut_segments(*utf8, np.array([False, True]))
    assert table.first.tolist() == [0, 0, len(table.words)]
    for word, string in zip(table.words, segments(text)[0], strict=True):
        data = np.frombuffer(string.encode(), np.uint8)
        assert word["hash"] == hash_bytes(data, 0, len(data))
        assert word["num_chars"] == len(string)
        assert bool(word["marks"] & HAS_LETTER) == any(map(str.isalpha, string))
        assert bool(word["marks"] & NON_SYMBOL) == (not PUNCTUATION_OR_TERMINAL.issuperset(string))


@given(st.text(st.sampled_from("aé水𠀀🍷\u0301")))
def test_positions_in_code_points_and_code_units_become_bytes(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    points = range(len(text) + 1)
    units = [len(text[:point].encode("utf-16-le")) // 2 for point in points]
    expected = [len(text[:point].encode()) for point in points]
    assert bytes_of_code_points(data, np.array(points, np.int64)).tolist() == expected
    assert bytes_of_code_units(data, np.array(units, np.int64)).tolist() == expected


def test_other_texts_keep_their_words() -> None:
    english, korean, mixed = "Don't stop at 10km.", "물레방아는 강가에 서 있다.", "水車 means a mill"
    batch = batch_of(english, "水車站在河邊", korean, mixed, "")
    found = word_strings(batch.utf8.data, batch.words_for("english", "segment"))
    assert found[1] == ["水車", "站在", "河邊"]
    assert [*found[:1], *found[2:]] == [*batch.words[:1], *batch.words[2:]]
    assert found[0] == ["Do", "n't", "stop", "at", "10", "km", "."]
    spaced = batch_of(english, korean)
    assert spaced.words_for("english", "segment") is spaced.word_table


def test_scripts_without_a_dictionary_are_null() -> None:
    texts = [TIBETAN, YI, JAVANESE, BALINESE, "ᦀᦁᦂ", "ᨠᨡ", "ꪀꪁꪂ", *KNOWN]
    batch = batch_of(*texts)
    assert without_dictionary(*batch.utf8, *load_letters()).tolist() == [True] * 7 + [False] * 6
    assert segmentable(*batch.utf8, *load_letters()).tolist() == [False] * 7 + [True] * 6
    assert mostly_unspaced(*batch.utf8, *load_letters()).all()
    quality, repetition, fineweb = (
        signal(unspaced="segment").measure(batch) for signal in (GopherQuality, GopherRepetition, FineWeb)
    )
    concerned = [
        *(quality[name] for name in OF_WORDS),
        *(values for name, values in repetition.items() if "_gram_" in name),
        fineweb["new_line_ratio"],
    ]
    for values in concerned:
        assert list(values[:7]) == [None] * 7
    assert quality["num_words"][7:] == [len(found.split()) for found in KNOWN.values()]
    assert None not in [*quality["bullet_line_frac"], *repetition["dup_line_frac"], *fineweb["line_punct_ratio"]]


def test_stop_words_are_found_among_segments() -> None:
    texts = ["水車は川のそばに立っている。", "在河边的水车", TIBETAN, "the mill", "และใน"]
    languages = ("cmn_Hani", "jpn_Jpan", "tha_Thai")
    counts = StopWords(languages, unspaced="segment").measure(batch_of(*texts))
    assert [counts["jpn_jpan"][0], counts["cmn_hani"][1], counts["tha_thai"][4]] == [3, 2, 2]
    assert [found[2] for found in counts.values()] == [None] * 3
    assert [found[3] for found in counts.values()] == [0] * 3


def test_most_letters_decide_what_is_null() -> None:
    batch = batch_of(TIBETAN + "水車站在河邊已經兩百年了", TIBETAN + "水", TIBETAN + "abcdefghijklmnopqrstu")
    assert segmentable(*batch.utf8, *load_letters()).tolist() == [True, False, False]
    assert without_dictionary(*batch.utf8, *load_letters()).tolist() == [False, True, False]


def test_dictionaries_are_there_for_all_but_those_scripts() -> None:
    """ICU cuts a run of letters of each other script, and none of these (Tibetan only at its own marks)."""
    assert set(WITHOUT_DICTIONARY) < {name for _, _, name in UNSPACED_BLOCKS}
    for first, last, name in UNSPACED_BLOCKS:
        letters = [chr(code) for code in range(first, last + 1) if chr(code).isalpha()][:40]
        if letters:  # numerals are none
            cut = len(segments("".join(letters))[0]) > 1
            assert cut == (name not in WITHOUT_DICTIONARY), name


@pytest.mark.parametrize("locale", ["C.UTF-8", "th_TH.UTF-8", "ja_JP.UTF-8", "sv_SE.UTF-8", "en_US_POSIX"])
def test_the_locale_has_no_say(locale: str) -> None:
    code = "import sys; from tests.test_segments import *; sys.stdout.buffer.write(repr(words(*KNOWN)).encode())"
    environment = {
        **os.environ,
        "LC_ALL": locale,
        "LANG": locale,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == repr([found.split() for found in KNOWN.values()])


@pytest.mark.parametrize("part", PARTS, ids=ascii)
@pytest.mark.timeout(60)
def test_ten_times_the_text_takes_about_ten_times_as_long(part: str) -> None:
    """Six megabytes in at most thirty times the time of 600 kB: a square would be a hundred times."""
    small, large = (part * (size // len(part.encode())) for size in (600_000, 6_000_000))
    segments_of(small)
    assert segments_of(large) < 30 * max(segments_of(small), 0.01)


def segments_of(text: str) -> float:
    utf8 = batch_of(text).utf8
    start = time.process_time()
    table = cut_segments(*utf8, np.ones(1, np.bool_))
    seconds = time.process_time() - start
    assert len(table.words)
    return seconds


def test_a_large_text_is_cut_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join([*KNOWN, "𠀀👩\u200d👩"]) * 10
    whole = segments(text)
    monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 50)
    assert segments(text) == whole


def test_a_large_text_without_white_space_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "我们的祖先生活在河边" * 100
    (whole,) = segments(text)
    monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 53)
    monkeypatch.setattr("headrace.filters.analysis.token_tables._END_OF_PIECE", re.compile(r"\S{0,100}\s?"))
    (found,) = segments(text)
    assert "".join(found) == text
    cuts = np.cumsum([len(word) for word in found])
    assert {153, 306, 459, 612, 765} <= set(cuts.tolist())
    assert not {153, 306, 459, 612, 765} <= set(np.cumsum([len(word) for word in whole]).tolist())


def test_of_a_large_text_the_first_words_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.filters.analysis.token_tables.MOST_WORDS", 3)
    assert words("我们的祖先生活在河边。", "水車站在河邊") == [["我们", "的", "祖先"], ["水車", "站在", "河邊"]]


def test_the_declaration_has_words_of_usual_length_in_every_language(real_data: Path) -> None:
    """Means of unsegmented texts are over 11 characters (`test_unspaced`); these are languages, cut by a dictionary."""
    found = quality(
        real_data, ["cmn_hans", "cmn_hant", "jpn", "khm", "lao", "mya", "tha"], GopherQuality(unspaced="segment")
    )
    bounds = {"cmn_hans": (1, 2), "cmn_hant": (1, 2), "jpn": (1, 2.2), "khm": (2, 5.5), "lao": (2, 5), "mya": (2, 5.5)}
    for name, (low, high) in {**bounds, "tha": (2, 5)}.items():
        assert low < found[name] < high, (name, found)
    rest = ["bod", "dzo", "iii"]
    assert quality(real_data, rest, GopherQuality(unspaced="segment")) == dict.fromkeys(rest)
    spaced = ["eng", "vie", "kor", "amh", "hin"]
    assert quality(real_data, spaced, GopherQuality(unspaced="segment")) == quality(real_data, spaced, GopherQuality())


def quality(real_data: Path, languages: Sequence[str], signal: Signal) -> dict[str, float | None]:
    with ZipFile(real_data / "languages" / "udhr2.zip") as archive:
        paths = {Path(name).stem: name for name in archive.namelist()}
        texts = [archive.read(paths[language]).decode(errors="replace") for language in languages]
    return dict(zip(languages, signal.measure(batch_of(*texts))["mean_word_length"], strict=True))


def test_words_keep_their_order_and_lie_apart() -> None:
    batch = batch_of(*KNOWN)
    table = batch.words_for("english", "segment")
    starts, ends = table.words["end"] - table.words["num_bytes"], table.words["end"]
    for text, (first, last) in enumerate(pairwise(table.first.tolist())):
        assert batch.utf8.offsets[text] <= starts[first]
        assert ends[last - 1] <= batch.utf8.offsets[text + 1]
    assert (ends[:-1] <= starts[1:]).all()


def test_resources_name_the_library_and_icu() -> None:
    import icu4py

    found = GopherQuality(unspaced="segment").resources()
    assert found["icu4py"] == version("icu4py")
    assert found["icu"] == icu4py.icu_version
    assert set(found) - {"icu", "icu4py"} == set(GopherQuality(unspaced="null").resources())
    assert "icu" not in GopherQuality().resources()


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise libraries.PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", missing)
    unspaced_resources.cache_clear()
    with pytest.raises(MissingLibraryError, match=re.escape("pip install 'headrace[segment]'")):
        FineWeb(unspaced="segment").resources()
    assert FineWeb(unspaced="null").resources()
    unspaced_resources.cache_clear()


def test_zero_width_spaces_divide_and_are_no_words() -> None:
    assert unicodedata.category("\u200b") == "Cf"
    assert words("น้ำ\u200bน้ำ\u200b\u200bปี") == [["น้ำ", "น้ำ", "ปี"]]
