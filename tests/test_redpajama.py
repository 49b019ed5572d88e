"""RedPajama-v2's annotations, against its definitions said plainly."""

import math
import re
import unicodedata
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.signals.redpajama import RedPajama, normalize

BULLETS = tuple("\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013")


def one(text: str, **options: Any) -> dict[str, Any]:
    measured = RedPajama(**options).measure(TextBatch([text], [""]))
    return {name: values[0] for name, values in measured.items()}


def share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def top(words: list[str], n: int) -> int:
    grams = Counter(zip(*(words[start:] for start in range(n)), strict=False)).most_common(1)
    return len("".join(grams[0][0])) * grams[0][1] if grams and grams[0][1] > 1 else 0


def repeated(words: list[str], n: int) -> int:
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    counts = Counter(grams)
    places = {start + offset for start, gram in enumerate(grams) if counts[gram] > 1 for offset in range(n)}
    return sum(len(words[place]) for place in places)


def plainly(text: str) -> dict[str, Any]:
    """Return the annotations by regular expressions and strings."""
    raw, normal = re.findall(r"\w+|[^\w\s]+", text), normalize(text)
    words = normal.split()
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
    chars = sum(map(len, words))
    stop_words = RedPajama().stop_words
    entropy = -sum(count / len(words) * math.log(count / len(words)) for count in Counter(words).values())
    return {
        "curly_bracket": share(text.count("{") + text.count("}"), len(text)),
        "frac_all_caps_words": share(sum(map(str.isupper, raw)), len(raw)),
        "frac_lines_end_with_ellipsis": share(sum(x.rstrip().endswith(("...", "…")) for x in lines), len(lines)),
        "frac_no_alph_words": share(sum(not re.search("[a-zA-Z]", word) for word in raw), len(raw)),
        "lorem_ipsum": share(normal.count("lorem ipsum"), len(normal)),
        "mean_word_length": share(chars, len(words)),
        "stop_word_fraction": share(sum(word in stop_words for word in raw), len(raw)),
        "symbol_to_word_ratio": share(sum(map(text.count, ("#", "...", "…"))), len(raw)),
        "frac_unique_words": share(len(set(words)), len(words)),
        "unigram_entropy": round(abs(entropy), 4) if words else None,
        "word_count": len(words),
        "lines_ending_with_terminal_punctuation_mark": share(
            sum(line.rstrip().endswith((".", "!", "?", "”")) for line in lines), len(lines)
        ),
        "lines_javascript_counts": share(words.count("javascript"), len(lines)),
        "lines_num_words": share(len(words), len(lines)),
        "lines_numerical_chars_fraction": share(sum(map(str.isnumeric, normal)), len(normal)),
        "lines_start_with_bulletpoint": share(sum(line.lstrip().startswith(BULLETS) for line in lines), len(lines)),
        "lines_uppercase_letter_fraction": share(sum(map(str.isupper, text)), len(text)),
        "num_sentences": len(re.findall(r"\b[^.!?]+[.!?]*", text)),
        **{f"frac_chars_dupe_{n}grams": share(repeated(words, n), chars) for n in range(5, 11)},
        **{f"frac_chars_top_{n}gram": share(top(words, n), chars) for n in (2, 3, 4)},
    }


def test_a_page() -> None:
    text = "The mill's WHEEL turns. It turns, it TURNS!\n• Lorem ipsum {javascript} 12 #1...\n" * 2
    values = one(text)
    assert values == plainly(text)
    assert values["word_count"] == 28
    assert values["lines_start_with_bulletpoint"] == 0.5
    assert values["frac_chars_dupe_10grams"] == 1.0


def test_an_accent_is_a_character_of_the_normal_form() -> None:
    assert one("été")["mean_word_length"] == 5.0
    assert one("don't")["word_count"] == 1


def test_what_has_nothing_to_be_a_share_of() -> None:
    assert {name for name, value in one("").items() if value is not None} == {"word_count", "num_sentences"}
    assert one(" \n")["word_count"] == 0
    assert one("!!!")["mean_word_length"] is None
    assert one("one")["unigram_entropy"] == one("a a a")["unigram_entropy"] == 0.0


@pytest.mark.parametrize(
    "text", ["word " * 40_000, "é\n " * 70_000 + "x" * 70_000, " " * 200_000, "x" * 200_000 + " y"]
)
def test_long_texts_are_normalized_in_pieces(text: str) -> None:
    assert normalize(text) == unicodedata.normalize("NFD", " ".join(text.split()))


def test_stop_words_of_another_language() -> None:
    assert one("der Hund und die Katze", stop_words=("der", "die", "und"))["stop_word_fraction"] == 3 / 5


words = st.sampled_from(
    [
        *("the", "mill", "MILL", "Mill", "a", "aa", "b", "12", "½", "x_1", "été", "É", "ß", "ǅ", "日本", "ǆ", "İ"),
        *("...", "…", "#", "{", "}", "!", "?", ".", "”", "•", "–", "lorem ipsum", "javascript", "don't", "(-)"),  # noqa: RUF001
    ]
)
gaps = st.sampled_from(["", " ", " ", " ", "\n", "\n\n", "\r\n", "\u3000", "\x1c", ". "])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(words, gaps), max_size=60))
def test_annotations_are_those_of_the_plain_definitions(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + gap for word, gap in parts)
    assert one(text) == plainly(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "ab"]), max_size=80).map(" ".join))
def test_repetition_is_that_of_the_plain_definitions(text: str) -> None:
    assert one(text) == plainly(text)


@pytest.mark.parametrize("part", ["a ", "ab cd ef ", "!", "\n", "日", "lorem ipsum "])
def test_hostile_texts_end(part: str) -> None:
    text = part * (1_000_000 // len(part))
    assert one(text)["word_count"] == len(normalize(text).split())
