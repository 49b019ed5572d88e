"""Words as spaCy itself cuts them: the slow way, with which everybody can check the kernel on texts of his own.

It is spaCy's blank English pipeline as datatrove 0.10.1 asks it: texts of any length, white space left out, and what a
text adds to the vocabulary forgotten with it. Two things differ. The string `IS_ALPHA`, on which spaCy fails the second
time that it meets it (datatrove then cuts it out of the text), goes in under another name of the same form. And spaCy
takes time in the square of a run without white space, a minute for 30,000 brackets; so a text with a run of more than
LONGEST_RUN characters has the kernel's words.
"""

from functools import cache
from typing import Any

import numpy as np

from headrace.filters.analysis.codepoints import load_codepoints
from headrace.filters.analysis.token_tables import bytes_of_code_points, cut_with, replace_texts
from headrace.filters.analysis.token_words import longest_runs
from headrace.filters.analysis.tokens import WordTable, cut_words
from headrace.filters.utf8 import Int64s, Uint8s

LONGEST_RUN = 1000
_FAILING, _OF_THE_SAME_FORM = "IS_ALPHA", "IS_ALPHB"


def cut_words_with_spacy(data: Uint8s, offsets: Int64s) -> WordTable:
    """Return the words of texts that lie end to end in `data`, text i from offsets[i] to offsets[i + 1]."""
    too_long = longest_runs(data, offsets, *load_codepoints()) > LONGEST_RUN
    if too_long.all():
        return cut_words(data, offsets)
    table = cut_with(_find_tokens, data, offsets, ~too_long)
    return replace_texts(table, too_long, cut_words(data, offsets)) if too_long.any() else table


def _find_tokens(text: str, data: Uint8s) -> Int64s:
    """Return rows of [start, end) in bytes; the space behind a token is in its row."""
    from spacy.attrs import IDX

    pipeline = _pipeline()
    with pipeline.memory_zone():
        starts = pipeline.tokenizer(text.replace(_FAILING, _OF_THE_SAME_FORM)).to_array(IDX)
    edges = bytes_of_code_points(data, np.append(starts.astype(np.int64), len(text)))
    return np.stack([edges[:-1], edges[1:]], axis=1)


@cache
def _pipeline() -> Any:
    """Return the process's pipeline."""
    import spacy

    return spacy.blank("en")
