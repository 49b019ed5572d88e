"""Values of a column written into the bytes of their rows, which lie end to end: a flag, and what is behind it.

`at` says where each row's value belongs. A null is its flag alone, and has a length of one byte.
"""

from headrace.filters.kernels import copy_bytes, kernel

_FLAG, _WORD = 1, 8


@kernel()
def write_words(out, at, lengths, words):  # type: ignore[no-untyped-def]
    """Write values of eight bytes, the lines of `words`."""
    for row in range(len(at)):
        place = at[row]
        out[place] = lengths[row] > _FLAG
        if out[place]:
            for byte in range(_WORD):
                out[place + _FLAG + byte] = words[row, byte]


@kernel()
def write_items(out, at, lengths, starts, data, item_bytes):  # type: ignore[no-untyped-def]
    """Write values of any length: how many items of `item_bytes` each, and the items, from item `starts` of `data`."""
    for row in range(len(at)):
        place = at[row]
        out[place] = lengths[row] > _FLAG
        if out[place]:
            num_bytes = lengths[row] - _FLAG - _WORD
            count = num_bytes // item_bytes
            for byte in range(_WORD):
                out[place + _FLAG + byte] = (count >> (8 * byte)) & 255
            place, start = place + _FLAG + _WORD, starts[row] * item_bytes
            copy_bytes(out, place, data, start, num_bytes)
