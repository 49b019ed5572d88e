"""Train a small model on books and web pages, and print how the held-out loss falls.

    python -m benchmarks.validation_curve --web 'PATH/*.warc.gz' --books 'PATH/*.txt.gz' --store DIR [--json]

It builds the recipe `books-and-web` into DIR (or finds it there), trains, and prints a row for each evaluation. Nothing
is compared: `ours` is bits per byte of the held-out split, `peer` is null.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from headrace.pipeline.build import build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from headrace.trainer.run_config import RunFile
from headrace.trainer.stream import open_stream
from headrace.trainer.train import train

SEQUENCE_LENGTH, GLOBAL_BATCH, HELDOUT = 256, 16, 0.05


def run_file(tokens: str, steps: int, size: str) -> RunFile:
    """Return the run that the curve is of."""
    return RunFile.model_validate(
        {
            "run": {"name": "books-and-web", "steps": steps, "seed": 1},
            "data": {
                "corpora": [{"tokens": tokens}],
                "sequence_length": SEQUENCE_LENGTH,
                "global_batch": GLOBAL_BATCH,
                "heldout": HELDOUT,
            },
            "model": {"size": size},
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": steps // 10, "schedule": "cosine"},
            "eval": {"every": max(1, steps // 8), "max_batches": 16},
        }
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--web", required=True)
    arguments.add_argument("--books", required=True)
    arguments.add_argument("--store", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=400)
    arguments.add_argument("--size", default="5m")
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    options = BuildOptions({"web": given.web, "books": given.books})
    built = build(load_recipe("books-and-web"), Store.open(given.store), make_engine(2), options)
    run = run_file(built.path("tokens"), given.steps, given.size)
    curve: list[dict[str, Any]] = []

    def watch(record: Any) -> None:
        if record.get("bits_per_byte") is not None:
            curve.append(dict(record))
            print(row(record), file=sys.stderr, flush=True)

    out = given.store.with_name(given.store.name + f"-run-{given.size}-{given.steps}")
    report = train(run, open_stream(run.data, run.run.seed), out, resume=True, on_metrics=watch)
    tokens = built.manifests["tokens"].facts["tokens"]
    print(f"{tokens} tokens, {report.tokens} trained on, {report.tokens_per_second:.0f}/s", file=sys.stderr)
    if given.json:
        names = [f"bits per byte after step {record['step']}" for record in curve]
        figures = [
            {"name": name, "ours": record["bits_per_byte"], "peer": None, "unit": "bits/byte", "ratio": None}
            | {"spread": None, "required": None}
            for name, record in zip(names, curve, strict=True)
        ]
        print(json.dumps(figures))


def row(record: Any) -> str:
    """Return a row of the table in docs/benchmarks.md."""
    return f"| {record['step']} | {record['eval_loss']:.3f} | {record['bits_per_byte']:.3f} |"


if __name__ == "__main__":
    main()
