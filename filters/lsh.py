"""Locality-sensitive hashing of MinHash signatures (Leskovec et al., Mining of Massive Datasets, section 3.4).

A signature is cut into bands; texts that agree in all rows of one band are candidates. With b bands of r rows a pair
of Jaccard similarity s becomes one with probability 1 - (1 - s^r)^b, which rises steeply around (1/b)^(1/r). Clusters
are the connected components of the pairs.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Uint64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]


def stack_signatures(signatures: Sequence[bytes]) -> Uint64s:
    """Return signatures as stored (little-endian uint64 bytes, all of one length) as an array, one a row."""
    if not signatures:
        return np.zeros((0, 0), dtype=np.uint64)
    return np.frombuffer(b"".join(signatures), dtype="<u8").reshape(len(signatures), -1).astype(np.uint64)


def band_keys(signatures: Uint64s, bands: int, rows: int) -> Uint64s:
    """Return one 64-bit key per signature and band, of shape (num_signatures, bands).

    Equal rows have equal keys; different ones share a key with probability 2^-64. The band's number is part of the
    key, so keys of different bands can lie in one table.

    Raises:
        ValueError: a signature does not have bands * rows hashes.
    """
    if signatures.shape[1] != bands * rows:
        raise ValueError(f"{bands} bands of {rows} rows need {bands * rows} hashes, not {signatures.shape[1]}")
    from headrace.filters.analysis.banding import fold_bands

    keys: Uint64s = fold_bands(signatures, bands, rows)
    return keys


def mix(values: Uint64s) -> Uint64s:
    """Return each number with its bits mixed: a bijection of 64 bits, splitmix64's last step."""
    from headrace.filters.analysis.banding import mix_all

    mixed: Uint64s = mix_all(values)
    return mixed


def equal_pairs(keys: Uint64s) -> Int64s:
    """Return pairs (i, j), i < j, of rows that share a key in some column, of shape (num_pairs, 2), sorted.

    Rows of one bucket are chained, each to the next, which connects them with the fewest pairs.
    """
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for column in keys.T:
        order = np.argsort(column, kind="stable")  # rows of equal keys stay in order
        same = np.flatnonzero(column[order[1:]] == column[order[:-1]])
        pairs.append(np.stack([order[same], order[same + 1]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def connected_components(num_nodes: int, pairs: npt.NDArray[np.integer]) -> Int64s:
    """Return for each node the smallest node of its component; `pairs` has shape (num_pairs, 2).

    Roots of differing pairs are hooked onto the smaller root and paths are halved until flat, all at once
    (Shiloach and Vishkin 1982), so the result does not depend on the order of the pairs.
    """
    parents = np.arange(num_nodes, dtype=np.int64)
    left, right = pairs[:, 0], pairs[:, 1]
    while True:
        roots = parents[left], parents[right]
        apart = roots[0] != roots[1]
        if not apart.any():
            return parents
        left, right = left[apart], right[apart]
        low, high = np.minimum(*roots)[apart], np.maximum(*roots)[apart]
        np.minimum.at(parents, high, low)
        while not np.array_equal(parents, grandparents := parents[parents]):
            parents = grandparents


def estimate_jaccard(a: Uint64s, b: Uint64s) -> npt.NDArray[np.float64]:
    """Return the share of equal hashes along the last axis, an unbiased estimate of the sets' Jaccard similarity."""
    return np.asarray(np.equal(a, b).mean(axis=-1), dtype=np.float64)


def match_probability(jaccard: float, bands: int, rows: int) -> float:
    """Return the probability that a pair of this similarity becomes a candidate."""
    return float(1 - (1 - jaccard**rows) ** bands)


def choose_bands(threshold: float, num_permutations: int) -> tuple[int, int]:
    """Return placeholder."""
    raise NotImplementedError
