"""Where the stream's time and memory go: `python -m benchmarks.stream_inside [--tokens N] [--rounds N] [--json]`.

- memory of a process that has served 3,400 batches of 32 x 1,024, in MiB: at the end, and at its highest; without torch
  and with it, and what torch takes alone;
- milliseconds to read a window from its file again, and in which all of its rows are served;
- million tokens a second of the kernel alone, rows of one window and of four in turn, windows being in memory.

Figures are medians of rounds, `spread` is their range.
"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.made_tokens import made_lengths, make_tokens
from benchmarks.stream import LENGTH, ROWS, config, figure, print_rows
from headrace.pipeline.store import Store
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.streaming.rows import RowArrays

SLAB, SLABS = 4 * ROWS, 300
_MEMORY = """
import json, sys
from pathlib import Path
if sys.argv[2]:
    import torch
def told(name):
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").open() if line.startswith(name))
alone = told("VmRSS")
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
stream = open_stream(DataConfig.model_validate_json(sys.argv[1]), 0)
for step in range(3400):
    stream.batch(step)
print(json.dumps([told("VmRSS"), told("VmHWM"), alone]))
"""


def memory(manifest: Path, torch: str, rounds: int) -> list[dict[str, Any]]:
    """Return what processes take."""
    command = [sys.executable, "-c", _MEMORY, config([manifest]).model_dump_json(), torch]
    ran = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(rounds)]
    held, peak, alone = zip(*map(json.loads, ran), strict=True)
    what = "with torch" if torch else "without torch"
    rows = [figure(f"memory {what}", held, "MiB", 500.0), figure(f"highest memory {what}", peak, "MiB", None)]
    return rows + ([figure("memory of torch alone", alone, "MiB", None)] if torch else [])


def windows(stream: Stream, rounds: int) -> list[dict[str, Any]]:
    """Return milliseconds to read a window, and in which its rows are served."""
    table, reading = stream.tables[0], []
    table.read(0)
    for _ in range(rounds):
        start = time.perf_counter()
        table.read(0)
        reading.append(1e3 * (time.perf_counter() - start))
    served = [1e3 * int(table.num_positions[0]) / speed / 1e6 for speed in _speeds(stream, rounds)]
    unit = "milliseconds"
    return [figure("a window is read in", reading, unit, None), figure("its rows are served in", served, unit, None)]


def _speeds(stream: Stream, rounds: int) -> list[float]:
    """Return million tokens a second of rounds of batches."""
    found, step = [], 0
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for number in range(step, step + 4 * SLABS):
            stream.batch(number)
        step += 4 * SLABS
        found.append(4 * SLABS * ROWS * LENGTH / (time.perf_counter() - start) / 1e6)
    return found[1:]


def kernel(streams: Sequence[Stream], what: str, rounds: int) -> dict[str, Any]:
    """Return the speed of the kernel over one window of each stream."""
    read = [stream.tables[0].read(0) for stream in streams]
    random, arrays = np.random.default_rng(0), RowArrays.empty(SLAB, LENGTH)
    share, found = SLAB // len(read), []
    places = [np.arange(k * share, (k + 1) * share) for k in range(len(read))]
    for _ in range(rounds + 1):
        rows = [[random.permutation(one.layout.packed.num_rows)[:share] for one in read] for _ in range(SLABS)]
        start = time.perf_counter()
        for slab in rows:
            for window, mine, place in zip(read, slab, places, strict=True):
                arrays.write(window, mine, place, 0, apart=True, bare=False)
        found.append(SLABS * SLAB * LENGTH / (time.perf_counter() - start) / 1e6)
    return figure(f"kernel alone, {what}", found[1:], "million tokens/s", None)


def main(arguments: Sequence[str]) -> None:
    """Print the figures as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.stream_inside")
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        store, lengths = Store.open(Path(name) / "store"), made_lengths(options.tokens, 0)
        whole = make_tokens(store, lengths, 0)
        quarters = [make_tokens(store, part, 1 + k) for k, part in enumerate(np.array_split(lengths, 4))]
        one, four = ([open_stream(config([path]), 0) for path in paths] for paths in ([whole], quarters))
        rows = [*memory(whole, "", options.rounds), *memory(whole, "torch", options.rounds)]
        rows += windows(one[0], options.rounds)
        rows += [kernel(one, "one window", options.rounds), kernel(four, "four windows", options.rounds)]
    print_rows(rows, as_json=options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
