"""From hidden vectors to probabilities of labels, in the float32 operations of `fasttext` 0.9."""

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.filters.kernels import kernel

Array = npt.NDArray[Any]

_TINY = 1e-5  # what fastText adds before it takes a logarithm


@kernel()
def _log(value: Any) -> Any:
    return np.float32(np.log(value + _TINY))


@kernel()
def _dot(outputs: Array, row: int, hidden: Array) -> Any:
    value = np.float32(0.0)
    for column in range(hidden.shape[0]):
        value += outputs[row, column] * hidden[column]
    return value


@kernel()
def tree_probabilities(hidden: Array, outputs: Array, left: Array, right: Array) -> Array:
    """Return the probability of each label, float32 of shape (texts, labels), by a hierarchical softmax.

    Node `n` of the tree is a label where `n` is below the number of labels, else it has the children `left[n - labels]`
    and `right[n - labels]`; the last node is the root, and children come before their parents.
    """
    num_texts, num_labels = len(hidden), len(left) + 1
    found = np.empty((num_texts, num_labels), np.float32)
    scores = np.empty(2 * num_labels - 1, np.float32)
    for text in range(num_texts):
        scores[-1] = 0.0
        for inner in range(num_labels - 2, -1, -1):
            score = scores[num_labels + inner]
            chance = np.float32(1.0 / (1.0 + np.exp(-_dot(outputs, inner, hidden[text]))))
            scores[left[inner]] = score + _log(1.0 - chance)
            scores[right[inner]] = score + _log(np.float64(chance))
        for label in range(num_labels):
            found[text, label] = np.exp(scores[label])
    return found


@kernel()
def softmax_probabilities(hidden: Array, outputs: Array) -> Array:
    """Return the probability of each label, float32 of shape (texts, labels), by a softmax."""
    num_texts, num_labels = len(hidden), len(outputs)
    found = np.empty((num_texts, num_labels), np.float32)
    for text in range(num_texts):
        scores = found[text]
        for label in range(num_labels):
            scores[label] = _dot(outputs, label, hidden[text])
        largest, total = scores.max(), np.float32(0.0)
        for label in range(num_labels):
            scores[label] = np.exp(scores[label] - largest)
            total += scores[label]
        for label in range(num_labels):
            scores[label] = np.exp(_log(np.float64(scores[label] / total)))
    return found
