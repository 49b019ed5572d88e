"""Languages: the models that may be used, their labels, and how much of a text is looked at."""

import shutil
from pathlib import Path

import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.models import KNOWN_MODELS, ModelFileError, find_model
from headrace.filters.signals.language import Language
from headrace.filters.signals.language_fast import LanguageFast
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import make_signal

GERMAN = "Die Mühle steht am Fluss. Sie ist alt, und das Wasser dreht ihr Rad.\n"
ENGLISH = "The mill stands by the river. It is old, and the water turns its wheel.\n"
DIGEST = KNOWN_MODELS["lid.176.ftz"].sha256


def batch(*texts: str) -> TextBatch:
    return TextBatch(texts, [""] * len(texts))


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return find_model("lid.176.ftz")
    except ModelFileError:
        pytest.skip("lid.176.ftz is not here")


def test_runners_up_have_columns(model: Path) -> None:
    values = Language(top_k=3).measure(batch(GERMAN, ENGLISH, ""))
    assert list(values) == ["label", "score", "en_score", "label_2", "score_2", "label_3", "score_3"]
    assert list(values) == [column.name for column in Language(top_k=3).columns]
    plain = Language().measure(batch(GERMAN, ENGLISH, ""))
    assert {name: values[name] for name in plain} == plain
    for row in range(3):
        assert values["score"][row] >= values["score_2"][row] >= values["score_3"][row] >= 0
        assert len({values[name][row] for name in ("label", "label_2", "label_3")}) == 3


def test_only_the_beginning_is_looked_at(model: Path) -> None:
    text = GERMAN + ENGLISH * 50
    whole, start = (Language(num_chars=n).measure(batch(text)) for n in (0, len(GERMAN)))
    assert (whole["label"], start["label"]) == (["en"], ["de"])
    assert start == Language().measure(batch(GERMAN))
    assert Language(num_chars=10**9).measure(batch(text)) == whole


def test_a_file_needs_its_digest(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path))
    copy = tmp_path / "other.ftz"
    shutil.copyfile(model, copy)
    with pytest.raises(
        ModelFileError, match=f"give the digest of the file that is meant; of the one here it is {DIGEST}"
    ):
        Language(model=str(copy)).resources()
    with pytest.raises(ModelFileError, match=r"asked for is 00; it is another file"):
        Language(model=str(copy), sha256="00").resources()
    with pytest.raises(ModelFileError, match=r"no file 'absent.bin', and none of that name in "):
        Language(model="absent.bin", sha256=DIGEST).resources()
    for name in (str(copy), "other.ftz"):
        signal = Language(model=name, sha256=DIGEST)
        assert signal.resources()["other.ftz"] == DIGEST
        assert signal.measure(batch(GERMAN)) == Language().measure(batch(GERMAN))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.bin"
    path.write_bytes(b"not a model")

    with pytest.raises(ModelFileError, match="it is another file"):
        Language(model=str(path), sha256="00").measure(batch("x"))
    from hashlib import sha256

    with pytest.raises(ModelFileError, match="is no fastText model"):
        Language(model=str(path), sha256=sha256(b"not a model").hexdigest()).measure(batch("x"))


def test_the_label_of_english_must_be_the_model_s(model: Path) -> None:
    with pytest.raises(ModelFileError, match="no label 'eng_Latn'"):
        Language(english="eng_Latn").measure(batch(ENGLISH))
    german = Language(english="de").measure(batch(GERMAN))
    assert german["en_score"] == german["score"]


@pytest.mark.parametrize("options", [{"top_k": 0}, {"num_chars": -1}])
def test_counts_that_mean_nothing_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="must be 1 or more"):
        make_signal("language", options)


def test_lone_surrogates_and_ends_of_line_are_text_like_any_other(model: Path) -> None:
    values = Language().measure(batch("\ud800 and the mill", "the mill </s> die alte Mühle", "\n\n"))
    assert values["label"][0] == "en"
    assert values["label"][1] == "en"
    assert all(score is not None for score in values["score"])


def test_the_fast_guess() -> None:
    german = (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    )
    german += "und sollen einander im Geist der Brüderlichkeit begegnen. Jeder hat das Recht auf Leben und Freiheit."
    values = LanguageFast().measure(batch(german, ENGLISH * 5, "日本語の文章です。", ""))
    assert values["label"][:2] == ["de", "en"]
    assert (values["label"][2], values["distance"][2]) == (None, None)
    assert LanguageFast(cutoff=0).measure(batch(ENGLISH))["label"] == [None]


def test_both_guesses_agree_on_real_pages(model: Path, real_data: Path) -> None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text

    with (real_data / "crawl" / "pages-news.warc.gz").open("rb") as file:
        records = ArchiveIterator(file, record_types=WarcRecordType.response)
        pages = [record.reader.read().decode(errors="replace") for record in records]
    texts = [text for page in pages if len(text := extract_plain_text(page, main_content=True)) > 500]
    whole, start = (Language(num_chars=n).measure(batch(*texts))["label"] for n in (0, 1000))
    fast = LanguageFast().measure(batch(*texts))["label"]
    assert len(texts) > 150
    assert sum(a == b for a, b in zip(whole, start, strict=True)) >= 0.98 * len(texts)
    assert sum(a == b for a, b in zip(whole, fast, strict=True)) >= 0.95 * len(texts)
