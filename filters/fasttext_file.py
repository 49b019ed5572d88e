"""What a fastText model file holds (Joulin et al. 2016, arXiv:1607.01759; Bojanowski et al. 2017, arXiv:1607.04606).

Reads the format of versions 11 and 12 as `fasttext` 0.9 writes it, `.bin` and `.ftz`. Every number that says where to
look is checked against what is there, since kernels look without asking. A quantized matrix (Joulin et al.
2016, arXiv:1612.03651) becomes a dense one of the same float32 values; a large dense one stays a view of the mapped
file, so that workers share its pages.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.filters.models import ModelFileError

Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]

LABEL_PREFIX = "__label__"
HIERARCHICAL_SOFTMAX, SOFTMAX = 1, 3
_MAGIC = 793712314
_VERSIONS = (11, 12)
_SUPERVISED = 3
_CENTROIDS = 256
NO_COUNT = 10**15  # what `fasttext` takes for the count of what is not in its tree yet
_LONGEST_GRAM = 64  # characters; real models have up to six
_MAPPED_BYTES = 64 << 20  # smaller matrices are copied to an aligned place, for which kernels are compiled already


@dataclass(frozen=True, eq=False)
class FastTextFile:
    """A supervised model: what text is made of (words, labels, hashed n-grams) and two matrices of weights.

    `words` and `labels` are in the order of their rows. `pruned` maps a bucket of n-grams to its row, behind those of
    the words, or to -1; it is empty where every bucket has its row. `inputs` has shape (rows, dim), `outputs` (labels,
    dim), of which a hierarchical softmax uses all but the last.
    """

    words: list[bytes]
    labels: list[str]
    label_counts: list[int]
    min_n: int
    max_n: int
    word_ngrams: int
    buckets: int
    loss: int
    pruned: Int32s
    inputs: Float32s
    outputs: Float32s


def read_model(path: Path) -> FastTextFile:
    """Read a model file.

    Raises:
        ModelFileError: it is no fastText model, was cut short, or is no classifier with a softmax.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read(_Cursor(data))
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: is no fastText model, or not all of one ({error})") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from None


class _Cursor:
    """Reads little-endian values from a buffer, one after the other."""

    def __init__(self, data: Any) -> None:
        self.data, self.position = data, 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.position)
        self.position += struct.calcsize("<" + form)
        return found

    def array(self, kind: Any, count: int) -> npt.NDArray[Any]:
        if count < 0:
            raise ValueError(f"a size is {count}")
        found = np.frombuffer(self.data, kind, count, self.position)
        self.position += found.nbytes
        return found

    def word(self) -> bytes:
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise ValueError("a word has no end")
        found: bytes = self.data[self.position : end]
        self.position = end + 1
        return found


def _read(file: _Cursor) -> FastTextFile:
    magic, version = file.values("ii")
    if magic != _MAGIC or version not in _VERSIONS:
        raise ValueError(f"it begins with {magic}, {version}, not with {_MAGIC}, {_VERSIONS[-1]}")
    dim, _ws, _epoch, _min_count, _neg, word_ngrams, loss, kind, buckets, min_n, max_n, _rate, _t = file.values("12id")
    if kind != _SUPERVISED or loss not in (HIERARCHICAL_SOFTMAX, SOFTMAX):
        raise ValueError(f"its kind {kind} and loss {loss} are not those of a classifier with a softmax (3 and 1 or 3)")
    num_entries, num_words, num_labels, _tokens, num_pruned = file.values("iiiqq")
    if version == _VERSIONS[0]:
        max_n = 0  # such files counted n-grams of characters for a classifier that had none
    entries = [(file.word(), *file.values("qb")) for _ in range(num_entries)]
    words, labels = entries[:num_words], entries[num_words:]
    if len(labels) != num_labels or not labels:
        raise ValueError(f"it has {num_entries} entries, not {num_words} words and {num_labels} labels")
    counts = [count for _, count, _ in labels]
    if min(min_n, max_n, word_ngrams, buckets, *counts) < 0 or max_n > _LONGEST_GRAM or max(counts) >= NO_COUNT:
        raise ValueError("a size or count in its head cannot be")
    pairs = file.array("<i4", 2 * max(0, num_pruned)).reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or pairs[:, 0].max() >= buckets or pairs[:, 1].max() >= num_pruned):
        raise ValueError("an n-gram has a row that is not there")
    inputs = _read_matrix(file, *file.values("?"))
    outputs = _read_matrix(file, *file.values("?"))
    num_rows = num_words + (buckets if num_pruned < 0 else num_pruned)
    if inputs.shape != (num_rows, dim) or outputs.shape != (num_labels, dim):
        raise ValueError(f"its matrices are of shape {inputs.shape} and {outputs.shape}, its head says otherwise")
    return FastTextFile(
        words=[word for word, _, _ in words],
        labels=[label.decode().removeprefix(LABEL_PREFIX) for label, _, _ in labels],
        label_counts=counts,
        min_n=min_n,
        max_n=max_n,
        word_ngrams=word_ngrams,
        buckets=buckets if num_pruned else 0,  # of a model pruned to words, no n-gram is left
        loss=loss,
        pruned=_pruned_rows(pairs, buckets) if num_pruned > 0 else np.zeros(0, np.int32),
        inputs=inputs,
        outputs=outputs,
    )


def _pruned_rows(pairs: npt.NDArray[Any], buckets: int) -> Int32s:
    rows = np.full(buckets, -1, np.int32)
    rows[pairs[:, 0]] = pairs[:, 1]
    return rows


def _read_matrix(file: _Cursor, quantized: bool) -> Float32s:
    if not quantized:
        rows, dim = file.values("qq")
        dense = file.array("<f4", rows * dim).reshape(rows, dim)
        return dense if dense.nbytes > _MAPPED_BYTES else np.require(dense, requirements="A")
    has_norms, rows, _dim, num_codes = file.values("?qqi")
    codes = file.array(np.uint8, num_codes).reshape(rows, -1)
    values = _decode(codes, *_read_quantizer(file))
    if has_norms:
        norms = file.array(np.uint8, rows).reshape(rows, 1)
        values = values * _decode(norms, *_read_quantizer(file))
    return values


def _read_quantizer(file: _Cursor) -> tuple[int, int, Float32s]:
    """Return the dimension, the size of a subvector, and the centroids of each as they lie in the file."""
    dim, _num_parts, part, _last = file.values("4i")
    return dim, part, file.array("<f4", dim * _CENTROIDS)


def _decode(codes: npt.NDArray[np.uint8], dim: int, part: int, centroids: Float32s) -> Float32s:
    """Return the rows that codes stand for; the last subvector may be shorter than the others."""
    values = np.empty((len(codes), dim), np.float32)
    for number, start in enumerate(range(0, dim, part)):
        stop = min(start + part, dim)
        table = centroids[start * _CENTROIDS : stop * _CENTROIDS].reshape(_CENTROIDS, stop - start)
        values[:, start:stop] = table[codes[:, number]]
    return values
