"""Whose words a signal counts: the kernel's or spaCy's, with ICU's in scripts without spaces."""

from typing import TYPE_CHECKING

from headrace.filters.analysis.letters import load_letters
from headrace.filters.analysis.scripts import segmentable
from headrace.filters.analysis.spacy_words import cut_words_with_spacy
from headrace.filters.analysis.token_tables import replace_texts
from headrace.filters.analysis.tokens import WordTable, cut_words
from headrace.filters.utf8 import Int64s, Uint8s
from headrace.filters.words import Words

if TYPE_CHECKING:
    from headrace.filters.contract import TextBatch


def cut_by(words: Words, data: Uint8s, offsets: Int64s) -> WordTable:
    """Return the words of texts that lie end to end in `data`, text i from offsets[i] to offsets[i + 1]."""
    return cut_words_with_spacy(data, offsets) if words == "spacy" else cut_words(data, offsets)


def segment_unspaced(batch: "TextBatch", words: Words) -> WordTable:
    """Return the words of a batch: ICU's for the texts that it has a dictionary for, and those cut by `words`."""
    concerned = segmentable(*batch.utf8, *load_letters())
    if not concerned.any():
        return batch.words_for(words)
    from headrace.filters.analysis.icu_words import cut_segments

    segmented = cut_segments(*batch.utf8, concerned)
    return segmented if concerned.all() else replace_texts(batch.words_for(words), concerned, segmented)
