"""How well is the stream shuffled? `python -m benchmarks.shuffle MANIFEST... [--packing NAME] [--json]`.

MANIFEST are tokens of corpora, each by itself. Of a corpus the first two epochs are laid out, and compared with a full
shuffle of the documents by numpy's generator:

- `corpus neighbours`: how far apart documents lie in the stream that follow one another in the corpus, in shares of an
  epoch: the median, and how many are within 1 %. Documents of one site or one book's chapters are such neighbours.
- `first epoch's neighbours`: the same in the second epoch for documents that followed one another in the first. Windows
  are moved as wholes, so these stay in one window: the price of reading a few megabytes at a time.
- `same source next`: how often a document is followed by one of the same source, less how often chance would do it.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.pipeline.tables import read_columns
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.corpus import upstream

Order = npt.NDArray[np.int64]


def epoch_order(stream: Stream, epoch: int, places: dict[str, int]) -> Order:
    """Return the documents of an epoch by their place in the corpus, each where its first piece is served."""
    source, found = stream.sources[0], []
    for stretch in source.stretches(epoch * source.num_rows, source.num_rows):
        window = stream.tables[0].read(stretch.window)
        packed = window.layout.packed
        for row in stretch.rows.tolist():
            pieces = range(int(packed.first[row]), int(packed.first[row + 1]))
            found += [places[window.doc_id(int(packed.document[k]))] for k in pieces if packed.start[k] == 0]
    return np.array(found)


def distances(order: Order, before: Order) -> npt.NDArray[np.float64]:
    """Return how far apart in `order` things are that follow one another in `before`, in shares of all."""
    place = np.full(int(order.max()) + 1, -1)
    place[order] = np.arange(len(order))
    known = before[place[before] >= 0]
    found: npt.NDArray[np.float64] = np.abs(np.diff(place[known])) / len(order)
    return found


def measure(path: Path, packing: str, length: int) -> list[dict[str, Any]]:
    """Return the figures of a corpus."""
    fields = {"corpora": [{"tokens": str(path)}], "sequence_length": length, "global_batch": 1, "packing": packing}
    stream = open_stream(DataConfig.model_validate(fields), 0)
    corpus = stream.corpora[0]
    manifest = upstream(upstream(corpus.tokens, "encoded", corpus.store), "corpus", corpus.store)
    tables = [
        read_columns(corpus.store.part_path(manifest, k), ["doc_id", "source"]) for k in range(len(manifest.parts))
    ]
    ids = [doc_id for table in tables for doc_id in table.column("doc_id").to_pylist()]
    sources = np.unique([name for table in tables for name in table.column("source").to_pylist()], return_inverse=True)[
        1
    ]
    places = {doc_id: number for number, doc_id in enumerate(ids)}
    first, second = (epoch_order(stream, epoch, places) for epoch in (0, 1))
    random = np.random.default_rng(0)
    full = [random.permutation(first) for _ in range(2)]
    stored = np.sort(first)
    rows = []
    for name, ours, peer in (
        ("corpus neighbours", distances(first, stored), distances(full[0], stored)),
        ("first epoch's neighbours", distances(second, first), distances(full[1], full[0])),
    ):
        rows += [
            _row(f"{name}, median distance", float(np.median(ours)), float(np.median(peer)), "share of an epoch"),
            _row(f"{name}, within 1 %", float((ours < 0.01).mean()), float((peer < 0.01).mean()), "share of pairs"),
        ]
    rows.append(_row("same source next", *(_excess(sources[order]) for order in (first, full[0])), "share of pairs"))
    what = {"documents": len(first), "windows": len(stream.tables[0]), "packing": packing}
    return [row | {"corpus": corpus.name, **what} for row in rows]


def _excess(sources: npt.NDArray[np.int64]) -> float:
    shares = np.bincount(sources) / len(sources)
    return float((sources[1:] == sources[:-1]).mean() - (shares**2).sum())


def _row(name: str, ours: float, peer: float, unit: str) -> dict[str, Any]:
    row = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "unit": unit}
    return row | {"ratio": round(ours / peer, 3) if peer else None, "spread": None, "required": None}


def main(arguments: Sequence[str]) -> None:
    """Print the figures as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.shuffle")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--packing", default="best_fit", choices=("concat", "best_fit", "pad"))
    parser.add_argument("--sequence-length", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = [row for path in options.manifests for row in measure(path, options.packing, options.sequence_length)]
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        told = f"{row['corpus']}, {row['documents']:,} documents in {row['windows']} windows"
        print(f"{told:60}{row['name']:44}{row['ours']:9.4f}{row['peer']:9.4f}  {row['unit']} (ours, full shuffle)")


if __name__ == "__main__":
    main(sys.argv[1:])
