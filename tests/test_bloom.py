"""The Bloom filter: as often wrong as the theory says, and apart from that what an exact set gives."""

from pathlib import Path

import numpy as np
import pytest

from headrace.filters.analysis.becoming import becoming
from headrace.filters.analysis.bloom import empty_filter, filter_shape, is_in, passages_said_before, put_in
from headrace.filters.kernels import kernel
from headrace.filters.utf8 import Utf8
from tests.test_duplicates import run, words, write
from tests.test_repeats import step, table


@kernel()
def _wrong(known, others, held, places, bits):  # type: ignore[no-untyped-def]
    for ngram in known:
        put_in(ngram, held, places, bits)
    missing = wrong = 0
    for ngram in known:
        missing += not is_in(ngram, held, places, bits)
    for ngram in others:
        wrong += is_in(ngram, held, places, bits)
    return missing, wrong


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_false_positives_are_as_many_as_the_theory_says(rate: float) -> None:
    """Of 200,000 n-grams that are not in it, within four standard deviations of the rate."""
    random, number = np.random.default_rng(1), 200_000
    ngrams = random.integers(0, 1 << 64, 2 * number, dtype=np.uint64)
    bits, places = filter_shape(number, rate)
    missing, wrong = _wrong(ngrams[:number], ngrams[number:], empty_filter(bits), places, bits)
    assert missing == 0
    theory = (1 - np.exp(-places * number / bits)) ** places
    assert abs(theory / rate - 1) < 0.1
    assert abs(wrong - theory * number) < 4 * (theory * number) ** 0.5


def test_passages_are_those_of_an_exact_set() -> None:
    random, n = np.random.default_rng(2), 5
    known = [" ".join(words(random, 30)) for _ in range(20)]
    texts = []
    for _ in range(60):
        pieces = [
            known[int(random.integers(0, 20))] if random.random() < 0.5 else " ".join(words(random, 30))
            for _ in range(4)
        ]
        cut = int(random.integers(0, 30))
        texts.append("\n\n".join([*pieces, " ".join(pieces[0].split()[:cut] + words(random, 30 - cut)), "too short"]))
    utf8, counted = Utf8.of(texts), np.ones(len(texts), dtype=bool)
    counted[7] = False
    bits, places = filter_shape(100_000, 1e-9)
    found, put = passages_said_before(*utf8, counted, 2, n, 0.8, empty_filter(bits), places, bits, *becoming(utf8.data))
    seen, expected, total = set[tuple[str, ...]](), [], 0
    for row, text in enumerate(texts):
        for number, passage in enumerate(text.split("\n\n")):
            own = passage.split()
            ngrams = [tuple(own[i : i + n]) for i in range(len(own) - n + 1)] if row != 7 else []
            if ngrams and sum(gram in seen for gram in ngrams) >= 0.8 * len(ngrams):
                expected.append((row, number))
            else:
                seen.update(ngrams)
                total += len(ngrams)
    assert [(int(one["row"]), int(one["number"])) for one in found] == expected
    assert (int(put), len(expected) > 20) == (total, True)


def test_a_recipe_marks_what_was_said_before(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    shared, own = " ".join(words(random, 40)), [" ".join(words(random, 40)) for _ in range(3)]
    texts = {f"{number}": f"{text}\n\n{shared}" for number, text in enumerate(own)}
    built = run(write(tmp_path / "in", texts), step("bloom", expected=10_000, **{"as": "said"}))
    found = table(built, "said")
    assert [found[name]["num_repeats"] for name in "012"] == [0, 1, 1]
    assert found["1"]["covered"] == [shared]
    assert built.manifests["repeats"].facts["ngrams"] == 4 * 21
