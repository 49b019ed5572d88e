"""Does MinHash find what it should? `python -m benchmarks.dedup_curves [--pictures FOLDER] [--json]`.

Real pages are compared with brute force: the true Jaccard similarity of the word 5-grams of

- every page of a crawl with every other (`--crawl`, web archives),
- 20,000 pairs: pages of books (`--books`) and copies in which some words became others, from nearly none to most,
- every one of 20,000 such pages and copies with every other.

By similarity, in bins, it is told how many pairs share a band, and what 1 - (1 - s^r)^b gives, for 112 functions cut in
several ways; and how far the estimate is from the truth. `--pictures` draws both as SVG.
"""

import json
import math
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.filter_parity import extract_texts
from benchmarks.made_text import WORDS, book_words
from headrace.filters.contract import TextBatch
from headrace.filters.lsh import band_keys, match_probability
from headrace.filters.signals.minhash import MinHash

SHAPES = ((28, 4), (14, 8), (8, 14))
NUM_PAIRS, BATCH, BINS = 20_000, 512, np.linspace(0, 1, 21)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signed:
    """Texts as sets of shingles and as signatures; those without shingles are left out."""

    sets: list[npt.NDArray[np.uint64]]
    signatures: npt.NDArray[np.uint64]


def sign(texts: Sequence[str]) -> Signed:
    signal, sets, signatures = MinHash(), [], []
    for start in range(0, len(texts), BATCH):
        batch = TextBatch(texts[start : start + BATCH], [""] * len(texts[start : start + BATCH]))
        shingles, first = signal.shingle_sets(batch)
        for number, signature in enumerate(signal.measure(batch)["signature"]):
            if signature is not None:
                sets.append(shingles[first[number] : first[number + 1]])
                signatures.append(np.frombuffer(signature, "<u8"))
    return Signed(sets, np.array(signatures))


def jaccard(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def planted_pairs(books: str, num_pairs: int = NUM_PAIRS) -> tuple[Signed, npt.NDArray[np.int64]]:
    """Return pages and copies, and which are pairs."""
    words, random = book_words(books), np.random.default_rng(1)
    texts: list[str] = []
    for _ in range(num_pairs):
        start = int(random.integers(0, len(words) - WORDS))
        page = words[start : start + WORDS]
        copy = list(page)
        for place in random.choice(WORDS, int(WORDS * random.random() ** 2 * 0.25), replace=False):
            copy[place] = words[int(random.integers(0, len(words)))]
        texts += [" ".join(page), " ".join(copy)]
    signed = sign(texts)
    return signed, np.arange(2 * num_pairs).reshape(-1, 2)


def close_pairs(signed: Signed, least: float = 0.05) -> npt.NDArray[np.int64]:
    """Return all pairs of at least that similarity, found by counting the shingles that every two texts share."""
    owners = np.repeat(np.arange(len(signed.sets)), [len(shingles) for shingles in signed.sets])
    shingles = np.concatenate(signed.sets)
    order = np.lexsort((owners, shingles))
    owners, shingles = owners[order], shingles[order]
    starts = np.flatnonzero(np.append(True, shingles[1:] != shingles[:-1]))
    sizes = np.diff(np.append(starts, len(shingles)))
    keys = [np.zeros(0, np.int64)]
    for size in np.unique(sizes[sizes > 1]).tolist():
        groups = owners[starts[sizes == size][:, np.newaxis] + np.arange(size)]
        one, other = np.triu_indices(size, 1)
        keys.append((groups[:, one] * len(signed.sets) + groups[:, other]).ravel())
    pairs, shared = np.unique(np.concatenate(keys), return_counts=True)
    lengths = np.array([len(shingles) for shingles in signed.sets])
    left, right = np.divmod(pairs, len(signed.sets))
    close = shared / (lengths[left] + lengths[right] - shared) >= least
    return np.stack([left[close], right[close]], axis=1)


@dataclass(frozen=True)
class Compared:
    """Pairs: their true similarity, their estimate, and by shape whether they share a band."""

    truth: Floats
    estimate: Floats
    found: dict[tuple[int, int], npt.NDArray[np.bool_]]

    @classmethod
    def of(cls, signed: Signed, pairs: npt.NDArray[np.int64]) -> "Compared":
        """Compare pairs of texts."""
        left, right = signed.signatures[pairs[:, 0]], signed.signatures[pairs[:, 1]]
        truth = np.array([jaccard(signed.sets[a], signed.sets[b]) for a, b in pairs.tolist()])
        found = {shape: (band_keys(left, *shape) == band_keys(right, *shape)).any(axis=1) for shape in SHAPES}
        return cls(truth, np.equal(left, right).mean(axis=1), found)

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield a row for each shape and bin: pairs, candidates among them, theory, standard deviations from it."""
        for shape, found in self.found.items():
            expected = match_probability(self.truth, *shape)
            for low, high in pairwise(BINS.tolist()):
                mine = (self.truth >= low) & ((self.truth < high) | (high == 1))
                if mine.sum() >= 20:
                    spread = math.sqrt(float((expected[mine] * (1 - expected[mine])).sum()))
                    off = float(found[mine].sum() - expected[mine].sum())
                    yield {
                        "texts": name,
                        "bands": shape[0],
                        "rows": shape[1],
                        "jaccard": round(float(self.truth[mine].mean()), 3),
                        "pairs": int(mine.sum()),
                        "found": round(float(found[mine].mean()), 4),
                        "theory": round(float(expected[mine].mean()), 4),
                        "deviations": round(off / spread, 2) if spread > 1e-9 else 0.0,
                    }

    def estimates(self) -> dict[str, float]:
        """Return how far estimates are from the truth: mean and, in units of the binomial's, standard deviation."""
        inner = (self.truth > 0.02) & (self.truth < 0.98)
        error = (self.estimate - self.truth)[inner]
        scaled = error / np.sqrt(self.truth[inner] * (1 - self.truth[inner]) / 112)
        return {"bias": round(float(error.mean()), 5), "scaled_deviation": round(float(scaled.std()), 3)}


def draw(rows: Sequence[dict[str, Any]], compared: Compared, folder: Path) -> None:
    """Draw the curves and the estimates."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "headrace", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    grid = np.linspace(0, 1, 200)
    for number, shape in enumerate(SHAPES):
        axes.plot(grid, match_probability(grid, *shape), color=f"C{number}", label=f"{shape[0]} bands of {shape[1]}")
        mine = [row for row in rows if (row["bands"], row["rows"]) == shape]
        share, pairs = np.array([row["found"] for row in mine]), np.array([row["pairs"] for row in mine])
        error = 1.96 * np.sqrt(np.maximum(share * (1 - share), 1 / pairs) / pairs)
        axes.errorbar([row["jaccard"] for row in mine], share, error, fmt="o", ms=3, color=f"C{number}")
    axes.set(xlabel="Jaccard similarity of word 5-grams", ylabel="pairs that share a band", title="Measured and theory")
    axes.legend()
    _save(figure, folder / "minhash-recall.svg")
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    some = np.random.default_rng(1).choice(len(compared.truth), min(1500, len(compared.truth)), replace=False)
    axes.plot(compared.truth[some], compared.estimate[some] - compared.truth[some], ".", ms=1.5, alpha=0.5)
    for sign_ in (-2, 2):
        axes.plot(grid, sign_ * np.sqrt(grid * (1 - grid) / 112), color="C1", lw=1)
    axes.set(xlabel="Jaccard similarity", ylabel="estimate - similarity", title="112 hashes; two standard deviations")
    _save(figure, folder / "minhash-estimate.svg")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    """Print the rows."""
    parser = ArgumentParser(prog="python -m benchmarks.dedup_curves")
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--crawl", default="../shared/data/crawl/pages-*.warc.gz")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    pages = sign([text for path in sorted(glob(options.crawl)) for text in extract_texts(Path(path))])
    real = Compared.of(pages, close_pairs(pages))
    planted = Compared.of(*planted_pairs(options.books))
    books, _ = planted_pairs(options.books, NUM_PAIRS // 2)
    every = Compared.of(books, close_pairs(books))
    rows = [*real.rows("crawl"), *planted.rows("planted"), *every.rows("books, all pairs")]
    if options.pictures:
        draw(list(planted.rows("planted")), planted, options.pictures)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"crawl: {len(pages.sets)} pages, {len(real.truth)} pairs of 0.05 or more; estimates {real.estimates()}")
    told = f"{len(books.sets)} pages, {len(every.truth)} pairs of 0.05 or more"
    print(f"books: {told}; estimates {every.estimates()}")
    print(f"planted: {len(planted.truth)} pairs; estimates {planted.estimates()}")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
