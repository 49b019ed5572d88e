"""fastText classifiers (Joulin et al. 2016, arXiv:1607.01759) asked by whole batches; each model is loaded once.

The text is one line to the model, as if its line feeds were spaces. Probabilities are those of the `fasttext` library
to the last bits of float32, at several times its speed. Two of its habits are kept: a word `</s>` ends the text, and
words that begin with `__label__` count for nothing.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from headrace.filters.fasttext_file import HIERARCHICAL_SOFTMAX, NO_COUNT, FastTextFile, Float32s, Int32s, read_model
from headrace.filters.models import ModelFileError
from headrace.filters.utf8 import Utf8

if TYPE_CHECKING:
    from headrace.filters.fasttext_kernel import Tables

IMPOSSIBLE = 1e-5
"""Labels of a lower probability are not worth naming; the library leaves them out."""


@dataclass(frozen=True, eq=False)
class FastTextModel:
    """A model, and the tables that find its rows."""

    path: Path
    file: FastTextFile
    tables: "Tables"

    @property
    def labels(self) -> list[str]:
        """The labels, without their prefix, in the order of the columns of probabilities."""
        return self.file.labels

    def column(self, label: str) -> int:
        """Return the column of a label; raises ModelFileError where the model has no such label."""
        if label not in self.labels:
            some = ", ".join(sorted(self.labels)[:10])
            raise ModelFileError(
                f"{self.path}: the model has no label {label!r}; of its {len(self.labels)} the first are {some}"
            )
        return self.labels.index(label)

    def probabilities(self, texts: Utf8) -> tuple[Float32s, npt.NDArray[np.bool_]]:
        """Return the probability of each label for each text, and which texts the model can say anything about."""
        from headrace.filters.fasttext_kernel import hidden_vectors
        from headrace.filters.fasttext_outputs import softmax_probabilities, tree_probabilities

        file = self.file
        hidden, counts = hidden_vectors(*texts, self.tables)
        if file.loss == HIERARCHICAL_SOFTMAX:
            return tree_probabilities(hidden, file.outputs, *huffman_tree(tuple(file.label_counts))), counts > 0
        return softmax_probabilities(hidden, file.outputs), counts > 0


@cache
def load_model(path: Path) -> FastTextModel:
    """Return the model of a file; raises ModelFileError where it is none."""
    from headrace.filters.fasttext_kernel import Tables, build_slots

    file = read_model(path)
    words = np.frombuffer(b"".join(file.words) or b" ", np.uint8)
    starts = np.cumsum([0, *map(len, file.words)], dtype=np.int64)
    has_row = file.pruned >= 0 if len(file.pruned) else np.ones(file.buckets, bool)
    tables = Tables(
        words=words,
        starts=starts,
        slots=build_slots(words, starts, 1 << (2 * len(file.words)).bit_length()),
        min_n=file.min_n,
        max_n=file.max_n,
        word_ngrams=file.word_ngrams,
        buckets=file.buckets,
        present=np.packbits(has_row, bitorder="little"),
        pruned=file.pruned,
        inputs=file.inputs,
    )
    for array in (*tables, file.outputs):
        if isinstance(array, np.ndarray):
            array.setflags(write=False)  # to numba another type: all alike are compiled once
    return FastTextModel(path, file, tables)


@cache
def huffman_tree(counts: tuple[int, ...]) -> tuple[Int32s, Int32s]:
    """Return the children of the inner nodes of fastText's tree over labels, whose counts never rise."""
    num_labels = len(counts)
    weights = [*counts, *([NO_COUNT] * (num_labels - 1))]
    children: list[tuple[int, int]] = []
    leaf, node = num_labels - 1, num_labels
    for inner in range(num_labels, 2 * num_labels - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weights[inner] = weights[pair[0]] + weights[pair[1]]
        children.append((pair[0], pair[1]))
    left, right = np.array(children, np.int32).reshape(-1, 2).T
    return left.copy(), right.copy()
