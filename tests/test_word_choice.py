"""Words that spaCy itself cuts: those of the kernel and of datatrove, in the same table, made once for a batch."""

import gc
import re
import weakref
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.filters import libraries
from headrace.filters.analysis import spacy_words
from headrace.filters.analysis.splitters import cut_by
from headrace.filters.analysis.token_tables import replace_texts
from headrace.filters.analysis.tokens import WordTable, word_strings
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.libraries import MissingLibraryError
from headrace.filters.signals.c4 import C4
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import GopherQuality, GopherRepetition
from headrace.filters.signals.minhash import MinHash
from headrace.filters.signals.stop_words import StopWords
from headrace.filters.words import word_resources
from tests.test_analysis import texts as made_texts

NUM_PAGES = 120
PAIRS = [
    (cls(), cls(words="spacy"))  # type: ignore[call-arg]  # each has the option
    for cls in (GopherRepetition, GopherQuality, C4, FineWeb, MinHash, StopWords)
]

pytest.importorskip("spacy", reason="spaCy is not installed (the extra `interop`)")


@pytest.fixture(scope="module")
def parity() -> Any:
    for library in ("datatrove", "fastwarc", "trafilatura"):
        pytest.importorskip(library)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield import_module("benchmarks.filter_parity")


@pytest.fixture(scope="module")
def pages(parity: Any, real_data: Path) -> list[str]:
    found: list[str] = parity.extract_texts(real_data / "crawl" / "pages-web.warc.gz", NUM_PAGES)
    assert len(found) == NUM_PAGES
    return found


def batch_of(*texts: str) -> TextBatch:
    return TextBatch(texts, [""] * len(texts))


def same(one: WordTable, other: WordTable) -> bool:
    return np.array_equal(one.words, other.words) and np.array_equal(one.first, other.first)


def words(texts: Sequence[str]) -> list[list[str]]:
    batch = batch_of(*texts)
    return word_strings(batch.utf8.data, batch.words_for("spacy"))


def test_words_of_real_pages_are_those_of_the_kernel_and_of_datatrove(pages: list[str]) -> None:
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    batch = TextBatch(pages, [""] * len(pages))
    assert same(batch.words_for("spacy"), batch.words_for("english"))
    tokenizer = load_word_tokenizer("en")
    assert words(pages) == [tokenizer.word_tokenize(text) for text in pages]


@pytest.mark.parametrize(("kernel", "spacy"), PAIRS, ids=lambda signal: signal.name)
def test_values_of_real_pages_are_those_of_the_kernel(pages: list[str], kernel: Signal, spacy: Signal) -> None:
    ours, theirs = (signal.measure(TextBatch(pages, [""] * len(pages))) for signal in (kernel, spacy))
    assert {name: list(values) for name, values in ours.items()} == {n: list(v) for n, v in theirs.items()}


def test_decisions_on_real_pages_are_those_of_datatrove(parity: Any, pages: list[str]) -> None:
    comparisons = list(parity.compare_filters(pages, words="spacy"))
    assert len(comparisons) == 7
    assert all(comparison.same_reason == comparison.documents for comparison in comparisons)
    signatures, *_ = parity.compare_minhash(pages[:30], words="spacy")
    assert signatures.agreement == 1.0


def test_the_option_reaches_the_signals(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of these would compare the kernel with itself."""
    asked = []
    cut = spacy_words._find_tokens
    monkeypatch.setattr(spacy_words, "_find_tokens", lambda text, data: asked.append(text) or cut(text, data))
    for _, signal in PAIRS:
        asked.clear()
        signal.measure(batch_of("One two three. Four five six."))
        assert asked
    asked.clear()
    parity.measured("gopher_quality", ["One two."], words="spacy")
    assert asked == ["One two."]


@settings(max_examples=300, deadline=None)
@given(st.lists(made_texts, max_size=4))
@example(["9): 9):", "", "a  b\n\n c\u3000d \u0301e", "IS_ALPHA IS_ALPHA xIS_ALPHA.", "🍷 𠀀é 10km."])
def test_tables_are_those_of_the_kernel_to_the_last_mark(texts: list[str]) -> None:
    batch = batch_of(*texts)
    assert same(batch.words_for("spacy"), batch.words_for("english"))


def test_the_string_that_breaks_spacy_is_a_word_each_time() -> None:
    for _ in range(3):
        assert words(["a IS_ALPHA b IS_ALPHA"]) == [["a", "IS_ALPHA", "b", "IS_ALPHA"]]


def test_runs_that_are_too_long_for_spacy_are_cut_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    cut = spacy_words._find_tokens
    monkeypatch.setattr(spacy_words, "_find_tokens", lambda text, data: asked.append(text) or cut(text, data))
    just, over = "(" * spacy_words.LONGEST_RUN, "(" * (spacy_words.LONGEST_RUN + 1)
    found = words(["can't", f"a {over} b", just, f"{just} {just}"])
    assert [len(of_text) for of_text in found] == [2, len(over) + 2, len(just), 2 * len(just)]
    assert asked == ["can't", just, f"{just} {just}"]
    asked.clear()
    assert words([over]) == [["("] * len(over)]
    assert not asked


def test_a_large_text_is_cut_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 50)
    text = "Don't  stop: it's 10km — or\u3000é🍷 more,\n\nU.S. words...\n" * 20
    batch = batch_of("x", text, "y z")
    assert same(batch.words_for("spacy"), batch.words_for("english"))


def test_of_a_large_text_the_first_words_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 10)
    monkeypatch.setattr("headrace.filters.analysis.token_tables.MOST_WORDS", 7)
    table = batch_of("a b", "word " * 60, "c").words_for("spacy")
    assert np.diff(table.first).tolist() == [2, 7, 1]
    assert table.words["end"][-1] == 304


def test_a_batch_makes_each_table_once_and_gives_all_back() -> None:
    batch = batch_of("Don't stop.", "水車站在河邊。")
    tables = [batch.words_for(), batch.words_for("spacy"), batch.words_for("spacy", "segment")]
    assert len({id(table) for table in tables}) == 3
    assert batch.word_table is tables[0]
    assert batch.words_for("english", "null") is tables[0]
    assert batch.words_for("spacy", "null") is batch.words_for("spacy", "measure") is tables[1]
    assert batch.words_for("spacy", "segment") is tables[2]
    remembered = [weakref.ref(table.words) for table in tables]
    del tables
    batch.forget_analyses()
    gc.collect()
    assert [found() for found in remembered] == [None] * 3
    assert len(batch.words_for("spacy", "segment").words) == 8


@given(st.lists(st.tuples(made_texts, st.booleans()), max_size=5))
def test_texts_of_two_tables_become_one(pairs: list[tuple[str, bool]]) -> None:
    texts = [text for text, _ in pairs]
    replaced = np.array([is_replaced for _, is_replaced in pairs], np.bool_)
    table = cut_by("english", *batch_of(*texts).utf8)
    doubled = WordTable(np.repeat(table.words, 2), 2 * table.first)
    found = replace_texts(table, replaced, doubled)
    for text, is_replaced in enumerate(replaced):
        mine = found.words[found.first[text] : found.first[text + 1]]
        source = doubled if is_replaced else table
        assert np.array_equal(mine, source.words[source.first[text] : source.first[text + 1]])


def test_resources_name_the_library() -> None:
    for kernel, spacy in PAIRS:
        assert "spacy" not in kernel.resources()
        assert spacy.resources() == {**kernel.resources(), "spacy": version("spacy")}


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise libraries.PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", missing)
    word_resources.cache_clear()
    with pytest.raises(MissingLibraryError, match=re.escape("pip install 'headrace[interop]'")):
        GopherQuality(words="spacy").resources()
    assert GopherQuality().resources()
    word_resources.cache_clear()
