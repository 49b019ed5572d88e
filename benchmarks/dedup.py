"""Is our deduplication fast? `python -m benchmarks.dedup PART [--documents N] [--rounds N] [--json]`, on one core.

Parts:

- `signatures`: MinHash signatures of 112 functions over word 5-grams of texts of 611 words, from strings to signatures.
- `end-to-end`: from documents in Parquet to the survivors in Parquet: signatures, bands, clusters, and the writing.

Ours, datatrove 0.10.1, datasketch 2.0 and rensa 0.5 run in turn on the same texts, in one process that is bound to one
core; figures are medians of rounds, `spread` is the range of the rounds' ratios. Each is used as its users do:
datatrove as its blocks, the others over n-grams of `text.lower().split()`, rensa by its fastest call
(`digest_matrix_...`), which is given the n-grams of all texts at once. Texts are pages of the books at `--books`; a
fifth of them for `end-to-end` are copies of others with up to 40 words changed. What ours compiles, or loads compiled,
is timed apart.
"""

import json
import os
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.datatrove_reference import minhash_step, reference_signature
from benchmarks.made_text import page_texts
from headrace.filters.contract import TextBatch
from headrace.filters.signals.minhash import MinHash
from headrace.pipeline.build import build
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.views import utf8_of
from headrace.pipeline.walk import BuildOptions

BATCH = 512
NUM_PEER = {"datatrove": 40, "datasketch": 200, "rensa": 2000}
REQUIRED = {
    "signatures": {"rensa": 4.0, "datasketch": 25.0, "datatrove": 200.0},
    "end-to-end": {"rensa": 3.0, "datatrove": 150.0},
}
Run = Callable[[Sequence[str]], None]


def grams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[start : start + 5]) for start in range(len(words) - 4)]


def our_signatures(**options: Any) -> Run:
    signal = MinHash(**options)

    def run(texts: Sequence[str]) -> None:
        column = pa.array(texts, pa.string())
        for start in range(0, len(texts), BATCH):
            part = column.slice(start, BATCH)
            signal.measure(TextBatch.from_utf8(*utf8_of(part), [""] * len(part)))

    return run


def datatrove_signatures(texts: Sequence[str]) -> None:
    with TemporaryDirectory() as folder:
        step = minhash_step(Path(folder))
        for text in texts:
            reference_signature(step, text)


def datasketch_signatures(texts: Sequence[str]) -> None:
    from datasketch import MinHash as Sketch

    for text in texts:
        Sketch(num_perm=112).update_batch([gram.encode() for gram in grams(text)])


def rensa_signatures(texts: Sequence[str]) -> None:
    from rensa import RMinHash

    RMinHash.digest_matrix_from_token_sets([grams(text) for text in texts], 112, 1)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


Side = tuple[Callable[[], object], int]


def compare(
    name: str, required: float | None, rounds: int, ours: Side, peer: Side, before: Callable[[], object] = tuple
) -> dict[str, Any]:
    """Return a row: documents a second of ours and of a peer, each given as a run and its number of documents."""
    pairs = []
    for _ in range(rounds):
        before()
        pairs.append((ours[1] / seconds(ours[0]), peer[1] / seconds(peer[0])))
    ratios = [own / other for own, other in pairs]
    return {
        "name": name,
        "ours": round(statistics.median(pair[0] for pair in pairs), 1),
        "peer": round(statistics.median(pair[1] for pair in pairs), 1),
        "unit": "documents/s",
        "ratio": round(statistics.median(ratios), 2),
        "spread": round(max(ratios) - min(ratios), 2),
        "required": required,
    }


def signatures(texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Return the comparisons of signatures: of datatrove's family (the default), and of datasketch's in 32 bits."""
    peers: Mapping[str, Run] = {
        "rensa": rensa_signatures,
        "datasketch": datasketch_signatures,
        "datatrove": datatrove_signatures,
    }
    families = {"": our_signatures(), ", 32 bits": our_signatures(family="datasketch", bits=32)}
    rows = []
    for label, ours in families.items():
        ours(texts[:2])
        for peer, run in peers.items():
            few = texts[: NUM_PEER[peer]]
            run(few[:2])
            sides = (lambda ours=ours: ours(texts), len(texts)), (lambda run=run, few=few: run(few), len(few))
            required = REQUIRED["signatures"][peer] if not label else None
            rows.append(compare(f"signatures{label} / {peer}", required, rounds, *sides))
    return rows


RECIPE = """
name = "dedup"
[[sources]]
name = "pages"
reader = "jsonl"
extractor = "plain"
[[steps]]
kind = "measure"
signals = ["minhash"]
[[steps]]
kind = "minhash"
verify = "VERIFY"
[[steps]]
kind = "cut"
"""


class OurPipeline:
    """Our stages after reading: the store holds the documents, in Parquet, and nothing that was made of them."""

    def __init__(self, texts: Sequence[str], folder: Path, verify: str) -> None:
        self._store, self._folder = folder / "store", folder / "in"
        self._recipe = parse_toml(Recipe, RECIPE.replace("VERIFY", verify), "dedup.toml")
        self._folder.mkdir(parents=True)
        lines = (json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts))
        (self._folder / "pages.jsonl").write_text("\n".join(lines) + "\n")
        self._build()

    def _build(self) -> None:
        options = BuildOptions(globs={"pages": f"{self._folder}/*.jsonl"})
        self.survivors = build(self._recipe, Store.open(self._store), InlineEngine(), options).corpus.rows

    def forget(self) -> None:
        """Remove what was made of the documents."""
        import shutil

        for path in [*self._store.glob("tasks/*"), *self._store.glob("artifacts/*")]:
            if path.name != "read":
                shutil.rmtree(path)

    def run(self) -> None:
        """Make it."""
        self._build()


def rensa_pipeline(path: Path, target: Path) -> int:
    """Read Parquet, sign, find duplicates by LSH, write the rest; return how many are left."""
    from rensa import RMinHash, RMinHashLSH

    table = pq.read_table(path)
    matrix = RMinHash.digest_matrix_from_token_sets([grams(text) for text in table.column("text").to_pylist()], 112, 1)
    lsh = RMinHashLSH(threshold=0.7, num_perm=112, num_bands=14)
    flags = lsh.query_duplicate_flags_matrix_one_shot(matrix)
    left = table.filter(pa.array(~np.array(flags, dtype=bool)))
    pq.write_table(left, target, compression="zstd")
    return left.num_rows


def datatrove_pipeline(path: Path, folder: Path) -> int:
    """Run datatrove's four stages from Parquet to Parquet; return how many documents are left."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    first = minhash_step(folder / "signatures")
    reader = ParquetReader(str(path.parent), glob_pattern=path.name)
    stages: list[tuple[list[Any], int]] = [
        ([reader, first], 1),
        ([MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"))], first.config.num_buckets),
        ([MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"))], 1),
        ([reader, MinhashDedupFilter(str(folder / "remove")), ParquetWriter(str(folder / "out"))], 1),
    ]
    for number, (blocks, tasks) in enumerate(stages):
        LocalPipelineExecutor(blocks, tasks=tasks, workers=1, logging_dir=str(folder / f"logs{number}")).run()
    return sum(pq.read_metadata(part).num_rows for part in (folder / "out").glob("*.parquet"))


def _next(run: Callable[[Path, Path], int], path: Path, targets: Iterator[Path]) -> None:
    run(path, next(targets))


def end_to_end(texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Return the comparisons of whole deduplications."""
    rows = []
    for verify in ("none", "estimate"):
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            ours = OurPipeline(texts, folder / "ours", verify)
            for peer, number, run in (("rensa", len(texts), rensa_pipeline), ("datatrove", 400, datatrove_pipeline)):
                path = folder / peer / "in.parquet"
                path.parent.mkdir()
                pq.write_table(pa.table({"text": texts[:number], "id": list(map(str, range(number)))}), path)
                targets = (folder / peer / f"{attempt}" for attempt in range(rounds))
                sides = (ours.run, len(texts)), (partial(_next, run, path, targets), number)
                required = REQUIRED["end-to-end"][peer]
                rows.append(compare(f"end to end, verify {verify} / {peer}", required, rounds, *sides, ours.forget))
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the comparisons as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.dedup")
    parser.add_argument("part", choices=("signatures", "end-to-end"))
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    if options.part == "signatures":
        rows = signatures(page_texts(options.books, options.documents or 4000), options.rounds)
    else:
        rows = end_to_end(page_texts(options.books, options.documents or 20_000, copies=0.2), options.rounds)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'':44}{'ours, docs/s':>14}{'peer':>10}{'ratio':>9}{'spread':>9}{'required':>10}")
    for row in rows:
        print(
            f"{row['name']:44}{row['ours']:14,.0f}{row['peer']:10,.0f}{row['ratio']:9.1f}{row['spread']:9.1f}"
            f"{row['required'] or '':>10}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
