"""Are our signals fast? `python -m benchmarks.signals WARC.gz [--documents N] [--rounds N] [--json]`.

Texts of about 5 KB, made of a crawl's pages as extracted, go through datatrove 0.10.1's quality filters and through
our signals in turn, on one core and in one process. Each round times both on the same texts; figures are medians of
rounds, `spread` is the range of the rounds' ratios. Ours is timed from Arrow columns to Arrow columns, with the view
that C4 leaves (`fineweb` alone is measured on the texts as they are); the reference's filters all run on every
document, as ours do. The first call of ours, which compiles, or loads what was compiled, is timed apart.
"""

import json
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.datatrove_reference import document, reference_judges
from benchmarks.filter_parity import extract_texts
from headrace.pipeline.views import Views, make_signal

TEXT_CHARS = 5000
FAMILIES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
REQUIRED = {"all four": 100.0}
NUM_PEER_DOCUMENTS = 40  # the reference takes a second for these
Run = Callable[[Sequence[str]], None]


def sized_texts(path: Path, limit: int) -> list[str]:
    """Return texts of at most TEXT_CHARS characters, cut at line ends from the pages that are longer."""
    long = (text for text in extract_texts(path) if len(text) >= TEXT_CHARS)
    return [text[: text.rfind("\n", 0, TEXT_CHARS) + 1 or TEXT_CHARS] for text in islice(long, limit)]


def ours(names: Sequence[str]) -> Run:
    """Return a run of signals over texts as a measuring task makes it; `fineweb` is measured on the view `c4`."""
    signals = {name: make_signal(name, {}) for name in names}

    def run(texts: Sequence[str]) -> None:
        column, urls = pa.array(texts, pa.string()), pa.nulls(len(texts), pa.string())
        views = Views(column, urls, None)
        for name, signal in signals.items():
            measured = views.measure(signal)
            if name == "c4":
                views = Views(column, urls, measured[0])

    return run


def theirs(names: Sequence[str]) -> Run:
    """Return a run of datatrove's filters over texts."""
    judges = [judge for name, judge in reference_judges().items() if name in names]

    def run(texts: Sequence[str]) -> None:
        for text in texts:
            one = document(text)
            for judge in judges:
                judge(one)

    return run


def seconds(run: Run, texts: Sequence[str]) -> float:
    """Return the processor time of a run in seconds."""
    start = time.process_time()
    run(texts)
    return time.process_time() - start


def compare(name: str, names: Sequence[str], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return a row: documents a second of ours and of the reference, and their ratio."""
    ours_run, theirs_run = ours(names), theirs(names)
    few = texts[:NUM_PEER_DOCUMENTS]
    seconds(ours_run, texts)
    seconds(theirs_run, few[:2])
    pairs = [(len(texts) / seconds(ours_run, texts), len(few) / seconds(theirs_run, few)) for _ in range(rounds)]
    ratios = [ours_speed / peer_speed for ours_speed, peer_speed in pairs]
    return {
        "name": name,
        "ours": round(statistics.median(pair[0] for pair in pairs), 1),
        "peer": round(statistics.median(pair[1] for pair in pairs), 1),
        "unit": "documents/s",
        "ratio": round(statistics.median(ratios), 1),
        "spread": round(max(ratios) - min(ratios), 1),
        "required": REQUIRED.get(name),
    }


def rows(texts: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the comparison of all families together, and of each alone."""
    yield compare("all four", FAMILIES, texts, rounds)
    for family in FAMILIES:
        yield compare(family, (family,), texts, rounds)


def first_call(texts: Sequence[str]) -> Mapping[str, float]:
    """Return the seconds of the first call of all families: compiling, or loading what an earlier process compiled."""
    start = time.perf_counter()
    ours(FAMILIES)(texts[:1])
    return {"first_call_seconds": round(time.perf_counter() - start, 2)}


def main(arguments: Sequence[str]) -> None:
    """Print the comparisons as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.signals")
    parser.add_argument("warc", type=Path)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    texts = sized_texts(options.warc, options.documents)
    size = sum(len(text.encode()) for text in texts)
    start = first_call(texts)
    found = list(rows(texts, options.rounds))
    if options.json:
        print(json.dumps(found))
        return
    print(f"{len(texts)} texts, {size:,} bytes; first call {start['first_call_seconds']} s")
    print(f"{'':20}{'ours, docs/s':>14}{'MB/s':>8}{'datatrove':>12}{'ratio':>8}{'spread':>8}{'required':>10}")
    for row in found:
        speed = row["ours"] * size / len(texts) / 1e6
        required = row["required"] or ""
        print(
            f"{row['name']:20}{row['ours']:14,.0f}{speed:8.1f}{row['peer']:12,.1f}{row['ratio']:8.1f}"
            f"{row['spread']:8.1f}{required:>10}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
