"""How long does a changed threshold take? `python -m benchmarks.redecide [--documents N] [--workers W] [--json]`.

A store is made with a million documents (of no text) and the side tables that FineWeb's rules read: real artifacts, in
parts as large as those of 256 MiB of 5 KB texts, with values drawn so that a third of the documents fail something.
Then, for one threshold after another, the rules' step is made anew, from planning to the published manifest, with
workers that start for it; and the same question is asked of the store by `headrace rules --set`, which decides nothing.
It is asked once more where a step `best` follows, whose threshold the question has to find anew.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from headrace.filters.contract import Column
from headrace.filters.named_rules import compose_rules
from headrace.filters.rules import Rule, given_keys
from headrace.pipeline.artifacts import Planned, make_one, publish
from headrace.pipeline.engines import InlineEngine, PoolEngine
from headrace.pipeline.funnel import ask_rules
from headrace.pipeline.schema import DOCUMENTS, RECORDS, Commit, Ledger, Manifest, Tally, Task, TaskInput
from headrace.pipeline.stages.contract import Planning, Stage
from headrace.pipeline.stages.distinct import Distinct
from headrace.pipeline.stages.judge import Adopt, Rules
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.stages.read import Read, SourceConfig
from headrace.pipeline.stages.threshold import Threshold, threshold_rule
from headrace.pipeline.store import Store
from headrace.pipeline.tables import write_table
from headrace.pipeline.views import make_signal, side_table_schema

NUM_DOCUMENTS = 1_000_000
PART_DOCUMENTS = 52_000
"""Documents of a task of 256 MiB, at 5 KB a document."""

REQUIRED_SECONDS = 3.0
SETS = ("gopher", "c4", "fineweb")
MEASURED = (("gopher_repetition", "raw"), ("gopher_quality", "raw"), ("c4", "raw"), ("fineweb", "c4"))
BEST = "gopher_quality.mean_word_length"
THRESHOLDS = (0.66, 0.65, 0.64, 0.63, 0.62)

Upstream = dict[str, Manifest]


@dataclass(frozen=True)
class Timed:
    """Seconds of each repetition."""

    name: str
    seconds: Sequence[float]
    required: float | None

    def as_row(self) -> dict[str, Any]:
        """Return the figures as benchmarks print them."""
        median = statistics.median(self.seconds)
        spread = (max(self.seconds) - min(self.seconds)) / median
        row = {"name": self.name, "ours": round(median, 3), "peer": None, "unit": "seconds", "ratio": None}
        return {**row, "spread": round(spread, 3), "required": self.required}


def make_store(root: Path, num_documents: int, seed: int = 0) -> tuple[Store, Upstream]:
    """Make a store of documents and side tables that the rules read; return it with its artifacts by role."""
    store, random = Store.open(root), np.random.default_rng(seed)
    sizes = [min(PART_DOCUMENTS, num_documents - start) for start in range(0, num_documents, PART_DOCUMENTS)]
    ids = [_doc_ids(size, random) for size in sizes]
    source = SourceConfig(name="web", reader="text", extractor="plain")
    read = Read(sources=(source,), sample=None, limit=None)
    inputs = [TaskInput(role="web", content=f"{part:064x}", path="/none", size=0) for part in range(len(sizes))]
    upstream: Upstream = {}
    documents = [_documents(part) for part in ids]
    upstream["documents"] = _published(store, "read", read, [read.task([one]) for one in inputs], {}, documents)
    for name, view in MEASURED:
        stage = Measure(signal=name, view=view)
        tasks = stage.plan(Planning(store, upstream))
        tables = [_side_table(stage, part, random) for part in documents]
        upstream[f"signals:{stage.id}"] = _published(store, f"measure {stage.id}", stage, tasks, upstream, tables)
    engine = InlineEngine()
    upstream["findings:distinct"] = make_one("distinct", Distinct(), upstream, store, engine)
    upstream["verdicts"] = make_one("distinct verdicts", Adopt(findings="distinct"), upstream, store, engine)
    return store, upstream


def _published(
    store: Store, label: str, stage: Stage, tasks: Sequence[Task], upstream: Upstream, tables: Sequence[pa.RecordBatch]
) -> Manifest:
    """Publish tables as what tasks of a stage made."""
    for task, batch in zip(tasks, tables, strict=True):
        tally = Tally(records=batch.num_rows, bytes=int(np.sum(batch.column("text_bytes").to_numpy())))
        files = {stage.table: write_table(store.new_file(task, stage.table), batch.schema, [batch], {})}
        if stage.table == "documents":
            files["records"] = write_table(store.new_file(task, "records"), RECORDS, [], {})
        store.commit(Commit(task=task, files=files, ledger=Ledger(input=tally, kept=tally, output=tally)))
    return publish(Planned(label, stage, tuple(tasks), Planning(store, upstream)))


def _doc_ids(size: int, random: Generator) -> pa.Array:
    digits = random.bytes(16 * size).hex()
    return pa.array([digits[start : start + 32] for start in range(0, len(digits), 32)])


def _documents(doc_ids: pa.Array) -> pa.RecordBatch:
    size = len(doc_ids)
    columns = {field.name: pa.nulls(size, field.type) for field in DOCUMENTS}
    columns |= {"doc_id": doc_ids, "text": pa.array([""] * size), "source": pa.array(["web"] * size)}
    columns["text_bytes"] = pa.array(np.full(size, 5000))
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=DOCUMENTS)


def _side_table(stage: Measure, documents: pa.RecordBatch, random: Generator) -> pa.RecordBatch:
    signal = make_signal(stage.signal, {})
    schema = side_table_schema(signal, stage.id)
    size = documents.num_rows
    columns = [documents.column("doc_id"), documents.column("text_bytes")]
    for column, field in zip(signal.columns, list(schema)[2:], strict=True):
        rules = [rule for rule in compose_rules(SETS) if rule.column == field.name]
        columns.append(_values(column, field, rules, size, random))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _values(column: Column, field: pa.Field, rules: Sequence[Rule], size: int, random: Generator) -> pa.Array:
    """Return values of a column: within the bounds of its rules, but for a few on either side, and fewer undefined."""
    if column.kind == "bool":
        return pa.array(random.random(size) < 1 / 40)
    if column.kind not in ("int", "float"):
        return pa.nulls(size, field.type)
    lows = [rule.min for rule in rules if rule.min is not None]
    highs = [rule.max for rule in rules if rule.max is not None]
    low = max(lows, default=0.0)
    high = min(highs, default=low + 1000)
    values = low + (high - low) * random.beta(2, 3, size)
    chance = random.random(size)
    if lows:
        values = np.where(chance < 1 / 80, low / 2, values)
    if highs:
        values = np.where(chance > 1 - 1 / 80, high * 2, values)
    if column.kind == "int":
        return pa.array(values.astype(np.int64))
    return pa.array(np.round(values, 9), mask=random.random(size) < 1 / 1000)


def time_decisions(store: Store, upstream: Upstream, workers: int) -> Timed:
    """Time the step of rules from planning to its manifest, each time with another threshold and new workers."""
    seconds = []
    for threshold in THRESHOLDS:
        rules = compose_rules(SETS, changes={"fineweb.short_line_ratio.max": threshold})
        stage = Rules(rules=tuple(given_keys(rule) for rule in rules))
        engine = PoolEngine(workers)
        start = time.perf_counter()
        make_one("rules", stage, upstream, store, engine)
        seconds.append(time.perf_counter() - start)
        engine.close()
    return Timed("a changed threshold decided anew", seconds, REQUIRED_SECONDS)


def time_questions(store: Store, upstream: Upstream) -> Timed:
    """Time the question what other thresholds would do, with samples, in this process."""
    manifest = _make_rules(store, upstream)
    return Timed("a changed threshold asked about", _ask(store, manifest), None)


def time_questions_of_best(store: Store, upstream: Upstream) -> Timed:
    """Time the same question where the rules are followed by a step `best`."""
    engine, before = InlineEngine(), {**upstream, "verdicts": _make_rules(store, upstream)}
    found = make_one("best 2", Threshold(column=BEST, share=0.1), before, store, engine)
    rule = threshold_rule(found, store, ties="keep", on_null="drop", reason="not_among_the_best")
    manifest = make_one("best 2 verdicts", Rules(rules=(rule,)), before, store, engine)
    return Timed("the same, before a step `best`", _ask(store, manifest), None)


def _make_rules(store: Store, upstream: Upstream) -> Manifest:
    stage = Rules(rules=tuple(given_keys(rule) for rule in compose_rules(SETS)))
    return make_one("rules", stage, upstream, store, InlineEngine())


def _ask(store: Store, manifest: Manifest) -> list[float]:
    path, seconds = store.artifact_folder(manifest.stage, manifest.key), []
    for threshold in THRESHOLDS:
        start = time.perf_counter()
        ask_rules(path, [f"fineweb.short_line_ratio <= {threshold}"])
        seconds.append(time.perf_counter() - start)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as a table, or as JSON."""
    parser = argparse.ArgumentParser(description="Time a changed threshold over a store of documents.")
    parser.add_argument("--documents", type=int, default=NUM_DOCUMENTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        store, upstream = make_store(Path(folder) / "store", options.documents)
        timed = [
            time_decisions(store, upstream, options.workers),
            time_questions(store, upstream),
            time_questions_of_best(store, upstream),
        ]
    rows = [one.as_row() for one in timed]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{options.documents:,} documents, {len(compose_rules(SETS))} rules, {options.workers} workers")
    for row in rows:
        print(f"{row['name']:36}{row['ours']:8.2f} s, spread {row['spread']:.0%}")


if __name__ == "__main__":
    main()
