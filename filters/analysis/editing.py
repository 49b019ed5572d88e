"""Texts after edits, for whole batches: what `filters.spans` does for one text, where the spans allow it."""

import numpy as np

from headrace.filters.analysis.lines import begins_character
from headrace.filters.kernels import kernel


@kernel()
def are_in_order(data, offsets, starts, ends, first_span):  # type: ignore[no-untyped-def]
    """Return whether the spans of each text are disjoint, not empty, in order, inside it, and of whole characters."""
    for text in range(len(first_span) - 1):
        position = np.int64(0)
        for span in range(first_span[text], first_span[text + 1]):
            if starts[span] < position or ends[span] <= starts[span]:
                return False
            position = ends[span]
            if position > offsets[text + 1] - offsets[text]:
                return False
            for edge in (offsets[text] + starts[span], offsets[text] + ends[span]):
                if edge < offsets[text + 1] and not begins_character(data[edge]):
                    return False
    return True


@kernel()
def apply_in_order(data, offsets, starts, ends, first_span, replacements, replacement_offsets):  # type: ignore[no-untyped-def]
    """Return the texts after their edits, end to end, and where each begins.

    Span i puts `replacements[replacement_offsets[i]:replacement_offsets[i + 1]]` in the place of its bytes.
    """
    num_texts = len(offsets) - 1
    result, new_offsets = np.empty(len(data) + len(replacements), np.uint8), np.zeros(num_texts + 1, np.int64)
    size = np.int64(0)
    for text in range(num_texts):
        position = offsets[text]
        for span in range(first_span[text], first_span[text + 1]):
            start = offsets[text] + starts[span]
            result[size : size + start - position] = data[position:start]
            size += start - position
            first, last = replacement_offsets[span], replacement_offsets[span + 1]
            result[size : size + last - first] = replacements[first:last]
            size += last - first
            position = offsets[text] + ends[span]
        result[size : size + offsets[text + 1] - position] = data[position : offsets[text + 1]]
        size += offsets[text + 1] - position
        new_offsets[text + 1] = size
    return result[:size], new_offsets
