"""How many numbers two ascending sets share."""

import numpy as np

from headrace.filters.kernels import kernel


@kernel()
def count_shared(numbers, left_starts, left_ends, right_starts, right_ends):  # type: ignore[no-untyped-def]
    """Return for each pair of sets, which lie in `numbers`, how many numbers both have."""
    counts = np.zeros(len(left_starts), np.int64)
    for pair in range(len(left_starts)):
        left, right = left_starts[pair], right_starts[pair]
        while left < left_ends[pair] and right < right_ends[pair]:
            one, other = numbers[left], numbers[right]
            counts[pair] += one == other
            left += one <= other
            right += other <= one
    return counts
