"""N-grams of words as they are compared: lower case, without punctuation and diacritics, numbers as they stand.

A word is a run of what `filters.normalize` does not turn into white space. The hash of n words follows from that of the
n words one place before; two different n-grams share one with a probability of 2^-64, which is taken for equality.
"""

import numpy as np

from headrace.filters.analysis.banding import mix_bits
from headrace.filters.analysis.becoming import DIGIT, SPACE
from headrace.filters.analysis.growing import with_room
from headrace.filters.analysis.hashing import append_byte
from headrace.filters.analysis.utf8 import decode
from headrace.filters.kernels import kernel

FOUND = np.dtype([("ngram", np.int64), ("start", np.int64), ("end", np.int64)])  # bytes from the text's beginning
_BASE = np.uint64(0x9E3779B97F4A7C15)
_ASCII, _ZERO = 128, ord("0")


@kernel()
def word_hashes(data, position, stop, page_of, kinds, starts, ends, pool):  # type: ignore[no-untyped-def]
    """Return the hash of each word of data[position:stop], and where each begins and ends."""
    hashes, begins, stops = np.empty(256, np.uint64), np.empty(256, np.int64), np.empty(256, np.int64)
    count, value, begin = np.int64(0), np.uint64(0), np.int64(-1)
    while position <= stop:
        kind, length, place = SPACE, 1, np.int64(0)
        code = np.uint32(0)
        if position < stop:
            code, length = decode(data, position)
            place = (np.int64(page_of[code >> np.uint32(8)]) << 8) + np.int64(code & np.uint32(255))
            kind = kinds[place]
        if kind == SPACE:
            if begin >= 0 and value:
                hashes, begins, stops = (
                    with_room(hashes, count, 1),
                    with_room(begins, count, 1),
                    with_room(stops, count, 1),
                )
                hashes[count], begins[count], stops[count] = mix_bits(value), begin, position
                count += 1
            value, begin = np.uint64(0), np.int64(-1)
        else:
            begin = position if begin < 0 else begin
            if kind == DIGIT:
                for byte in range(position, position + length):
                    value = append_byte(value, data[byte])
            else:
                for number in range(starts[place], ends[place]):
                    value = append_byte(value, pool[number])
        position += length
    return hashes[:count], begins[:count], stops[:count]


@kernel()
def hash_ngrams(hashes, n):  # type: ignore[no-untyped-def]
    """Return the hash of each run of n words."""
    found = np.empty(max(len(hashes) - n + 1, 0), np.uint64)
    power, value = np.uint64(1), np.uint64(0)
    for _ in range(n):
        power *= _BASE
    for number in range(len(hashes)):
        value = value * _BASE + hashes[number]
        if number >= n:
            value -= power * hashes[number - n]
        if number >= n - 1:
            found[number - n + 1] = mix_bits(value ^ np.uint64(n))
    return found


@kernel()
def find_ngrams(data, offsets, lengths, keys, filter_bits, page_of, kinds, starts, ends, pool):  # type: ignore[no-untyped-def]
    """Return the n-grams of texts that are among `keys`, and how many of them each text has found by its end.

    Args:
        data: The bytes of all texts.
        offsets: Where each text begins, and last where they end.
        lengths: The n of which there are keys.
        keys: Their hashes, ascending.
        filter_bits: Bits by the lower bits of hashes, eight a byte and a power of two of them: where one is not set, no
            key has those lower bits.
        page_of: Tables of what code points become; so are the rest.
    """
    found, count = np.empty(64, FOUND), np.int64(0)
    until = np.zeros(len(offsets), np.int64)
    mask = np.uint64(8 * len(filter_bits) - 1)
    for text in range(len(offsets) - 1):
        hashes, begins, stops = word_hashes(data, offsets[text], offsets[text + 1], page_of, kinds, starts, ends, pool)
        for n in lengths:
            ngrams = hash_ngrams(hashes, n)
            for number in range(len(ngrams)):
                bit = ngrams[number] & mask
                if not (filter_bits[bit >> np.uint64(3)] >> (bit & np.uint64(7))) & np.uint64(1):
                    continue
                place = np.searchsorted(keys, ngrams[number])
                if place < len(keys) and keys[place] == ngrams[number]:
                    found = with_room(found, count, 1)
                    found[count].ngram = place
                    found[count].start = begins[number] - offsets[text]
                    found[count].end = stops[number + n - 1] - offsets[text]
                    count += 1
        until[text + 1] = count
    return found[:count], until
