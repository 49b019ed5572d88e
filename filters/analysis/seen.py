"""What a text has shown before: open hash tables of keys (`filters.analysis.hashing.as_key`), 0 for an empty slot."""

import numpy as np

from headrace.filters.kernels import kernel


@kernel()
def table_size(num_keys):  # type: ignore[no-untyped-def]
    """Return a power of two that some keys fill by two thirds at most."""
    size = 16
    while 2 * size < 3 * num_keys:
        size *= 2
    return size


@kernel()
def most_different_lines(num_lines, num_bytes):  # type: ignore[no-untyped-def]
    """Return how many of the lines in so many bytes can differ: few are short, all others take four bytes and more."""
    return min(num_lines, 1 + 256 + 256 * 256 + num_bytes // 4)


@kernel(within=True)
def emptied(room, size):  # type: ignore[no-untyped-def]
    """Return the first slots of a table, emptied."""
    table = room[:size]
    table[:] = np.uint64(0)
    return table


@kernel(within=True)
def slot_of(table, key):  # type: ignore[no-untyped-def]
    """Return the slot of a key (all of whose bits are mixed): its own, or the empty one where it belongs."""
    mask = len(table) - 1
    slot = np.int64(key >> np.uint64(1)) & mask
    while table[slot] != key and table[slot] != 0:
        slot = (slot + 1) & mask
    return slot
