"""Bands, their parameters, and estimates over MinHash signatures."""

import numpy as np
import pytest

from headrace.filters.lsh import band_keys, choose_bands, estimate_jaccard, match_probability


def signatures(seed: int, num: int, length: int, values: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, values, (num, length), dtype=np.uint64)


def test_keys_are_equal_where_all_rows_of_a_band_are() -> None:
    made = signatures(1, 300, 6, 3)
    keys = band_keys(made, bands=3, rows=2)
    assert keys.shape == (300, 3)
    bands = made.reshape(300, 3, 2)
    same_rows = (bands[:, None] == bands[None]).all(axis=-1)
    assert np.array_equal(keys[:, None] == keys[None], same_rows)
    assert len(np.intersect1d(keys[:, 0], keys[:, 1])) == 0


def test_keys_do_not_change_between_versions() -> None:
    keys = band_keys(np.arange(4, dtype=np.uint64).reshape(1, 4), bands=2, rows=2)
    assert keys.tolist() == [[4764156602392020899, 8952801392542201019]]


def test_hashes_beyond_the_bands_are_in_no_key() -> None:
    made = signatures(1, 20, 7, 3)
    assert np.array_equal(band_keys(made, bands=3, rows=2), band_keys(made[:, :6], bands=3, rows=2))


def test_a_wrong_number_of_hashes_is_refused() -> None:
    with pytest.raises(ValueError, match="need 112 hashes, not 6"):
        band_keys(signatures(1, 2, 6, 9), bands=14, rows=8)


@pytest.mark.parametrize("num_hashes", [2, 16, 112, 128])
def test_bands_are_chosen_as_datasketch_does(num_hashes: int) -> None:
    lsh = pytest.importorskip("datasketch.lsh")
    for threshold in (0.1, 0.35, 0.5, 0.7, 0.8, 0.95):
        for weights in ((0.5, 0.5), (0.2, 0.8)):
            expected = lsh._optimal_param(threshold, num_hashes, *weights)
            assert choose_bands(threshold, num_hashes, *weights) == expected, (threshold, weights)


def test_the_curve_is_steepest_where_it_should_be() -> None:
    low, high = match_probability(np.array([0.5, 0.9]), bands=14, rows=8)
    assert low < 0.06
    assert high > 0.999


def test_estimates_are_shares_of_equal_hashes() -> None:
    a, b = np.array([[1, 2, 3, 4], [1, 2, 3, 4]], np.uint64), np.array([[1, 2, 3, 4], [4, 3, 2, 4]], np.uint64)
    assert estimate_jaccard(a, b).tolist() == [1.0, 0.25]
