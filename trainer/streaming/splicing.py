"""Prefixes and tokens of documents, one after the other."""

from typing import Any

import numpy as np

from headrace.filters.kernels import kernel


@kernel()
def spliced(tokens: Any, starts: Any, prefixes: Any, prefix_starts: Any) -> Any:
    """Return each document's prefix and its tokens end to end, and where each document begins and the last one ends."""
    made = np.empty(len(tokens) + len(prefixes), tokens.dtype)
    begins = np.empty(len(starts), np.int64)
    place = np.int64(0)
    for number in range(len(starts) - 1):
        begins[number] = place
        for index in range(prefix_starts[number], prefix_starts[number + 1]):
            made[place] = prefixes[index]
            place += 1
        for index in range(starts[number], starts[number + 1]):
            made[place] = tokens[index]
            place += 1
    begins[len(starts) - 1] = place
    return made, begins
