"""A run small enough for every test that needs one: a corpus of JSON Lines, built and trained in seconds."""

import json
from pathlib import Path

from headrace.pipeline.build import build
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.walk import BuildOptions

RECIPE = """
name = "lines"

[[sources]]
name = "lines"
reader = "jsonl"
reader_options = { metadata_keys = ["license"] }
extractor = "plain"

[[steps]]
kind = "cut"

[[steps]]
kind = "tokenize"
vocab_size = 300

[split]
heldout = 1000
"""

RUN = """
[run]
name = "small"
steps = 4
bf16 = false
[data]
corpora = [{{ tokens = "{tokens}" }}]
sequence_length = 32
global_batch = 4
heldout = 0.1
[model]
num_layers = 2
width = 32
num_heads = 4
num_kv_heads = 2
{model}
[optimizer]
learning_rate = 3e-3
[eval]
every = 2
[checkpoint]
every = 2
"""


def make_run_file(folder: Path, model: str = "") -> Path:
    """Build the corpus in a folder, and write a run file beside it; return that."""
    texts = [f"Zürich — {n}: größer als «{n - 1}», 東京 {n % 7} 🙂\n" * 4 for n in range(40)]
    licences = ("CC0", "MIT", "MIT")
    lines = [json.dumps({"text": text, "license": licences[n % 3]}) for n, text in enumerate(texts)]
    lines += [json.dumps({"text": f"A document without a licence, number {n}.\n" * 3}) for n in range(10)]
    (folder / "lines.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = BuildOptions({"lines": str(folder / "lines.jsonl")})
    built = build(parse_toml(Recipe, RECIPE, "lines.toml"), Store.open(folder / "store"), InlineEngine(), options)
    path = folder / "run.toml"
    path.write_text(RUN.format(tokens=built.path("tokens"), model=model), encoding="utf-8")
    return path
