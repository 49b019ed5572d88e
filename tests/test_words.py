"""Words and sentences are those of spaCy's English pipeline, as datatrove uses it."""

import gzip
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters import words
from headrace.filters.words import count_sentences, english_tokenizer, split_sentences, split_words

TABLES: dict[str, Any] = json.loads(words._TABLES.read_text(encoding="utf-8"))


@cache
def reference() -> Any:
    pytest.importorskip("spacy")
    tokenizers = pytest.importorskip("datatrove.utils.word_tokenizers")
    return tokenizers.load_word_tokenizer("en")


def assert_same_as_reference(text: str) -> None:
    from datatrove.utils.text import split_into_sentences

    assert split_words(text) == reference().word_tokenize(text)
    sentences = split_sentences(text)
    assert sentences == split_into_sentences(text)
    assert count_sentences(text) == len(sentences)
    assert "".join(sentences) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\u3000 ", []),
        ("I don't know (yet).", ["I", "do", "n't", "know", "(", "yet", ")", "."]),
        ("See https://x.org/a-b?c=1, e.g. at 10a.m. :-)", None),
        ("U.S.-made 5km, $3.50 and/or well-known… ''quoted''", None),
        ("8 ) is no face, 8) is one: (-: and( -:", None),
        ("שלום, עולם! مرحبا بالعالم؟ 你好。", None),
        ("Trailing spaces.  ", None),
    ],
)
def test_examples(text: str, expected: list[str] | None) -> None:
    if expected is not None:
        assert split_words(text) == expected
    assert_same_as_reference(text)


def test_real_pages(real_data: Path) -> None:
    reference()
    with gzip.open(real_data / "crawl" / "pages-web.gold.json.gz") as file:
        pages = json.load(file)
    texts = [page["main_content"] for page in pages.values()][::12]
    assert sum(map(len, texts)) > 200_000
    for text in texts:
        assert_same_as_reference(text)


def test_many_languages(real_data: Path) -> None:
    reference()
    with zipfile.ZipFile(real_data / "languages" / "udhr2.zip") as archive:
        texts = [archive.read(name)[:3000].decode(errors="ignore") for name in archive.namelist()[::4]]
    assert len(texts) > 80
    for text in texts:
        assert_same_as_reference(text)


pieces = st.one_of(
    st.sampled_from(sorted(TABLES["exceptions"])),
    st.sampled_from([" ".join(sequence) for sequence in TABLES["sequences"]]),
    st.sampled_from([*"().,:;-'\"/@#$%…—\u2019“”[]<>_=+!? \n\t\u2028\xa0\u200b"]),
    st.sampled_from(["..", "...", "  ", "5km²", "US$", "a@b.co", "http://x.org/a?b"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=14).map("".join).filter(lambda text: "IS_ALPHA" not in text))
def test_made_up_texts(text: str) -> None:  # "IS_ALPHA" crashes spaCy now and then; datatrove then cuts it out
    assert_same_as_reference(text)


@pytest.mark.parametrize("part", ["a", ")", "a-", "a:", "a@", ".", "a.", "9km", "مرحبا", "a.b@c.d:"])
@pytest.mark.timeout(100)
def test_a_huge_word_does_not_hang(part: str) -> None:
    text = part * (40_000 // len(part))
    assert "".join(split_words(text)) == text
    assert count_sentences(text) >= 1


def test_what_is_remembered_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MEMO_CHUNKS", 4)
    tokenizer = words.EnglishTokenizer(TABLES)
    text = "one two three four five don't can't one-two three. one two " * 3
    assert tokenizer.words(text) == english_tokenizer().words(text)
    assert len(tokenizer._memo) <= 4


def test_tables_are_those_of_the_installed_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spacy")
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from benchmarks.generate_english_tokenizer import english_tables

    tables = english_tables()
    if tables["source"] != TABLES["source"]:
        pytest.skip(f"tables were made with {TABLES['source']}")
    assert tables == TABLES
