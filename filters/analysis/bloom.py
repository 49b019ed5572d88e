"""A Bloom filter of n-grams, by which paragraphs that were said before are told (Bloom 1970; Li et al. 2024, BFF).

The k places of an n-gram follow from two halves of its hash (Kirsch and Mitzenmacher 2006). An n-gram that was put in
is always found; another one is with a probability of about (1 - e^(-kn/m))^k after n were put into m bits.
"""

import math

import numpy as np
import numpy.typing as npt

from headrace.filters.analysis.banding import mix_bits
from headrace.filters.analysis.growing import with_room
from headrace.filters.analysis.ngrams import hash_ngrams, word_hashes
from headrace.filters.analysis.repeat_units import unit_end
from headrace.filters.kernels import kernel

PASSAGE = np.dtype([("row", np.int64), ("number", np.uint32)])
_EIGHT = np.uint64(8)


def filter_shape(expected: int, false_positives: float) -> tuple[int, int]:
    """Return how many bits and places a filter needs for so many n-grams and that rate of false positives."""
    bits = math.ceil(-expected * math.log(false_positives) / math.log(2) ** 2)
    return bits, max(1, round(bits / expected * math.log(2)))


def empty_filter(bits: int) -> npt.NDArray[np.uint8]:
    """Return a filter of so many bits with nothing in it."""
    return np.zeros(-(-bits // 8), np.uint8)


@kernel(within=True)
def _place(ngram, number, bits):  # type: ignore[no-untyped-def]
    step = mix_bits(ngram) | np.uint64(1)
    return (ngram + np.uint64(number) * step) % np.uint64(bits)


@kernel(within=True)
def is_in(ngram, held, places, bits):  # type: ignore[no-untyped-def]
    """Return whether a filter may have an n-gram."""
    for number in range(places):
        place = _place(ngram, number, bits)
        if not (held[place // _EIGHT] >> (place % _EIGHT)) & np.uint8(1):
            return False
    return True


@kernel(within=True)
def put_in(ngram, held, places, bits):  # type: ignore[no-untyped-def]
    """Put an n-gram into a filter."""
    for number in range(places):
        place = _place(ngram, number, bits)
        held[place // _EIGHT] |= np.uint8(1) << np.uint8(place % _EIGHT)


@kernel()
def passages_said_before(  # type: ignore[no-untyped-def]
    data, offsets, counted, breaks, n, least, held, places, bits, page_of, kinds, starts, ends, pool
):
    """Return passages of whose n-grams at least a share `least` is in the filter, and put in those of the others.

    A passage (a line, or with `breaks` = 2 a paragraph) of fewer than n words is left alone. Texts are looked at in
    order, those that are not `counted` not at all. How many n-grams were put in is returned, too.
    """
    found, count, put = np.empty(64, PASSAGE), np.int64(0), np.int64(0)
    for text in range(len(offsets) - 1):
        position, stop, number = offsets[text], offsets[text + 1] if counted[text] else offsets[text], np.uint32(0)
        while position < stop:
            end, behind = unit_end(data, position, stop, breaks)
            hashes, _, _ = word_hashes(data, position, end, page_of, kinds, starts, ends, pool)
            ngrams = hash_ngrams(hashes, n)
            known = np.int64(0)
            for ngram in ngrams:
                known += is_in(ngram, held, places, bits)
            if len(ngrams) and known >= least * len(ngrams):
                found = with_room(found, count, 1)
                found[count].row, found[count].number = text, number
                count += 1
            else:
                for ngram in ngrams:
                    put_in(ngram, held, places, bits)
                put += len(ngrams)
            number += np.uint32(1)
            position = behind
    return found[:count], put
