"""Arrays that kernels fill without knowing how much will come, and the spans that most of them hold."""

import numpy as np

from headrace.filters.kernels import kernel

# A span of a text: where it begins and ends in bytes from the text's beginning, and the number of its label.
SPAN = np.dtype([("start", np.int64), ("end", np.int64), ("label", np.int64)])


@kernel()
def with_room(array, count, needed):  # type: ignore[no-untyped-def]
    """Return an array with its first `count` elements and room for some more."""
    if count + needed <= len(array):
        return array
    larger = np.empty(2 * len(array) + needed, array.dtype)
    larger[:count] = array[:count]
    return larger
