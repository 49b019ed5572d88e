"""RedPajama-v2's quality annotations (Weber et al. 2024, arXiv:2411.12372), those of natural language and repetition.

Counted as togethercomputer/RedPajama-Data (branch rp_v2, app/src/core) does, by the names of its README without `rps_`
and `doc_`. Its words are of two kinds. Raw ones are runs of letters, digits and underscores, or of other marks (NLTK's
WordPunctTokenizer). Normalized ones stand between white space once ASCII punctuation is taken out and the text is in
lower case and in Unicode's form NFD, so that an accent is a character of its own. A repeated run counts with its first
occurrence and each word once, unlike in `gopher_repetition`.

What differs: annotations of lines are lists there and one number here, over all lines (shares of lines, counts a line,
shares of all lines' characters). What has no word, no line or no character is null, not 0. Nothing is rounded but the
entropy, a sum of logarithms, which may differ between machines in its last bits. RedPajama takes stop words from
stopwords-json, several hundred for each language; give them as `stop_words`, the default are Gopher's eight.
"""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.counts import defined_only, ratios
from headrace.filters.utf8 import Utf8

_PUNCTUATION = string.punctuation.encode()
_PIECE_CHARS = 1 << 16
_TOP, _REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)


@register
@dataclass(frozen=True)
class RedPajama:
    """RedPajama-v2's measures of prose and repetition, by its words, lines and sentences."""

    name: ClassVar[str] = "redpajama"
    version: ClassVar[int] = 1

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Counts and shares, in the order of RedPajama's README."""
        return (
            Column("curly_bracket", "float", "curly brackets, of all characters"),
            Column("frac_all_caps_words", "float", "raw words in upper case, of all"),
            Column("frac_lines_end_with_ellipsis", "float", "lines that end with an ellipsis, of all"),
            Column("frac_no_alph_words", "float", "raw words without a letter from a to z, of all"),
            Column("lorem_ipsum", "float", "occurrences of `lorem ipsum` a character of the normalized text"),
            Column("mean_word_length", "float", "characters a normalized word"),
            Column("stop_word_fraction", "float", "raw words that are stop words, in the same case, of all"),
            Column("symbol_to_word_ratio", "float", "hash signs and ellipses a raw word"),
            Column("frac_unique_words", "float", "different normalized words, of all"),
            Column("unigram_entropy", "float", "entropy of the normalized words in nats"),
            Column("word_count", "int", "normalized words"),
            Column("lines_ending_with_terminal_punctuation_mark", "float", "lines that end with . ! ? or ”, of all"),
            Column("lines_javascript_counts", "float", "normalized words `javascript` a line"),
            Column("lines_num_words", "float", "normalized words a line"),
            Column("lines_numerical_chars_fraction", "float", "numerical characters, of the normalized text's"),
            Column("lines_start_with_bulletpoint", "float", "lines that begin with a bullet, of all"),
            Column("lines_uppercase_letter_fraction", "float", "letters in upper case, of all characters"),
            Column("num_sentences", "int", r"matches of \b[^.!?]+[.!?]*"),
            *(Column(f"frac_chars_dupe_{n}grams", "float", f"characters in repeated {n}-grams") for n in _REPEATED),
            *(Column(f"frac_chars_top_{n}gram", "float", f"characters in the commonest {n}-gram") for n in _TOP),
        )

    def resources(self) -> Mapping[str, str]:
        """Return what decides cases, words and the normal form."""
        from headrace.filters.analysis.letters import letters_digest

        return {"letters": letters_digest(), "unicode": unicodedata.unidata_version}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts and shares; a share of nothing is undefined."""
        from headrace.filters.analysis import annotations as of
        from headrace.filters.analysis.letters import load_letters
        from headrace.filters.analysis.prose import count_marks

        normalized = [normalize(text).encode() for text in batch.utf8.texts()]  # as strings they take twice the memory
        lorem = np.array([text.count(b"lorem ipsum") for text in normalized], np.int64)
        utf8 = Utf8.joined(normalized)
        del normalized
        raw = of.count_raw(*batch.utf8, _stop_word_table(self.stop_words), *load_letters()).T
        normal, entropies = of.count_normalized(*utf8, *load_letters())
        num_words, word_chars, numeric, javascript, distinct, *runs = normal.T
        marks, lines = count_marks(*batch.utf8).T, raw[of.LINES]
        normal_chars = word_chars + np.maximum(num_words - 1, 0)
        top, repeated = runs[: len(_TOP)], runs[len(_TOP) :]
        values = (
            ratios(raw[of.CURLY], raw[of.CHARS]),
            ratios(raw[of.CAPS], raw[of.WORDS]),
            ratios(raw[of.ELLIPSIS], lines),
            ratios(raw[of.NO_LETTER], raw[of.WORDS]),
            ratios(lorem, normal_chars),
            ratios(word_chars, num_words),
            ratios(raw[of.STOP_WORDS], raw[of.WORDS]),
            ratios(marks[0] + marks[1], raw[of.WORDS]),
            ratios(distinct, num_words),
            defined_only(np.array([round(entropy, 4) for entropy in entropies.tolist()]), num_words > 0),
            num_words.tolist(),
            ratios(raw[of.TERMINAL], lines),
            ratios(javascript, lines),
            ratios(num_words, lines),
            ratios(numeric, normal_chars),
            ratios(raw[of.BULLET], lines),
            ratios(raw[of.UPPER], raw[of.CHARS]),
            raw[of.SENTENCES].tolist(),
            *(ratios(chars, word_chars) for chars in (*repeated, *top)),
        )
        return dict(zip((column.name for column in self.columns), values, strict=True))


def normalize(text: str) -> str:
    """Return a text without ASCII punctuation, in lower case, its words one space apart, in the form NFD."""
    bare = _one_space_apart(text.encode().translate(None, _PUNCTUATION).decode().lower())
    return bare if bare.isascii() else unicodedata.normalize("NFD", bare)


def _one_space_apart(text: str) -> str:
    """Return the words of a text with one space between them, made of pieces so that never all are strings at once."""
    pieces, start = [], 0
    while start < len(text):
        end = start + _PIECE_CHARS
        while end < len(text) and not text[end].isspace():
            end += 1
        pieces.append(" ".join(text[start:end].split()))
        start = end
    return " ".join(filter(None, pieces))


@cache
def _stop_word_table(words: tuple[str, ...]) -> Any:
    from headrace.filters.analysis.lexicon import number_words

    return number_words(words)
