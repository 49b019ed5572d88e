"""The loaders that `benchmarks.stream` compares ours with; it runs in an environment of its own (`make bench-env`).

`python stream_peers.py NAME prepare FOLDER` writes the peer's own format from `tokens.npy` and `lengths.npy` of the
folder; `... NAME run FOLDER BATCHES` reads batches of 32 rows of 1,024 tokens in the main process, a first stretch to
warm up, and prints the seconds that `BATCHES` batches took. Nothing of Headrace is imported.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS, LENGTH = 32, 1024
WARM = 200


def documents(folder: Path) -> Iterator[Any]:
    tokens, lengths = np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "lengths.npy")
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for start, end in itertools.pairwise(ends):
        yield np.array(tokens[start:end])


def litdata_prepare(folder: Path) -> None:
    import torch
    from litdata.streaming.item_loader import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "litdata"), chunk_bytes="64MB", item_loader=TokensLoader(LENGTH + 1))
    number = 0
    for document in documents(folder):
        if len(document):
            writer[number] = torch.from_numpy(document.astype(np.int32))
            number += 1
    writer.done()
    writer.merge()


def litdata_batches(folder: Path) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.item_loader import TokensLoader

    while True:
        data = StreamingDataset(str(folder / "litdata"), item_loader=TokensLoader(LENGTH + 1), shuffle=True)
        yield from StreamingDataLoader(data, batch_size=ROWS, num_workers=0)


def mosaicml_prepare(folder: Path) -> None:
    from streaming import MDSWriter

    rows = LENGTH + 1
    tokens = np.load(folder / "tokens.npy", mmap_mode="r")
    with MDSWriter(out=str(folder / "mds"), columns={"tokens": "bytes"}, size_limit=1 << 26) as writer:
        for start in range(0, len(tokens) - rows, rows):
            writer.write({"tokens": np.array(tokens[start : start + rows]).tobytes()})


def together(items: list[Any]) -> Any:
    return np.stack([np.frombuffer(item["tokens"], np.uint16) for item in items])


def mosaicml_batches(folder: Path) -> Iterator[Any]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    while True:
        data = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=ROWS)
        yield from DataLoader(data, batch_size=ROWS, num_workers=0, collate_fn=together)


def datasets_prepare(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = LENGTH + 1
    tokens = np.load(folder / "tokens.npy", mmap_mode="r")
    lines = [tokens[start : start + rows].tobytes() for start in range(0, len(tokens) - rows, rows)]
    pq.write_table(pa.table({"tokens": lines}), folder / "datasets.parquet", row_group_size=1000)


def datasets_batches(folder: Path) -> Iterator[Any]:
    from datasets import load_dataset

    while True:
        data = load_dataset("parquet", data_files=str(folder / "datasets.parquet"), split="train", streaming=True)
        for batch in data.iter(batch_size=ROWS):
            yield np.stack([np.frombuffer(line, np.uint16) for line in batch["tokens"]])


def memmap_prepare(folder: Path) -> None:
    """Nothing: the array is there."""


def memmap_batches(folder: Path) -> Iterator[Any]:
    """Gather rows at random places of one array, as nanoGPT does: no shuffle of documents, no borders, no masks."""
    tokens, random = np.load(folder / "tokens.npy", mmap_mode="r"), np.random.default_rng(0)
    places = np.arange(LENGTH + 1)
    while True:
        starts = random.integers(0, len(tokens) - LENGTH - 1, ROWS)
        yield tokens[starts[:, None] + places]


def mosaicml_cold(folder: Path, number: int) -> None:
    """Read an epoch from an S3 server into an empty folder; print seconds to the first batch, to the end, and steps."""
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    start, first, steps = time.perf_counter(), 0.0, 0
    local = str(folder / f"mds-{number}")
    data = StreamingDataset(remote="s3://bench/mds", local=local, shuffle=True, batch_size=ROWS)
    for _ in DataLoader(data, batch_size=ROWS, num_workers=0, collate_fn=together):
        steps += 1
        first = first or time.perf_counter() - start
    print(json.dumps([first, time.perf_counter() - start, steps]), flush=True)
    os._exit(0)


PEERS = {
    "litdata": (litdata_prepare, litdata_batches),
    "mosaicml-streaming": (mosaicml_prepare, mosaicml_batches),
    "datasets": (datasets_prepare, datasets_batches),
    "memmap": (memmap_prepare, memmap_batches),
}


def main(name: str, act: str, folder: Path, number: int = 0) -> None:
    if act == "cold":
        mosaicml_cold(folder, number)
        return
    prepare, batches = PEERS[name]
    if act == "prepare":
        prepare(folder)
        return
    source = batches(folder)
    for _ in range(WARM):
        next(source)
    start = time.perf_counter()
    for _ in range(number):
        next(source)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    os._exit(0)  # some leave threads behind that would not let Python end


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))
