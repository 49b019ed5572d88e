"""How fast are repeated substrings found? `python -m benchmarks.substrings [--million-words N] [--workers N] [--json]`.

Documents of about 500 words are made of random words of real books, so that nothing repeats by chance, and one in five
holds a run of 50 to 200 words that another document has too. From the stored documents on, the recipe hashes all
windows of 50 words, sorts them in ranges and marks what occurs again. Reported are the words a second on the clock, the
largest resident memory of any process, and how many windows were planted and how many marked; the two differ by chance
alone, where a run is planted across another one, or a source is chosen twice and overlaps itself.
"""

import json
import resource
import shutil
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.made_text import book_words
from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.walk import BuildOptions

WORDS, PER_FILE, WINDOW = 500, 40_000, 50
READ = """
name = "substrings"
[[sources]]
name = "made"
reader = "jsonl"
extractor = "plain"
"""
STEP = '[[steps]]\nkind = "substrings"\n'
CUT = '[[steps]]\nkind = "cut"\n[sharding]\ntask_mebibytes = 64\n'


def make_documents(vocabulary: Sequence[str], million_words: int, folder: Path) -> None:
    """Write documents as JSON lines; `planted` says where a run stands that an earlier document has, as words."""
    random, known = np.random.default_rng(1), np.array(vocabulary)
    folder.mkdir(parents=True)
    earlier: list[list[str]] = []
    number = million_words * 1_000_000 // WORDS
    for first in range(0, number, PER_FILE):
        with (folder / f"{first // PER_FILE:05d}.jsonl").open("w") as file:
            for name in range(first, min(number, first + PER_FILE)):
                words = known[random.integers(0, len(known), WORDS)].tolist()
                planted = [0, 0]
                if earlier and random.random() < 0.2:
                    source, length = earlier[int(random.integers(0, len(earlier)))], int(random.integers(50, 201))
                    start, place = (int(random.integers(0, WORDS - length)) for _ in range(2))
                    words[place : place + length] = source[start : start + length]
                    planted = [place, place + length]
                if len(earlier) < 20_000:
                    earlier.append(words)
                file.write(json.dumps({"id": f"{name}-{planted[0]}-{planted[1]}", "text": " ".join(words)}) + "\n")


def judge(built: Built) -> dict[str, float]:
    """Return how many windows were planted, and how many are marked."""
    documents, marked = built.manifests["documents"], built.manifests["signals:substrings"]
    planted = found = 0
    for part in range(len(documents.parts)):
        metadata = pq.read_table(built.store.part_path(documents, part), columns=["metadata"]).column(0).to_pylist()
        rows = (
            pq.read_table(built.store.part_path(marked, part), columns=["substrings.num_repeats"]).column(0).to_pylist()
        )
        for text, windows in zip(metadata, rows, strict=True):
            _, start, end = json.loads(text)["id"].split("-")
            planted += max(0, int(end) - int(start) - WINDOW + 1)
            found += windows
    return {"planted_windows": planted, "marked_windows": found}


def measure(million_words: int, workers: int, books: str, folder: Path) -> dict[str, Any]:
    vocabulary = sorted({word for word in book_words(books) if word.isalpha()})
    make_documents(vocabulary, million_words, folder / "in")
    options = BuildOptions(globs={"made": f"{folder}/in/*.jsonl"})
    store = Store.open(folder / "store")
    build(parse_toml(Recipe, READ + CUT, "read.toml"), store, make_engine(workers), options)
    start = time.perf_counter()
    built = build(parse_toml(Recipe, READ + STEP + CUT, "substrings.toml"), store, make_engine(workers), options)
    seconds = time.perf_counter() - start
    peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "million_words": million_words,
        "seconds": round(seconds, 1),
        "words_a_second": round(million_words * 1e6 / seconds),
        "peak_mebibytes": {"driver": peaks[0], "worker": peaks[1]},
        **judge(built),
    }


def main(arguments: Sequence[str]) -> None:
    """Print the report."""
    parser = ArgumentParser(prog="python -m benchmarks.substrings")
    parser.add_argument("--million-words", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/headrace-substrings"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    report = measure(options.million_words, options.workers, options.books, options.folder)
    shutil.rmtree(options.folder)
    print(json.dumps([report] if options.json else report, indent=None if options.json else 1))


if __name__ == "__main__":
    main(sys.argv[1:])
