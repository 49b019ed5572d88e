"""Bands, pairs, clusters and estimates over MinHash signatures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.lsh import (
    band_keys,
    connected_components,
    equal_pairs,
    estimate_jaccard,
    match_probability,
    stack_signatures,
)


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


def test_a_wrong_number_of_hashes_is_refused() -> None:
    with pytest.raises(ValueError, match="need 112 hashes, not 6"):
        band_keys(signatures(1, 2, 6, 9), bands=14, rows=8)


def test_stored_signatures_are_little_endian() -> None:
    made = signatures(2, 5, 4, 1 << 60)
    assert np.array_equal(stack_signatures([row.astype("<u8").tobytes() for row in made]), made)
    assert stack_signatures([]).shape == (0, 0)


def test_pairs_connect_what_shares_a_bucket() -> None:
    keys = np.array([[1, 9], [2, 8], [1, 7], [1, 8], [3, 6]], dtype=np.uint64)
    assert equal_pairs(keys).tolist() == [[0, 2], [1, 3], [2, 3]]


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_components_are_those_of_a_walk(num_nodes: int, data: st.DataObject) -> None:
    node = st.integers(0, num_nodes - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=40))
    expected = list(range(num_nodes))
    for _ in range(num_nodes):
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    found = connected_components(num_nodes, np.array(pairs, dtype=np.int64).reshape(-1, 2))
    assert found.tolist() == expected


def test_a_long_chain_is_one_component() -> None:
    order = np.random.default_rng(3).permutation(20_000)
    assert not connected_components(20_000, np.stack([order[:-1], order[1:]], axis=1)).any()


def test_the_estimate_is_the_share_of_equal_hashes() -> None:
    a = np.array([[1, 2, 3, 4], [1, 2, 3, 4]], dtype=np.uint64)
    b = np.array([[1, 2, 9, 4], [5, 6, 7, 8]], dtype=np.uint64)
    assert estimate_jaccard(a, b).tolist() == [0.75, 0.0]
    assert float(estimate_jaccard(a[0], b[0])) == 0.75


def test_the_curve_of_fineweb() -> None:
    assert match_probability(0.8, bands=14, rows=8) == pytest.approx(0.924, abs=5e-4)
    assert match_probability(0.0, bands=14, rows=8) == 0.0
