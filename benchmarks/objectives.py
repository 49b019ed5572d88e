"""What an objective takes of a step: `python -m benchmarks.objectives [--rounds N] [--json]`.

Milliseconds of processor time for a row of 1,024 tokens, of batches of 32 rows with 1, 6 and 60 pieces each, and the
share of tokens that found no place. Medians of rounds.
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import make_objective, objectives

ROWS, LENGTH, VOCAB = 32, 1024, 50_257
PIECES = (1, 6, 60)


def made_batch(num_pieces: int) -> Batch:
    """Return rows of so many pieces, cut anywhere."""
    random = np.random.default_rng(num_pieces)
    text = random.integers(VOCAB, size=(ROWS, LENGTH + 1)).astype(np.int32)
    documents, positions = np.zeros((2, ROWS, LENGTH), np.int32)
    for row in range(ROWS):
        cuts = np.sort(random.choice(np.arange(1, LENGTH), num_pieces - 1, replace=False)).tolist()
        for number, (begin, end) in enumerate(pairwise([0, *cuts, LENGTH])):
            documents[row, begin:end], positions[row, begin:end] = number, np.arange(end - begin)
    lengths, sources = np.full(VOCAB, 3, np.int64), np.zeros(ROWS, np.int16)
    joins = random.random((VOCAB, 2)) < 0.7
    return Batch(0, text[:, :-1].copy(), text[:, 1:].copy(), positions, documents, lengths, sources, token_joins=joins)


def measure(name: str, options: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Return the row of an objective."""
    objective = make_objective(name, options)
    row: dict[str, Any] = {"objective": " ".join((name, *(f"{key} = {value}" for key, value in options.items())))}
    for pieces in PIECES:
        batch, took = made_batch(pieces), []
        left_out = objective.ask(batch, 0).left_out
        for seed in range(rounds):
            start = time.process_time()
            objective.ask(batch, seed)
            took.append(1000 * (time.process_time() - start) / ROWS)
        row[f"ms, {pieces} pieces"] = round(median(took), 2)
        row[f"left out, {pieces} pieces"] = 0.0 if left_out is None else round(float(left_out.mean()) / LENGTH, 3)
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    variants = [*((name, {}) for name in objectives()), ("masked", {"unit": "word"}), ("masked", {"unit": "span"})]
    rows = [measure(name, options, chosen.rounds) for name, options in variants]
    if chosen.json:
        print(json.dumps(rows))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
