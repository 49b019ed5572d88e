"""Locality-sensitive hashing of MinHash signatures (Leskovec et al., Mining of Massive Datasets, section 3.4).

A signature is cut into bands; texts that agree in all rows of one band are candidates. With b bands of r rows a pair
of Jaccard similarity s becomes one with probability 1 - (1 - s^r)^b, which rises steeply around (1/b)^(1/r).
"""

import numpy as np
import numpy.typing as npt

Uint64s = npt.NDArray[np.uint64]
Float64s = npt.NDArray[np.float64]

_NUM_POINTS = 200


def band_keys(signatures: Uint64s, bands: int, rows: int) -> Uint64s:
    """Return one 64-bit key per signature and band, of shape (num_signatures, bands).

    Hashes beyond the first bands * rows are in no band: those that a threshold chooses need not use all of them.

    Equal rows have equal keys; different ones share a key with probability 2^-64. The band's number is part of the
    key, so keys of different bands can lie in one table.

    Raises:
        ValueError: a signature has fewer than bands * rows hashes.
    """
    if signatures.shape[1] < bands * rows:
        raise ValueError(f"{bands} bands of {rows} rows need {bands * rows} hashes, not {signatures.shape[1]}")
    from headrace.filters.analysis.banding import fold_bands

    keys: Uint64s = fold_bands(signatures, bands, rows)
    return keys


def mix(values: Uint64s) -> Uint64s:
    """Return each number with its bits mixed: a bijection of 64 bits, splitmix64's last step."""
    from headrace.filters.analysis.banding import mix_all

    mixed: Uint64s = mix_all(values)
    return mixed


def estimate_jaccard(a: Uint64s, b: Uint64s) -> npt.NDArray[np.float64]:
    """Return the share of equal hashes along the last axis, an unbiased estimate of the sets' Jaccard similarity."""
    return np.asarray(np.equal(a, b).mean(axis=-1), dtype=np.float64)


def choose_bands(
    threshold: float, num_hashes: int, false_positive_weight: float = 0.5, false_negative_weight: float = 0.5
) -> tuple[int, int]:
    """Return bands and rows whose curve is steepest about a threshold, as datasketch 2.0 chooses them.

    Of all that need at most `num_hashes` hashes they have the smallest weighted sum of the two areas that are wrong: of
    candidates below the threshold, and of what is no candidate above it.
    """

    low, high = _quadrature(0, threshold), _quadrature(threshold, 1)
    shapes = [(bands, rows) for bands in range(1, num_hashes + 1) for rows in range(1, num_hashes // bands + 1)]

    def error(shape: tuple[int, int]) -> float:
        found = [match_probability(points, *shape) for points, _ in (low, high)]
        false_positives, false_negatives = float(found[0] @ low[1]), float((1 - found[1]) @ high[1])
        return false_positive_weight * false_positives + false_negative_weight * false_negatives

    return min(shapes, key=error)


def nearest_shapes(bands: int, num_hashes: int, number: int = 3) -> list[tuple[int, int]]:
    """Return bands and rows that use all hashes of a signature, those with the nearest number of bands first."""
    shapes = [(count, num_hashes // count) for count in range(1, num_hashes + 1) if num_hashes % count == 0]
    return sorted(shapes, key=lambda shape: (abs(shape[0] - bands), shape[0]))[:number]


def _quadrature(start: float, end: float) -> tuple[Float64s, Float64s]:
    """Return points and weights of Gauss and Legendre's rule for an integral."""
    points, weights = np.polynomial.legendre.leggauss(_NUM_POINTS)
    half = (end - start) / 2
    return start + half * (points + 1), half * weights


def match_probability(jaccard: Float64s, bands: int, rows: int) -> Float64s:
    """Return the probability that a pair of this similarity becomes a candidate."""
    found: Float64s = 1 - (1 - jaccard**rows) ** bands
    return found
