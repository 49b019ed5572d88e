"""Whose words a signal counts: the kernel's or spaCy's, with ICU's in scripts without spaces."""

from headrace.filters.analysis.letters import load_letters
from headrace.filters.analysis.scripts import segmentable
from headrace.filters.analysis.spacy_words import cut_words_with_spacy
from headrace.filters.analysis.token_edges import replace_texts
from headrace.filters.analysis.tokens import WordTable, cut_words
from headrace.filters.utf8 import Int64s, Uint8s
from headrace.filters.words import Words


def cut_by(words: Words, data: Uint8s, offsets: Int64s) -> WordTable:
    """Return the words of texts that lie end to end in `data`, text i from offsets[i] to offsets[i + 1]."""
    return cut_words_with_spacy(data, offsets) if words == "spacy" else cut_words(data, offsets)


def segment_unspaced(table: WordTable, data: Uint8s, offsets: Int64s) -> WordTable:
    """Return the table with ICU's words for the texts that ICU has a dictionary for."""
    concerned = segmentable(data, offsets, *load_letters())
    if not concerned.any():
        return table
    from headrace.filters.analysis.icu_words import cut_segments

    return replace_texts(table, concerned, cut_segments(data, offsets, concerned))
