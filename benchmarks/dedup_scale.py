"""Does deduplication scale? `python -m benchmarks.dedup_scale [--sizes N,N] [--workers N] [--folder F] [--json]`.

Documents of about 100 words are recombined from sentences of real books (`--books`). One in ten has 1 to 7 copies with
0 to 7 words changed. Which are copies of which is known, and so is how similar they are: the Jaccard similarity of
their word 5-grams. The recipe reads JSON lines, measures signatures, removes near-duplicates (verified by the estimate,
at 0.7) and writes the corpus. Reported are the clock's seconds of each step, the largest resident memory of any
process, and

- precision: of the removed documents, those whose family has a survivor that resembles them by 0.6 or more,
- recall: of the copies that resemble a preferred member of their family by 0.8 or more, those that are gone.

The margins about the threshold are the estimate's: of 112 hashes it is off by 0.04 (one standard deviation).
"""

import json
import resource
import shutil
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.made_text import book_sentences
from headrace.pipeline.artifacts import Progress
from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.walk import BuildOptions

PER_FILE = 200_000
RECIPE = """
name = "scale"
[[sources]]
name = "made"
reader = "jsonl"
extractor = "plain"
[[steps]]
kind = "measure"
signals = ["minhash"]
[[steps]]
kind = "minhash"
similarity = 0.7
[[steps]]
kind = "cut"
[sharding]
task_mebibytes = 64
"""
MOST_COPIES, MOST_CHANGES, SENTENCES = 7, 7, 6
LOW, HIGH = 0.6, 0.8


def make_documents(sentences: Sequence[str], number: int, folder: Path) -> None:
    """Write documents as JSON lines, a family beside each other; the id is `family-member`."""
    random = np.random.default_rng(1)
    vocabulary = sorted({word for sentence in sentences[:20_000] for word in sentence.split()})
    folder.mkdir(parents=True)
    family, made = 0, 0
    while made < number:
        with (folder / f"{made // PER_FILE:05d}.jsonl").open("w") as file:
            end = min(number, made + PER_FILE)
            while made < end:
                for member, text in enumerate(_family(sentences, vocabulary, random)):
                    file.write(json.dumps({"id": f"{family}-{member}", "text": text}) + "\n")
                    made += 1
                family += 1


def _family(sentences: Sequence[str], vocabulary: Sequence[str], random: np.random.Generator) -> Iterator[str]:
    words = " ".join(sentences[place] for place in random.integers(0, len(sentences), SENTENCES)).split()
    yield " ".join(words)
    for _ in range(int(random.integers(1, MOST_COPIES + 1)) if random.random() < 0.1 else 0):
        copy = list(words)
        for _ in range(int(random.integers(0, MOST_CHANGES + 1))):
            copy[int(random.integers(0, len(copy)))] = vocabulary[int(random.integers(0, len(vocabulary)))]
        yield " ".join(copy)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def judge(built: Built) -> dict[str, float]:
    """Return precision and recall by the planted truth."""
    families: dict[str, list[tuple[str, str, bool]]] = {}
    documents, verdicts = built.manifests["documents"], built.manifests["verdicts"]
    for part in range(len(documents.parts)):
        rows = pq.read_table(built.store.part_path(documents, part), columns=["doc_id", "text", "metadata"])
        kept = pq.read_table(built.store.part_path(verdicts, part), columns=["kept"]).column("kept").to_pylist()
        for doc_id, text, metadata, flag in zip(*(column.to_pylist() for column in rows.columns), kept, strict=True):
            name = json.loads(metadata)["id"].partition("-")[0]
            families.setdefault(name, []).append((doc_id, text, bool(flag)))
    right = removed = found = expected = 0
    for members in families.values():
        if len(members) == 1:
            removed += not members[0][2]
            continue
        sets = [(doc_id, shingles(text), kept) for doc_id, text, kept in sorted(members)]
        for place, (_, own, kept) in enumerate(sets):
            others = [(jaccard(own, other), survives) for n, (_, other, survives) in enumerate(sets) if n != place]
            removed += not kept
            right += not kept and any(survives and score >= LOW for score, survives in others)
            close = [score >= HIGH for score, _ in others[:place]]
            expected += any(close)
            found += any(close) and not kept
    return {"precision": right / max(1, removed), "recall": found / max(1, expected), "removed": removed}


def measure(sentences: Sequence[str], number: int, folder: Path, workers: int) -> dict[str, Any]:
    """Return what one size took."""
    make_documents(sentences, number, folder / "in")
    num_bytes = sum(path.stat().st_size for path in (folder / "in").iterdir())
    marks: list[tuple[str, float]] = []

    def watch(progress: Progress) -> None:
        if not marks or marks[-1][0] != progress.label:
            marks.append((progress.label, time.perf_counter()))

    start = time.perf_counter()
    options = BuildOptions(globs={"made": f"{folder}/in/*.jsonl"})
    recipe = parse_toml(Recipe, RECIPE, "scale.toml")
    built = build(recipe, Store.open(folder / "store"), make_engine(workers), options, watch=watch)
    end = time.perf_counter()
    pairs = zip(marks, [*marks[1:], ("", end)], strict=True)
    steps = {label: round(after - begun, 1) for (label, begun), (_, after) in pairs}
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    deduplication = sum(seconds for label, seconds in steps.items() if label.startswith(("measure", "minhash")))
    return {
        "documents": number,
        "bytes": num_bytes,
        "seconds": round(end - start, 1),
        "deduplication_seconds": round(deduplication, 1),
        "gigabytes_per_core_hour": round(num_bytes / 1e9 / (deduplication * workers / 3600), 1),
        "peak_mebibytes": {"driver": round(peaks[0]), "worker": round(peaks[1])},
        "steps": steps,
        **judge(built),
    }


def main(arguments: Sequence[str]) -> None:
    """Print a report for each size."""
    parser = ArgumentParser(prog="python -m benchmarks.dedup_scale")
    parser.add_argument("--sizes", default="50000,500000,5000000")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/headrace-dedup-scale"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    sentences = book_sentences(options.books)
    reports = []
    for number in map(int, options.sizes.split(",")):
        folder = options.folder / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        reports.append(measure(sentences, number, folder, options.workers))
        if not options.json:
            print(json.dumps(reports[-1], indent=1), flush=True)
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(reports))


if __name__ == "__main__":
    main(sys.argv[1:])
