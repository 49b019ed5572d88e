"""Stop words of many languages are found in texts of those languages, and counted as sets of words are."""

import zipfile
from pathlib import Path

import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.signals.stop_words import StopWords, stop_word_lists

DECLARATIONS = {
    "arb_Arab": "arb", "ben_Beng": "ben", "bul_Cyrl": "bul", "cat_Latn": "cat", "ces_Latn": "ces", "dan_Latn": "dan",
    "deu_Latn": "deu", "ekk_Latn": "est", "ell_Grek": "ell_monotonic", "fin_Latn": "fin", "fra_Latn": "fra",
    "gle_Latn": "gle", "heb_Hebr": "heb", "hin_Deva": "hin", "hrv_Latn": "hrv", "hun_Latn": "hun", "ind_Latn": "ind",
    "ita_Latn": "ita", "lit_Latn": "lit", "lvs_Latn": "lav", "mar_Deva": "mar", "mlt_Latn": "mlt", "nld_Latn": "nld",
    "nob_Latn": "nob", "pol_Latn": "pol", "por_Latn": "por_PT", "rus_Cyrl": "rus", "slk_Latn": "slk", "slv_Latn": "slv",
    "spa_Latn": "spa", "srp_Cyrl": "srp_cyrl", "swe_Latn": "swe", "tam_Taml": "tam", "ukr_Cyrl": "ukr",
    "urd_Arab": "urd", "vie_Latn": "vie",
}  # fmt: skip


@pytest.fixture(scope="module")
def declarations(real_data: Path) -> dict[str, str]:
    path = real_data / "languages" / "udhr2.zip"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        found = {label: f"udhr2/{name}.txt" for label, name in DECLARATIONS.items()}
        return {label: archive.read(name).decode() for label, name in found.items() if name in names}


def measure(texts: list[str], signal: StopWords) -> dict[str, list[int | None]]:
    return {name: list(column) for name, column in signal.measure(TextBatch(texts, [""] * len(texts))).items()}


def test_a_text_has_stop_words_of_its_language(declarations: dict[str, str]) -> None:
    assert len(declarations) >= 30
    counts = measure(list(declarations.values()), StopWords())
    for number, label in enumerate(declarations):
        of_text = {name: column[number] or 0 for name, column in counts.items()}
        assert of_text[label.lower()] >= 2, label
    mean = sum(max(column) or 0 for column in counts.values() if None not in column) / len(counts)
    assert mean > 5


def test_counts_are_those_of_sets(declarations: dict[str, str]) -> None:
    texts = list(declarations.values())
    batch = TextBatch(texts, [""] * len(texts))
    counts = measure(texts, StopWords())
    for label, listed in stop_word_lists().items():
        expected = [len(set(words) & set(listed)) for words in batch.words]
        assert counts[label.lower()] == expected


def test_options_choose_languages_and_scripts_without_spaces() -> None:
    texts = ["der Fluss und die Mühle", "Der Der DER", "", "ในที่และของ"]
    two = StopWords(languages=("tha_Thai", "deu_Latn"))
    assert [column.name for column in two.columns] == ["tha_thai", "deu_latn"]
    assert measure(texts, two) == {"tha_thai": [0, 0, 0, None], "deu_latn": [3, 0, 0, None]}
    assert measure(texts, StopWords(("deu_Latn",), unspaced="measure")) == {"deu_latn": [3, 0, 0, 0]}
    assert two.resources()["stop_words"] != StopWords().resources()["stop_words"]
    with pytest.raises(ValueError, match="no stop words of 'deu'; there are arb_Arab"):
        StopWords(languages=("deu",))


def test_segmented_texts_have_stop_words_too() -> None:
    pytest.importorskip("icu4py")
    texts = ["ในที่และของที่ประชุม", "我们是在中国的人，他也有", "これは日本の本です", "no"]  # noqa: RUF001 - Chinese has it
    counts = measure(texts, StopWords(("tha_Thai", "cmn_Hani", "jpn_Jpan"), "segment"))
    assert [counts[name][row] for row, name in enumerate(("tha_thai", "cmn_hani", "jpn_jpan"))] == [4, 3, 2]
    assert [column[3] for column in counts.values()] == [0, 0, 0]


def test_each_word_stands_once_in_its_list() -> None:
    for label, listed in stop_word_lists().items():
        assert len(set(listed)) == len(listed) >= 8, label
        assert all(word == word.strip() and word for word in listed)


def test_a_language_has_one_column() -> None:
    with pytest.raises(ValueError, match="'deu_Latn' is named twice"):
        StopWords(languages=("deu_Latn", "fra_Latn", "deu_Latn"))
