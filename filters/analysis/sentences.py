"""Sentences as spaCy's sentencizer counts them, line by line."""

import numpy as np

from headrace.filters.analysis.cutting import AFTER_SPACE, ALL_PUNCTUATION, TERMINAL
from headrace.filters.kernels import kernel

_PLAIN_SPACE = ord(" ")


@kernel()
def count_sentences(data, words, first_word, lines, first_line):  # type: ignore[no-untyped-def]
    """Return the number of sentences in some lines of each text, each line cut for itself.

    `lines` are rows of [start, end) in `data`, in order; those of text t are from first_line[t] to first_line[t + 1]. A
    sentence ends with a terminal mark and the punctuation behind it; a token of white space begins the next one like a
    word.
    """
    counts = np.zeros(len(first_line) - 1, np.int64)
    for text in range(len(first_line) - 1):
        number, stop = first_word[text], first_word[text + 1]
        for line in range(first_line[text], first_line[text + 1]):
            start, end = lines[line, 0], lines[line, 1]
            while number < stop and words[number].end <= start:
                number += 1
            counts[text] += 1
            ended, word_end = False, end
            while number < stop and words[number].end <= end:
                marks = words[number].marks
                if ended and marks & AFTER_SPACE:
                    counts[text] += 1
                    ended = False
                if marks & TERMINAL:
                    ended = True
                elif ended and not marks & ALL_PUNCTUATION:
                    counts[text] += 1
                    ended = False
                word_end = np.int64(words[number].end)
                number += 1
            if ended and (end > word_end + 1 or (end > word_end and data[word_end] != _PLAIN_SPACE)):
                counts[text] += 1
    return counts
