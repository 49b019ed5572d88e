"""MinHash signatures: against exact arithmetic, two libraries, the reference's text and words, and the theory."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.filters.analysis import minima
from headrace.filters.analysis.simplified import JoinedWords, joined_words, simplified_words
from headrace.filters.analysis.xxhash import xxh32, xxh64
from headrace.filters.contract import TextBatch
from headrace.filters.lsh import estimate_jaccard
from headrace.filters.signals.minhash import (
    MERSENNE_PRIME,
    MinHash,
    affine_permutations,
    permutations,
    simplify_in_pieces,
)
from headrace.filters.utf8 import Utf8

PROSE = "The mill stood above the river, where the old road crossed a bridge of stone; nobody had used it for years. "
ODD = (
    *(
        "",
        "word",
        "one two three four",
        "a b c d e",
        PROSE,
        PROSE * 3,
        "A, b c d-e!",
        "cannot can't 10am 1,234.5 1.2.3",
    ),
    *(
        "ΟΔΟΣ ΣΑΣ, σας " * 3,
        "Ünïcödé ŚŚ — “quoted”… 한국어 텍스트 日本語 " * 2,
        "\u0661\u066c\u0662,3\u060cά。β1.5" * 3,
        "\u0301\u0300 x\x00y\x85z" * 4,
    ),
    *("http://www.example.org/a?b=c d e f g h", "x" * 5000 + "1y " + PROSE, "e\u0301 \u037e ; \u0387 \u1fef K Å Ω" * 2),
)


def words_of(joined: JoinedWords, text: int) -> list[bytes]:
    start, words = int(joined.starts[text]), []
    for end in joined.ends[joined.first[text] : joined.first[text + 1]].tolist():
        words.append(joined.data[start:end].tobytes())
        start = end + 1
    return words


def signed(signal: MinHash, texts: Sequence[str]) -> list[Any]:
    return list(signal.measure(TextBatch(texts, [""] * len(texts)))["signature"])


def compare_words(texts: Sequence[str]) -> int:
    """Return how many texts the kernel did, all of which are as the reference has them."""
    found = simplified_words(Utf8.of(texts))
    expected = joined_words([simplify_in_pieces(text) for text in texts], "english")
    done = [number for number in range(len(texts)) if not found.unsure[number]]
    for number in done:
        assert words_of(found, number) == words_of(expected, number), texts[number]
    return len(done)


def test_words_are_those_of_the_reference() -> None:
    assert compare_words(ODD) >= len(ODD) - 4  # of sigmas, a URL and a long chunk the reference is asked


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_words_of_any_text_are_those_of_the_reference(texts: list[str]) -> None:
    compare_words([text.encode(errors="replace").decode() for text in texts])


@pytest.mark.slow
def test_words_of_many_odd_texts_are_those_of_the_reference() -> None:
    random = np.random.default_rng(1)
    pieces = [
        *" .,;-'\"\u2019“”…—\n\t\u0301\u0660\u066b\u060c٣\u037e½²°$€한日ﬁ\U0001d7ceSİßǅ19",
        *"".join(ODD).split(),
        " ",
        " ",
    ]
    texts = ["".join(random.choice(pieces, random.integers(1, 120))) for _ in range(3000)]
    assert compare_words(texts) > 300


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 8))
def test_hashes_are_those_of_the_library(data: bytes, skipped: int) -> None:
    from xxhash import xxh32_intdigest, xxh64_intdigest

    array, start = np.frombuffer(data, np.uint8), min(skipped, len(data))
    assert int(xxh64(array, start, len(data))) == xxh64_intdigest(data[start:])
    assert int(xxh32(array, start, len(data))) == xxh32_intdigest(data[start:])


def mixed(value: int, bits: int) -> int:
    shifts = {32: (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16), 64: (33, 0xFF51AFD7ED558CCD, 33, 0xC4CEB9FE1A85EC53, 33)}
    a, m, b, n, c = shifts[bits]
    value = ((value ^ (value >> a)) * m) % 2**bits
    value = ((value ^ (value >> b)) * n) % 2**bits
    return value ^ (value >> c)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(0, 40))
def test_minima_are_those_of_exact_arithmetic(shingles: list[int], cut: int) -> None:
    """Two texts, of which one may have no shingle."""
    first = np.array([0, min(cut, len(shingles)), len(shingles)])
    wide = np.array(shingles, np.uint64)
    narrow = wide.astype(np.uint32)
    a, b = permutations(6, seed=1)
    a32, b32 = affine_permutations(6, 1, 32)
    a64, b64 = affine_permutations(6, 1, 64)

    def expected(
        values: NDArray[Any], functions: tuple[NDArray[Any], NDArray[Any]], value: Any, empty: int
    ) -> list[Any]:
        pairs = list(zip(*(array.tolist() for array in functions), strict=True))
        parts = values[: first[1]].tolist(), values[first[1] :].tolist()
        return [[min((value(x, *pair) for x in part), default=empty) for pair in pairs] for part in parts]

    def prime(x: int, a: int, b: int) -> int:
        return (x * a + b) % 2**64 % MERSENNE_PRIME

    assert minima.minima_mersenne(wide, first, a, b).tolist() == expected(wide, (a, b), prime, MERSENNE_PRIME)
    assert minima.minima_mersenne_32(narrow, first, a, b).tolist() == expected(
        narrow, (a, b), lambda x, a, b: prime(x, a, b) % 2**32, 2**32 - 1
    )
    for bits, values, functions, found in (
        (32, narrow, (a32, b32), minima.minima_affine_32),
        (64, wide, (a64, b64), minima.minima_affine_64),
    ):
        exact = expected(values, functions, lambda x, a, b, w=bits: (mixed(x, w) * a + b) % 2**w, 2**bits - 1)
        assert found(values, first, *functions).tolist() == exact


def reference_shingles(text: str, n: int) -> list[str]:
    joined = joined_words([simplify_in_pieces(text)], "english")
    words = [word.decode() for word in words_of(joined, 0)]
    return [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]


@pytest.mark.parametrize("hash_function", ["xxhash", "sha1"])
@pytest.mark.parametrize("bits", [32, 64])
def test_signatures_are_those_of_datasketch(bits: int, hash_function: str) -> None:
    datasketch = pytest.importorskip("datasketch")
    from datasketch.hashfunc import sha1_hash32, sha1_hash64
    from xxhash import xxh32_intdigest, xxh64_intdigest

    own = {"xxhash": (xxh32_intdigest, xxh64_intdigest), "sha1": (sha1_hash32, sha1_hash64)}[hash_function][bits == 64]
    signal = MinHash(family="datasketch", bits=bits, hash_function=hash_function, n_grams=3, seed=9)  # type: ignore[arg-type]
    for text, found in zip(ODD, signed(signal, ODD), strict=True):
        sketch = datasketch.MinHash(num_perm=112, seed=9, hashfunc=own, scheme=f"affine{bits}")
        sketch.update_batch([shingle.encode() for shingle in reference_shingles(text, 3)])
        expected = sketch.hashvalues.astype(f"<u{bits // 8}").tobytes() if not sketch.is_empty() else None
        assert found == expected, text


@pytest.mark.parametrize("hash_function", ["xxhash", "sha1"])
@pytest.mark.parametrize("bits", [32, 64])
def test_signatures_are_those_of_datatrove(bits: int, hash_function: str, tmp_path: Path) -> None:
    dedup = pytest.importorskip("datatrove.pipeline.dedup")
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig
    from xxhash import xxh32_intdigest, xxh64_intdigest

    config = MinhashConfig(hash_config=HashConfig(precision=bits, hash_fc=hash_function))  # type: ignore[arg-type]
    step = dedup.MinhashDedupSignature(output_folder=str(tmp_path), config=config)
    if hash_function == "xxhash":  # xxhash 4 refuses str, which version 3 encoded so
        digest = xxh32_intdigest if bits == 32 else xxh64_intdigest
        step._hash_func = lambda shingle: digest(shingle.encode())
    found = signed(MinHash(bits=bits, hash_function=hash_function), ODD)  # type: ignore[arg-type]
    for text, signature in zip(ODD, found, strict=True):
        shingles = step.get_shingles(text)
        if not shingles.size:
            assert signature is None, text
            continue
        hashes = [value for bucket in step.get_signature(shingles) for value in bucket]
        assert np.frombuffer(signature, f"<u{bits // 8}").tolist() == hashes, text


def test_signatures_stand_for_the_set_of_n_grams() -> None:
    values = MinHash().measure(TextBatch(["a b c d", "A, b c d-e!", "a b c d e", PROSE, PROSE * 2], [""] * 5))
    assert values["signature"][0] is values["content"][0] is None
    assert values["signature"][1] == values["signature"][2]
    assert values["content"][1] == values["content"][2] != values["content"][3]
    assert len(values["signature"][3]) == 112 * 8
    assert len(values["content"][3]) == 16
    small = MinHash(n_grams=1, num_buckets=2, hashes_per_bucket=3, seed=7)
    (one,) = signed(small, ["word"])
    assert len(one) == 6 * 8
    assert signed(small, ["one two two"]) == signed(small, ["two one"])


def test_shingles_of_characters_run_over_words_and_code_points() -> None:
    signal = MinHash(shingles="characters", n_grams=3)
    sets, first = signal.shingle_sets(TextBatch(["Ab, c日", "ab", "abc abc", ""], [""] * 4))
    assert np.diff(first).tolist() == [3, 0, 5 - 1, 0]  # "ab ", "b c", " c日"; none; "abc", "bc ", "c a", " ab"
    assert len(np.intersect1d(sets[first[0] : first[1]], sets[first[2] : first[3]])) == 0
    assert signed(signal, ["abc abc"]) == signed(signal, ["ABC; abc abc"])


def test_sets_of_shingles_are_distinct_and_ascending() -> None:
    sets, first = MinHash().shingle_sets(TextBatch([PROSE * 2, "", "ΟΔΟΣ ΟΔΟΣ " * 4], [""] * 3))
    for start, end in pairwise(first):
        assert (np.diff(sets[start:end].astype(object)) > 0).all()
    assert first[1] == len(set(reference_shingles(PROSE * 2, 5)))
    assert first[3] - first[2] == len(set(reference_shingles("ΟΔΟΣ ΟΔΟΣ " * 4, 5)))


@pytest.mark.parametrize("family", ["datatrove", "datasketch"])
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("jaccard", [0.2, 0.5, 0.8])
def test_the_estimate_has_no_bias_and_the_variance_of_a_binomial(family: str, bits: int, jaccard: float) -> None:
    """Of k independent functions; over 400 pairs the mean lies within 4 standard errors, the variance within 25 %."""
    random, pairs, size = np.random.default_rng(5), 400, 300
    shared = round(2 * size * jaccard / (1 + jaccard))
    true = shared / (2 * size - shared)
    signal = MinHash(family=family, bits=bits)  # type: ignore[arg-type]
    estimates = []
    for _ in range(pairs):
        shingles = random.integers(0, 1 << bits, 2 * size - shared, dtype=np.uint64).astype(f"<u{bits // 8}")
        both = np.concatenate([shingles[:size], shingles[size - shared :]])
        left, right = signal._minima(both, np.array([0, size, len(both)]))
        estimates.append(float(estimate_jaccard(left, right)))
    variance = true * (1 - true) / signal.num_hashes
    assert abs(np.mean(estimates) - true) < 4 * (variance / pairs) ** 0.5
    assert 0.75 < np.var(estimates) / variance < 1.25


def test_options_that_make_no_signature_are_refused() -> None:
    for wrong in ({"n_grams": 0}, {"num_buckets": 0}, {"hashes_per_bucket": -1}, {"seed": -1}, {"seed": 1 << 32}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MinHash(**wrong)


def near_copies(number: int) -> list[str]:
    """Return texts in pairs, the second with some words changed, from nearly none to most."""
    from tests.test_duplicates import edited, words

    random, texts = np.random.default_rng(11), []
    for _ in range(number):
        base = words(random, 120)
        texts += [" ".join(base), " ".join(edited(random, base, int(30 * random.random() ** 2)))]
    return texts


@pytest.mark.parametrize("shape", [(14, 8), (28, 4)])
def test_pairs_share_a_band_as_often_as_theory_says(shape: tuple[int, int]) -> None:
    """In every bin of true similarity within four standard deviations of 1 - (1 - s^r)^b."""
    from headrace.filters.lsh import band_keys, match_probability

    signal, texts = MinHash(), near_copies(1500)
    batch = TextBatch(texts, [""] * len(texts))
    sets, first = signal.shingle_sets(batch)
    own = [set(sets[start:end].tolist()) for start, end in pairwise(first)]
    truth = np.array([len(a & b) / len(a | b) for a, b in zip(own[::2], own[1::2], strict=True)])
    signatures = np.array([np.frombuffer(one, "<u8") for one in signal.measure(batch)["signature"]])
    keys = band_keys(signatures, *shape)
    found, expected = (keys[::2] == keys[1::2]).any(axis=1), match_probability(truth, *shape)
    for low in np.arange(0, 1, 0.1):
        mine = (truth >= low) & (truth < low + 0.1)
        deviation = float((expected[mine] * (1 - expected[mine])).sum()) ** 0.5
        assert abs(found[mine].sum() - expected[mine].sum()) <= max(4 * deviation, 1), low


def test_buckets_are_those_of_datasketch() -> None:
    """The pairs that share a bucket are those that a query of its LSH returns, on the same signatures and bands."""
    datasketch = pytest.importorskip("datasketch")
    from headrace.pipeline.dedup.buckets import Buckets
    from headrace.pipeline.dedup.entries import make_entries

    texts = near_copies(150)
    signatures = np.array(
        [np.frombuffer(one, "<u4") for one in signed(MinHash(family="datasketch", bits=32), texts)], np.uint32
    )
    lsh = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    sketches = [datasketch.MinHash(num_perm=112, hashvalues=row, scheme="affine32") for row in signatures]
    for number, sketch in enumerate(sketches):
        lsh.insert(number, sketch)
    expected = {(number, other) for number, one in enumerate(sketches) for other in lsh.query(one) if other > number}
    entries = make_entries(signatures, np.arange(len(texts), dtype=np.uint32), None, (14, 8))
    found = Buckets.find([(entries, np.ones(len(texts), dtype=bool))])
    pairs, start = set(), 0
    for size in found.sizes.tolist():
        members = found.members[start : start + size].tolist()
        pairs |= {(a, b) for place, a in enumerate(members) for b in members[place + 1 :]}
        start += size
    assert pairs == expected
    assert len(pairs) > 30
