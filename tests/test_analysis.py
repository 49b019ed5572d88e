"""Kernels over UTF-8 count what plain Python counts, and cut words as the reference does."""

import random
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.filters.analysis.codepoints import Flag, load_codepoints
from headrace.filters.analysis.cutting import LONGEST_CHUNK
from headrace.filters.analysis.hashing import append_byte, hash_between, hash_bytes
from headrace.filters.analysis.limits import MOST_WORDS
from headrace.filters.contract import TextBatch
from headrace.filters.punctuation import PUNCTUATION_OR_TERMINAL, TERMINAL_PUNCTUATION
from headrace.filters.signals.c4 import C4
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import DUPLICATE_GRAMS, TOP_GRAMS, GopherQuality, GopherRepetition
from headrace.filters.spans import Span, View
from headrace.filters.utf8 import Utf8, decode
from headrace.filters.words import count_sentences, english_tokenizer
from headrace.pipeline.schema import SPANS
from headrace.pipeline.views import Views
from tests.plain_repetition import count_duplicates, repeated_gram_chars, top_gram_chars

DATA = Path(__file__).parents[2] / "shared" / "data"
LANGUAGES = DATA / "languages" / "udhr2.zip"

# What spaCy's patterns look at: exceptions, affixes, hyphens, units, URLs, and letters of several scripts.
PIECES = [
    *"aZé中жß1٣ .,:;!?'’\"“”()[]{}<>-–—~…·°%$€+*^=/_@#&|\\§\n\t\u3000\x85",  # noqa: RUF001 - they are the point
    *["'s", "’S", "n't", "US$", "C$", "10", "km", "m²", "°F", "...", "--", "——", "a.m", "U.S.", "e.g.", "cannot"],  # noqa: RUF001
    *[":-)", "¯\\(ツ)/¯", "it's", "don’t", "example.com", "http://", "192.168", "8.8.8.8", "Ünï", "i̇", "K"],  # noqa: RUF001
    *["  ", " ", " ", " ", "word", "Word", "WORD", "o'clock", ":(", "((", "))", "9):", "a.b", "x@y.org"],
]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def words(batch: TextBatch) -> list[list[str]]:
    return [english_tokenizer().words(text) for text in batch.texts]


@settings(max_examples=1500, deadline=None)
@given(st.lists(texts, max_size=4))
@example(["9): 9):", ":- ( ' '", "((((((((((((((((((((a", "10km. 5°F. US$5 5US$", "a......b", "…… ………", "x" * 40 + ","])
def test_words_are_those_of_the_reference(texts: list[str]) -> None:
    batch = TextBatch(texts, [""] * len(texts))
    assert batch.words == words(batch)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_words_of_any_text(texts: list[str]) -> None:
    batch = TextBatch(texts, [""] * len(texts))
    assert batch.words == words(batch)


@pytest.mark.timeout(60)
def test_doubtful_chunks_between_unusual_spaces_take_linear_time() -> None:
    text = "9):\u3000你好\u3000" * 5_000
    assert len(TextBatch([text], [""]).word_table.words) == 15_000


def test_long_chunks_and_many_words_find_room() -> None:
    texts = ["(" * 5000 + "x-" * 5000, "a,b;" * 3000, "www.example.com/a " * 500, "é" * 3000 + "!" * 700]
    batch = TextBatch(texts, [""] * 4)
    assert batch.words == words(batch)


def test_a_chunk_that_is_too_long_for_one_look_is_cut_piece_by_piece() -> None:
    text = "wait," + "a+b/c,é(x)..." * (LONGEST_CHUNK // 8)
    pieces = [text[start : start + LONGEST_CHUNK] for start in range(0, len(text), LONGEST_CHUNK)]
    assert len(pieces) == 2
    found = TextBatch(["so " + text + " it", *pieces], [""] * 3).words
    assert found[0] == ["so", *found[1], *found[2], "it"]
    assert "".join(found[0][1:-1]) == text
    assert TextBatch(["é" * 3 * LONGEST_CHUNK], [""]).words == [["é" * 3 * LONGEST_CHUNK]]


def test_the_first_words_of_a_text_are_looked_at() -> None:
    many = MOST_WORDS // 2 + 100_000
    for text, end in (("a, " * many, 1), (" " + "a," * many, LONGEST_CHUNK)):
        batch = TextBatch(["b c", text, "d e f"], [""] * 3)
        counts = np.diff(batch.word_table.first).tolist()
        assert counts[0] == 2
        assert counts[2] == 3
        assert MOST_WORDS <= counts[1] <= MOST_WORDS + end
        assert batch.word_table.words["end"][-1] == len(batch.utf8.data)


@pytest.mark.skipif(not LANGUAGES.is_file(), reason=f"{LANGUAGES} is not here")
def test_words_of_388_languages() -> None:
    with zipfile.ZipFile(LANGUAGES) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        batch = TextBatch([archive.read(name).decode("utf-8", "replace") for name in names], [""] * len(names))
    assert batch.words == words(batch)
    assert len(batch.word_table.words) > 500_000


def test_lone_surrogates_are_measured_as_replacement_characters() -> None:
    batch = TextBatch(["a \ud800b, \udfff."], [""])
    assert batch.words == words(batch) == [["a", "\ufffd", "b", ",", "\ufffd", "."]]
    assert list(Utf8.of(["é 🍷", ""]).texts()) == ["é 🍷", ""]


def test_flags_are_those_of_python_and_of_the_lists() -> None:
    page_of, pages = load_codepoints()
    for code in random.Random(1).sample(range(0x30000), 20_000):
        flags = int(pages[int(page_of[code >> 8]) * 256 + (code & 255)])
        character = chr(code)
        assert bool(flags & Flag.SYMBOL) == (character in PUNCTUATION_OR_TERMINAL)
        assert bool(flags & Flag.LINE_TERMINAL) == (character in TERMINAL_PUNCTUATION)
        assert bool(flags & Flag.SPACE) == character.isspace()
        assert bool(flags & Flag.LINE_BREAK) == (len(f"a{character}b".splitlines()) == 2)


@given(st.binary(max_size=600), st.integers(0, 600))
def test_hashes_of_pieces_follow_from_those_of_prefixes(data: bytes, cut: int) -> None:
    array, cut = np.frombuffer(data, np.uint8), min(cut, len(data))
    before, whole = np.uint64(hash_bytes(array, 0, cut)), np.uint64(hash_bytes(array, 0, len(data)))
    assert hash_between(before, whole, len(data) - cut) == hash_bytes(array, cut, len(data))
    assert append_byte(whole, 65) == hash_bytes(np.frombuffer(data + b"A", np.uint8), 0, len(data) + 1)


def repetition(text: str) -> dict[str, Any]:
    if not text:
        return dict.fromkeys([column.name for column in GopherRepetition().columns]) | {"num_chars": 0}
    tokens = english_tokenizer().words(text)
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    (para, para_chars), (line, line_chars) = count_duplicates(paragraphs), count_duplicates(lines)
    top = {n: top_gram_chars(tokens, n) for n in TOP_GRAMS}
    return {
        "num_chars": len(text),
        "dup_para_frac": para / len(paragraphs),
        "dup_para_char_frac": para_chars / len(text),
        "dup_line_frac": line / len(lines),
        "dup_line_char_frac": line_chars / len(text),
        **{f"top_{n}_gram_char_frac": None if c is None else c / len(text) for n, c in top.items()},
        **{f"dup_{n}_gram_char_frac": repeated_gram_chars(tokens, n) / len(text) for n in DUPLICATE_GRAMS},
    }


repetitive = st.lists(st.sampled_from(["a", "b", "(", ")", "ab", "é", "\n", "\n\n", " ", "a b c", "."]), max_size=120)


@settings(max_examples=400, deadline=None)
@given(st.lists(repetitive.map(" ".join) | repetitive.map("".join) | texts, min_size=1, max_size=3))
def test_repetition_is_what_plain_python_counts(texts: list[str]) -> None:
    found = GopherRepetition().measure(TextBatch(texts, [""] * len(texts)))
    for row, text in enumerate(texts):
        assert {name: values[row] for name, values in found.items()} == repetition(text)


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def quality(text: str, stop_words: Sequence[str]) -> dict[str, Any]:
    tokens, lines = english_tokenizer().words(text), text.splitlines()
    solid = [token for token in tokens if not PUNCTUATION_OR_TERMINAL.issuperset(token)]
    return {
        "num_words": len(tokens),
        "num_non_symbol_words": len(solid),
        "mean_word_length": ratio(sum(map(len, solid)), len(solid)),
        "hash_ratio": ratio(text.count("#"), len(tokens)),
        "ellipsis_ratio": ratio(text.count("...") + text.count("…"), len(tokens)),
        "bullet_line_frac": ratio(sum(line.lstrip().startswith(("•", "-")) for line in lines), len(lines)),
        "ellipsis_line_frac": ratio(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "alpha_word_frac": ratio(sum(any(map(str.isalpha, token)) for token in tokens), len(tokens)),
        "num_stop_words": len(set(stop_words) & set(tokens)),
    }


lists = st.lists(
    st.sampled_from(
        ["- one", "• two", "the be to", "#", "...", "….", "\r\n", "\n", "\x85", "\u2028", " ", "\x1c", "a"]
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(lists.map("".join) | texts, min_size=1, max_size=3))
def test_quality_is_what_plain_python_counts(texts: list[str]) -> None:
    signal = GopherQuality()
    found = signal.measure(TextBatch(texts, [""] * len(texts)))
    for row, text in enumerate(texts):
        assert {name: values[row] for name, values in found.items()} == quality(text, signal.stop_words)


def fragments(text: str) -> dict[str, Any]:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return dict.fromkeys([column.name for column in FineWeb().columns]) | {"num_lines": 0}
    return {
        "num_lines": len(lines),
        "line_punct_ratio": sum(line[-1] in TERMINAL_PUNCTUATION for line in lines) / len(lines),
        "short_line_ratio": sum(len(line) <= 30 for line in lines) / len(lines),
        "char_dup_ratio": count_duplicates(lines)[1] / (len(text) - text.count("\n")),
        "new_line_ratio": text.count("\n") / len(english_tokenizer().words(text)),
    }


@settings(max_examples=400, deadline=None)
@given(st.lists(lists.map("".join) | texts, min_size=1, max_size=3))
def test_fragments_are_what_plain_python_counts(texts: list[str]) -> None:
    found = FineWeb().measure(TextBatch(texts, [""] * len(texts)))
    for row, text in enumerate(texts):
        assert {name: values[row] for name, values in found.items()} == fragments(text)


@st.composite
def edited_texts(draw: st.DrawFn) -> tuple[str, list[Span]]:
    text = draw(st.text("aé🍷\n ", max_size=30))
    ends = [0, *np.cumsum([len(character.encode()) for character in text]).tolist()]
    pairs = draw(st.lists(st.tuples(st.sampled_from(ends), st.sampled_from(ends)), max_size=4))
    replacements = st.sampled_from([None, None, "", "x", "été"])
    return text, [Span(min(pair), max(pair), "label", draw(replacements)) for pair in pairs]


@settings(max_examples=400, deadline=None)
@given(st.lists(edited_texts(), min_size=1, max_size=4), st.integers(0, 3))
def test_views_of_a_batch_are_those_of_each_text(pairs: list[tuple[str, list[Span]]], skipped: int) -> None:
    column = pa.array([text for text, _ in pairs], pa.string())[skipped:]
    rows = [[span._asdict() for span in spans] for _, spans in pairs]
    views = Views(column, pa.nulls(len(column), pa.string()), pa.array(rows, SPANS)[skipped:])
    assert list(views.batch.texts) == [View.without(text, spans).text for text, spans in pairs[skipped:]]


@pytest.mark.parametrize("edges", [(0, 2), (2, 3), (1, 9), (-1, 1)])
def test_spans_of_half_characters_and_of_nothing_make_no_view(edges: tuple[int, int]) -> None:
    """A view is valid UTF-8, which kernels rely on: what would cut a character in two is an error, as for one text."""
    spans = pa.array([[Span(*edges, "label")._asdict()]], SPANS)
    with pytest.raises(ValueError, match=r"span|codec"):
        Views(pa.array(["aé🍷"]), pa.nulls(1, pa.string()), spans)


sentence_parts = st.lists(
    st.sampled_from(["One", "two.", "U.S.", "It", 'said."', "no?!", "...", ")", "[1]", "[22] ", "  ", "\u3000", "\n"]),
    max_size=50,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(sentence_parts.map(" ".join), min_size=1, max_size=3))
@example(["Foo bar baz.  [1]", "a b c. \u3000[1] d e f. g"])
def test_sentences_of_kept_lines_are_those_of_the_reference(texts: list[str]) -> None:
    """Each kept line is cut for itself, after citations have gone and before the whole is stripped."""
    found = C4(javascript=False, policy=False).measure(TextBatch(texts, [""] * len(texts)))["num_sentences"]
    for row, text in enumerate(texts):
        lines = [line.strip() for line in text.splitlines()]
        kept = [re.sub(r"\[\d*]", "", line) for line in lines if len(line.split()) >= 3]
        assert found[row] == sum(count_sentences(line) for line in kept)


def test_every_kind_of_word_is_met_in_prose() -> None:
    """The marks of words tell letters, symbols and terminals apart."""
    from headrace.filters.analysis.cutting import ALL_PUNCTUATION, HAS_LETTER, NON_SYMBOL, TERMINAL

    batch = TextBatch(["Yes, 12 + 3 is 15 …  ok."], [""])
    table = batch.word_table
    strings = [decode(batch.utf8.data, int(w["end"]) - int(w["num_bytes"]), int(w["end"])) for w in table.words]
    marks = dict(zip(strings, table.words["marks"].tolist(), strict=True))
    assert Counter(strings)["ok"] == 1
    assert marks["Yes"] & HAS_LETTER
    assert marks["12"] & NON_SYMBOL
    assert not marks["12"] & HAS_LETTER
    assert not marks[","] & NON_SYMBOL
    assert marks[","] & ALL_PUNCTUATION
    assert marks["."] & TERMINAL
    assert not marks["+"] & ALL_PUNCTUATION
