"""Is our stream fast? `python -m benchmarks.stream PART [--peers PYTHON] [--tokens N] [--rounds N] [--json]`.

Parts:

- `local`: batches of 32 x 1,024 in the main process, packed by best fit, with document masks and positions, beside
  litdata's TokensLoader, mosaicml-streaming, Hugging Face datasets (rows of tokens, unshuffled) and a gather of rows at
  random places of a memmap, which knows no documents; and a mixture of four corpora beside one.
- `open`: a corpus of many parts (`--parts`): seconds to open and give the first batch, and to resume at 90 % of an
  epoch, in new processes; memory of each.
- `codecs`: bytes a token and decoding speed of token columns as Parquet could store them.

Peers run in the environment of `--peers` (`make bench-env`), a process a round, in turn with ours; each warms up first.
Figures are medians of rounds, `spread` is the range of the rounds' ratios.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.made_tokens import made_lengths, make_tokens
from headrace.pipeline.store import Store
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig

ROWS, LENGTH = 32, 1024
PEERS = {"litdata": 1600, "mosaicml-streaming": 200, "datasets": 400, "memmap": 3200}
"""Batches of a round."""
OURS = 1600
_PATIENCE = 90  # seconds
REQUIRED = {"litdata": 3.0, "memmap": 0.4}
CODECS: dict[str, dict[str, Any]] = {
    "none": {"compression": "none"},
    "lz4": {"compression": "lz4"},
    "snappy": {"compression": "snappy"},
    "zstd 1": {"compression": "zstd", "compression_level": 1},
    "zstd 3": {"compression": "zstd", "compression_level": 3},
    "none, delta lengths": {"compression": "none", "column_encoding": {"tokens": "DELTA_LENGTH_BYTE_ARRAY"}},
}


def config(paths: Sequence[Path], packing: str = "best_fit") -> DataConfig:
    corpora = [{"tokens": str(path)} for path in paths]
    fields = {"corpora": corpora, "sequence_length": LENGTH, "global_batch": ROWS, "packing": packing}
    return DataConfig.model_validate(fields)


def reading(stream: Stream) -> Callable[[], float]:
    """Return what reads the next batches of a stream and returns million tokens a second."""
    step = 0

    def read() -> float:
        nonlocal step
        start = time.perf_counter()
        for number in range(step, step + OURS):
            stream.batch(number)
        step += OURS
        return OURS * ROWS * LENGTH / (time.perf_counter() - start) / 1e6

    return read


def peer_speed(python: str, name: str, folder: Path) -> float:
    ran = _peer(python, name, "run", folder, str(PEERS[name]))
    return PEERS[name] * ROWS * LENGTH / float(json.loads(ran.splitlines()[-1])["seconds"]) / 1e6


def _peer(python: str, *arguments: Any) -> str:
    script = str(Path(__file__).with_name("stream_peers.py"))
    command = [python, script, *map(str, arguments)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, env=offline)
    if done.returncode:
        raise SystemExit(f"{arguments[0]}: {done.stderr[-2000:]}")
    return done.stdout


def local(options: Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return the comparisons with peers, on the same tokens, and of four corpora with one."""
    store = Store.open(folder / "store")
    lengths = made_lengths(options.tokens, 0)
    whole = make_tokens(store, lengths, 0)
    quarters = [make_tokens(store, part, 1 + k) for k, part in enumerate(np.array_split(lengths, 4))]
    as_arrays(whole, folder)
    names = [name for name in PEERS if options.peers]
    for name in names:
        _peer(options.peers, name, "prepare", folder)
    one, four = (reading(open_stream(config(paths), 0)) for paths in ([whole], quarters))
    one(), four()
    pairs: dict[str, list[tuple[float, float]]] = {"four corpora / one corpus": []}
    for _ in range(options.rounds):
        ours = one()
        pairs["four corpora / one corpus"].append((four(), ours))
        for name in names:
            pairs.setdefault(f"one corpus / {name}", []).append((one(), peer_speed(options.peers, name, folder)))
    required = {f"one corpus / {name}": value for name, value in REQUIRED.items()} | {"four corpora / one corpus": 0.8}
    return [row(name, rounds, required.get(name)) for name, rounds in pairs.items()]


def as_arrays(manifest: Path, folder: Path) -> None:
    """Write the tokens of an artifact as the arrays that peers are given."""
    table = pq.read_table(sorted(manifest.parent.glob("*.parquet")), columns=["tokens", "num_tokens"])
    np.save(folder / "lengths.npy", table.column("num_tokens").to_numpy())
    np.save(folder / "tokens.npy", np.frombuffer(b"".join(table.column("tokens").to_pylist()), "<u2"))


def row(
    name: str,
    pairs: Sequence[tuple[float, float]],
    required: float | None,
    unit: str = "million tokens/s",
    *,
    larger_is_better: bool = True,
) -> dict[str, Any]:
    ratios = [ours / peer if larger_is_better else peer / ours for ours, peer in pairs]
    return {
        "name": name,
        "ours": round(statistics.median(ours for ours, _ in pairs), 2),
        "peer": round(statistics.median(peer for _, peer in pairs), 2),
        "unit": unit,
        "ratio": round(statistics.median(ratios), 2),
        "spread": round(max(ratios) - min(ratios), 2),
        "required": required,
    }


_OPEN = """
import json, sys, time
from pathlib import Path
start = time.perf_counter()
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
imported = time.perf_counter()
stream = open_stream(DataConfig.model_validate(json.loads(sys.argv[1])), 0)
opened = time.perf_counter()
step = int(float(sys.argv[2]) * stream.sources[0].num_rows / 32)
stream.batch(step)
first = time.perf_counter()
for later in range(step, step + 50):
    stream.batch(later)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
memory = int(peak.split()[1]) / 1024
print(json.dumps([imported - start, opened - imported, first - opened, memory, "torch" in sys.modules]))
"""


def opening(options: Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return how long a corpus of many parts takes to open, and to resume far into an epoch."""
    store = Store.open(folder / "store")
    documents = options.documents
    lengths = np.full(documents, max(1, options.tokens // documents))
    data = config([make_tokens(store, lengths, 0, parts=options.parts)]).model_dump_json()
    rows = []
    for name, place, required in (("open and first batch", "0", 2.0), ("first batch at 90 % of an epoch", "0.9", 1.0)):
        found = []
        for number in range(options.rounds + 1):
            ran = subprocess.run([sys.executable, "-c", _OPEN, data, place], capture_output=True, text=True, check=True)
            if number:  # the first makes the index, and compiles
                found.append(json.loads(ran.stdout))
        seconds = [(opened if place == "0" else 0) + first for _, opened, first, _, _ in found]
        rows.append(figure(f"{name}, {options.parts:,} parts", seconds, "seconds", required))
        rows.append(figure(f"memory after it, {documents:,} documents", [one[3] for one in found], "MiB", 500.0))
    return rows


def figure(name: str, values: Sequence[float], unit: str, required: float | None) -> dict[str, Any]:
    spread = round(max(values) - min(values), 3)
    ours = round(statistics.median(values), 3)
    return {
        "name": name,
        "ours": ours,
        "peer": None,
        "unit": unit,
        "ratio": None,
        "spread": spread,
        "required": required,
    }


def codecs(options: Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return bytes a token and decoding speed, on real text encoded by a tokenizer that is trained on it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from benchmarks.made_text import page_texts

    texts = page_texts(options.books, options.documents)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=32_768, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts[::4], trainer)
    ids = [np.array(encoding.ids, "<u2").tobytes() for encoding in tokenizer.encode_batch_fast(texts)]
    total, rows = sum(map(len, ids)) // 2, []
    for name, how in CODECS.items():
        path = folder / "tokens.parquet"
        table = pa.table({"tokens": pa.array(ids, pa.binary())})
        pq.write_table(table, path, use_dictionary=False, row_group_size=8192, **how)
        speeds = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    file.read_row_group(group, use_threads=False)
            speeds.append(total / (time.perf_counter() - start) / 1e6)
        rows.append(
            figure(f"{name}: {path.stat().st_size / total:.3f} bytes a token", speeds, "million tokens/s", None)
        )
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the figures as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.stream")
    parser.add_argument("part", choices=("local", "open", "codecs"))
    parser.add_argument("--peers", help="Python of the peers' environment; without it ours alone are measured")
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--documents", type=int, default=12_000)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        rows = {"local": local, "open": opening, "codecs": codecs}[options.part](options, Path(name))
    print_rows(rows, as_json=options.json)


def print_rows(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    print(f"{'':52}{'ours':>10}{'peer':>10}{'ratio':>9}{'spread':>9}{'required':>10}  unit")
    for row in rows:
        figures = (f"{row[key] if row[key] is not None else '':>{width}}" for key, width in _WIDTHS)
        print(f"{row['name']:52}{''.join(figures)}  {row['unit']}")


_WIDTHS = (("ours", 10), ("peer", 10), ("ratio", 9), ("spread", 9), ("required", 10))

if __name__ == "__main__":
    main(sys.argv[1:])
