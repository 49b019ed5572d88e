"""What each option of the trainer costs and gives: `python -m benchmarks.train_options --web W --books B --store DIR`.

For each named option a model of a million parameters (but for what the option changes) is trained on books and
web pages, from the same seed on the same batches, and a row tells parameters, tokens a second, and bits per byte of the
held-out split after as many tokens. Objectives other than causal predict other things, so their bits per byte are not
compared: the row has the held-out loss. `--write docs/trainer.md` puts the table there, between its two marks.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headrace.pipeline.build import build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from headrace.trainer.flops import count_parameters
from headrace.trainer.run_config import RunFile
from headrace.trainer.stream import open_stream
from headrace.trainer.train import train

MARKS = "<!-- options: made by benchmarks.train_options -->", "<!-- end of options -->"
OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "(none)": {},
    "norm = layer": {"model": {"norm": "layer"}},
    "activation = gelu": {"model": {"activation": "gelu"}},
    "activation = relu2": {"model": {"activation": "relu2"}},
    "ffn_depth = 2": {"model": {"ffn_depth": 2}},
    "parallel": {"model": {"parallel": True}},
    "num_kv_heads = 1": {"model": {"num_kv_heads": 1}},
    "qk_norm": {"model": {"qk_norm": True}},
    "logit_softcap = 15": {"model": {"logit_softcap": 15.0}},
    "standardize_weights": {"model": {"standardize_weights": True}},
    "residual = unet": {"model": {"residual": "unet"}},
    "residual = attention": {"model": {"residual": "attention"}},
    "value_residual": {"model": {"value_residual": True}},
    "tie_embeddings = false": {"model": {"tie_embeddings": False}},
    "num_conditions = 1": {"model": {"num_conditions": 1}},
    "attention = sliding": {"model": {"attention": "sliding", "window": 64, "global_every": 2}},
    "attention = block_sparse": {"model": {"attention": "block_sparse", "block_size": 32}},
    "attention = linear": {"model": {"attention": "linear"}},
    "num_experts = 4": {"model": {"num_experts": 4}},
    "num_experts = 4, balance = bias": {"model": {"num_experts": 4, "balance": "bias"}},
    "optimizer.kind = muon": {"optimizer": {"kind": "muon"}},
    "optimizer.z_loss = 1e-4": {"optimizer": {"z_loss": 1e-4}},
    "optimizer.schedule = wsd": {"optimizer": {"schedule": "wsd"}},
    "run.recompute = all": {"run": {"recompute": "all"}},
    "objective = masked": {"run": {"objective": "masked"}},
    "objective = masked_next": {"run": {"objective": "masked_next"}},
    "objective = prefix": {"run": {"objective": "prefix"}},
    "objective = span_corruption": {"run": {"objective": "span_corruption"}},
    "objective = ul2": {"run": {"objective": "ul2"}},
    "objective = fill_in_the_middle": {"run": {"objective": "fill_in_the_middle"}},
}


def run_of(tokens: str, steps: int, changed: Mapping[str, Mapping[str, Any]]) -> RunFile:
    """Return the run of an option."""
    sections: dict[str, dict[str, Any]] = {
        "run": {"name": "options", "steps": steps, "seed": 1},
        "data": {"corpora": [{"tokens": tokens}], "sequence_length": 256, "global_batch": 8, "heldout": 0.05},
        "model": {"size": "1m"},
        "optimizer": {"learning_rate": 2e-3, "warmup_steps": steps // 10, "schedule": "cosine"},
        "eval": {"max_batches": 16},
    }
    for section, values in changed.items():
        sections[section] |= values
    return RunFile.model_validate(sections)


def measure(tokens: str, steps: int, name: str) -> dict[str, Any]:
    """Train one option and return its row."""
    run = run_of(tokens, steps, OPTIONS[name])
    stream = open_stream(run.data, run.run.seed)
    records: list[Mapping[str, Any]] = []
    with TemporaryDirectory() as folder:
        report = train(run, stream, Path(folder), on_metrics=records.append)
        if report.interrupted:
            raise KeyboardInterrupt
    positions = run.data.sequence_length * len(stream.batch(0))
    speed = statistics.median(positions / record["seconds"] for record in records[5:])
    signs = run.make_objective().num_signs
    return {
        "option": name,
        "parameters": count_parameters(run.model.resolve(stream.vocab_size + signs)).total,
        "positions_per_second": round(speed),
        "loss": round(report.eval_loss or 0.0, 4),
        "bits_per_byte": round(report.bits_per_byte or 0.0, 4) if run.run.objective == "causal" else None,
    }


def as_markdown(rows: Sequence[Mapping[str, Any]], steps: int) -> str:
    """Return the rows as a table, speeds relative to the first."""
    base = rows[0]["positions_per_second"]
    lines = [
        f"{steps} steps of 8 rows of 256 positions; speeds relative to the first row's {base:,} positions a second.",
        "",
        "| option | parameters | speed | held-out loss, nats | bits per byte |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        bits = "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f}"
        speed = row["positions_per_second"] / base
        lines.append(f"| `{row['option']}` | {row['parameters']:,} | {speed:.2f} | {row['loss']:.3f} | {bits} |")
    return "\n".join(lines)


def write_between_marks(path: Path, text: str) -> None:
    """Put a text between the two marks of a page."""
    before, rest = path.read_text(encoding="utf-8").split(MARKS[0])
    _, after = rest.split(MARKS[1])
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--web", required=True)
    arguments.add_argument("--books", required=True)
    arguments.add_argument("--store", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--only", action="append", choices=OPTIONS)
    arguments.add_argument("--write", type=Path)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    options = BuildOptions({"web": given.web, "books": given.books})
    built = build(load_recipe("books-and-web"), Store.open(given.store), make_engine(2), options)
    rows = []
    for name in given.only or OPTIONS:
        rows.append(measure(built.path("tokens"), given.steps, name))
        print(json.dumps(rows[-1]) if given.json else rows[-1], file=sys.stdout if given.json else sys.stderr)
    if given.write:
        write_between_marks(given.write, as_markdown(rows, given.steps))
    elif not given.json:
        print(as_markdown(rows, given.steps))


if __name__ == "__main__":
    main()
