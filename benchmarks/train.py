"""Is the trainer fast? `python -m benchmarks.train PART [--size 15m] [--rows 16] [--length 256] [--compile]`.

Parts:

- `speed`: steps of ours, of nanoGPT as its recipe has it and of transformers' Llama, in turn in one process on the same
  tokens, AdamW, bf16 where the device has it; tokens a second, utilisation by one formula (`trainer.flops`), and the
  most memory that a process of its own held (resident on a CPU, allocated on a GPU).
- `masked`: masked training of short documents in padded rows, with the padding left out, against causal training of as
  many tokens.
- `overhead`: a whole run from a stream on disk: which share of a step the stream and the log take.

Figures are medians of rounds, `spread` is the range of the rounds' ratios.
"""

import json
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.train_peers import Llama, NanoGPT, PlainLoop
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.device import choose_bf16, choose_device
from headrace.trainer.flops import peak_flops, utilization
from headrace.trainer.learner import Learner
from headrace.trainer.model_config import named_config
from headrace.trainer.parallel import World
from headrace.trainer.run_config import RunFile, parse_run

VOCAB = {"1m": 2048, "5m": 8192, "15m": 8192, "60m": 32_768, "124m": 50_304, "350m": 50_304}
STEPS = 3
"""Steps of each side in a round."""


@dataclass(frozen=True)
class RandomRows:
    """A source of rows of random tokens; `document` tokens a row and then padding, where it is less than a row."""

    vocab_size: int
    rows: int
    sequence_length: int
    document: int
    names: tuple[str, ...] = ("random",)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the batch of a step."""
        random = np.random.default_rng(step)
        shape = self.rows, self.sequence_length
        tokens = random.integers(self.vocab_size, size=shape, dtype=np.int32)
        targets = random.integers(self.vocab_size, size=shape, dtype=np.int32)
        positions = np.tile(np.arange(self.sequence_length, dtype=np.int32), (self.rows, 1))
        documents = np.zeros(shape, np.int32)
        documents[:, self.document :], targets[:, self.document - 1 :] = -1, IGNORE
        positions[:, self.document :] -= self.document
        if self.document >= self.sequence_length:
            targets[:, -1] = 0
        token_bytes, sources = np.full(self.vocab_size, 4, np.int64), np.zeros(self.rows, np.int16)
        return Batch(step, tokens, targets, positions, documents, token_bytes, sources)


def run_of(options: Namespace, objective: str = "causal") -> RunFile:
    """Return the run file of ours."""
    return parse_run(
        f'[run]\nname = "bench"\nsteps = 1000000\ncompile = {str(options.compile).lower()}\n'
        f'objective = "{objective}"\ndevice = "{options.device}"\n'
        f'[data]\ncorpora = [{{tokens = "none"}}]\nsequence_length = {options.length}\nglobal_batch = {options.rows}\n'
        f'[model]\nsize = "{options.size}"\n[optimizer]\nlearning_rate = 1e-3\n'
    )


def our_side(options: Namespace, objective: str = "causal", document: int | None = None) -> Callable[[], object]:
    """Return what takes one step of ours."""
    device = choose_device(options.device)
    source: Any = RandomRows(VOCAB[options.size], options.rows, options.length, document or options.length)
    learner = Learner.build(run_of(options, objective), source.vocab_size, World(0, 1, device))
    return partial(learner.advance, source)


def peer_side(options: Namespace, peer: str) -> Callable[[], object]:
    """Return what takes one step of a peer's model."""
    torch.manual_seed(0)
    device = choose_device(options.device)
    config = named_config(options.size, VOCAB[options.size])
    shape = config.vocab_size, config.num_layers, config.width, config.num_heads, options.length
    model = NanoGPT(*shape) if peer == "nanogpt" else Llama(*shape, config.ffn_width)
    loop = PlainLoop(model, device, choose_bf16("auto", device), options.compile)
    source, step = RandomRows(config.vocab_size, options.rows, options.length, options.length), iter(range(1 << 40))

    def advance() -> float:
        batch = source.batch(next(step))
        tokens, targets = (torch.from_numpy(x).long().to(device) for x in (batch.tokens, batch.targets))
        return loop.advance(tokens, targets)

    return advance


def seconds(step: Callable[[], object], steps: int) -> float:
    """Return how long some steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounds_of(sides: dict[str, Callable[[], object]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each side, after two steps that are not counted."""
    for step in sides.values():
        seconds(step, 2)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            found[name].append(seconds(step, steps))
    return found


def memory_of(options: Namespace, side: str) -> float:
    """Return the most memory that a process with one side alone held after two steps, in MB."""
    arguments = [sys.executable, "-m", "benchmarks.train", "memory", "--side", side]
    for name in ("size", "rows", "length", "device"):
        arguments += [f"--{name}", str(getattr(options, name))]
    return float(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def print_memory(options: Namespace) -> None:
    """Print the most memory of this process after two steps of a side, in MB."""
    seconds(our_side(options) if options.side == "ours" else peer_side(options, options.side), 2)
    if torch.cuda.is_available():
        print(torch.cuda.max_memory_allocated() / 1e6)
    else:
        status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage counts what the parent held, too
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1e3)


def speed(options: Namespace) -> list[dict[str, Any]]:
    """Return a row a side."""
    sides = {"ours": our_side(options), **{peer: peer_side(options, peer) for peer in ("nanogpt", "transformers")}}
    found = rounds_of(sides, options.rounds, options.steps)
    tokens = options.rows * options.length * options.steps
    config = named_config(options.size, VOCAB[options.size])
    peak = options.peak_flops or peak_flops(choose_device(options.device))
    rows = []
    for name, times in found.items():
        ratios = [other / own for own, other in zip(found["ours"], times, strict=True)]
        rate = statistics.median(tokens / one for one in times)
        row = {
            "side": name,
            "tokens/s": round(rate),
            "ours is faster by": round(statistics.median(ratios), 3),
            "spread": round(max(ratios) - min(ratios), 3),
            "memory, MB": round(memory_of(options, name)) if not options.compile else None,
        }
        if peak:
            row["mfu"] = round(utilization(config, options.length, rate, 1, peak), 3)
        rows.append(row)
    return rows


def masked(options: Namespace) -> list[dict[str, Any]]:
    """Return masked training of rows that are half padding, against causal training of as many tokens."""
    half = replace_options(options, length=options.length // 2)
    sides = {
        "causal, no padding": our_side(half),
        "masked, no padding": our_side(half, "masked"),
        "masked, half padding": our_side(options, "masked", options.length // 2),
    }
    found = rounds_of(sides, options.rounds, options.steps)
    tokens = options.rows * half.length * options.steps
    base = found["causal, no padding"]
    rows = []
    for name, times in found.items():
        ratios = [own / other for own, other in zip(base, times, strict=True)]
        row = {"side": name, "tokens/s": round(statistics.median(tokens / one for one in times))}
        rows.append(
            {**row, "of causal": round(statistics.median(ratios), 3), "spread": round(max(ratios) - min(ratios), 3)}
        )
    return rows


def replace_options(options: Namespace, **changed: Any) -> Namespace:
    """Return options with some of them changed."""
    return Namespace(**{**vars(options), **changed})


def main(arguments: Sequence[str]) -> None:
    """Print a part's rows as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.train")
    parser.add_argument("part", choices=("speed", "masked", "memory"))
    parser.add_argument("--size", default="15m", choices=VOCAB)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--peak-flops", type=float, help="of a CPU, measured: operations a second")
    parser.add_argument("--side", default="ours")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.part == "memory":
        print_memory(options)
        return
    rows = speed(options) if options.part == "speed" else masked(options)
    if options.json:
        print(json.dumps(rows))
        return
    names = list(rows[0])
    print("".join(f"{name:>22}" for name in names))
    for row in rows:
        print("".join(f"{'' if row[name] is None else row[name]:>22}" for name in names))


if __name__ == "__main__":
    main(sys.argv[1:])
