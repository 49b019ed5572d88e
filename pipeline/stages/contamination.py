"""Contamination: how much of which evaluation items each document holds, written beside it like a signal.

Four stages: the index of the evaluation sets (one task), the n-grams of it that stand in each document (a task a part),
how many documents have each (one task), and the side table that rules and `cut` read (a task a part). An n-gram that
stands in more than `max_documents` of the documents that are left is common and says nothing (Brown et al. 2020,
arXiv:2005.14165, appendix C, where that is 10): it has no weight, others weigh 1/number of documents.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from headrace.filters.contract import Column
from headrace.filters.normalize import normalize_resources
from headrace.filters.utf8 import Int64s
from headrace.pipeline.contamination.index import EvaluationIndex
from headrace.pipeline.contamination.items import read_items
from headrace.pipeline.schema import MATCHES, Ledger, Tally, Task, TaskInput
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches, read_columns, same_rows, write_table
from headrace.pipeline.views import RAW, part_views, table_schema

BATCH_ROWS = 512
MOST_EVIDENCE, MOST_CHARACTERS = 3, 240
ONE = 1 << 20
"""The weight of an n-gram that stands in one document."""

WINDOW = np.dtype([("ngram", "<u4"), ("start", "<u4"), ("end", "<u4")])

COLUMNS = (
    Column("spans", "spans", "runs of words that an evaluation item has too, and that are not common"),
    Column("num_ngrams", "int", "different n-grams of evaluation items"),
    Column("rare_ngrams", "int", "those of them that are not common"),
    Column("item_frac", "float", "largest share of an item's n-grams"),
    Column("weighted_frac", "float", "the same by weight; null where all that was found is common"),
    Column("benchmark", "string", "the set of the item that `weighted_frac` is of, else `item_frac`"),
    Column("item", "string", "which of its items that is"),
    Column("evidence", "string", "JSON: the items that it holds most of, with the first words that are the same"),
)


@register
class IndexEvaluation(Stage):
    """Indexes n-grams of evaluation sets; `sets` has of each its name, fields, records, and the field of names."""

    name: ClassVar[str] = "evaluation_index"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "index"

    sets: tuple[dict[str, Any], ...]
    n: int = Field(default=13, ge=1)
    min_words: int = Field(default=8, ge=1)

    def resources(self) -> dict[str, str]:
        """Return what decides words."""
        return dict(normalize_resources())

    def inputs(self) -> tuple[str, ...]:
        """Return nothing: the sets are raw files."""
        return ()

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task."""
        inputs = [
            TaskInput(role=one["name"], content=file.sha256, path=str(file.path), size=file.size)
            for one in self.sets
            for file in planning.files[source_name(one["name"])]
        ]
        return [self.task(inputs)]

    def run(self, task: Task, store: Store) -> Made:
        """Read the sets and index them."""
        items = (item for one in self.sets for item in self._items(one, task))
        index = EvaluationIndex.build(items, self.n, self.min_words)
        file = store.put_file(task, self.table, index.to_bytes(), ".npz")
        searchable = int(np.count_nonzero(index.num_ngrams))
        facts: dict[str, int | str] = {"items": len(index.names), "searchable_items": searchable}
        return Made({self.table: file}, Ledger(), {**facts, "ngrams": len(index.keys)})

    def _items(self, one: dict[str, Any], task: Task) -> Iterator[Any]:
        paths = [Path(item.path) for item in task.inputs if item.role == one["name"]]
        return read_items(one["name"], paths, one["fields"], one.get("records", ""), one.get("id", ""))


def source_name(benchmark: str) -> str:
    """Return under which name the files of a set stand among those of sources."""
    return f"evaluation:{benchmark}"


@register
class FindEvaluation(Stage):
    """Finds the n-grams of the index in the texts of one part, on `view`."""

    name: ClassVar[str] = "evaluation_matches"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "matches"

    view: str = RAW

    def resources(self) -> dict[str, str]:
        """Return what decides words."""
        return dict(normalize_resources())

    def inputs(self) -> tuple[str, ...]:
        """Return the index, the documents and the spans that make the view."""
        return ("index", "documents", *((f"signals:{self.view}",) if self.view != RAW else ()))

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        index = planning.part_inputs("index")
        columns = [planning.part_inputs(role) for role in self.inputs()[1:]]
        return [self.task([*index, *inputs]) for inputs in zip(*columns, strict=True)]

    def run(self, task: Task, store: Store) -> Made:
        """Look through the texts of a part."""
        (path,) = input_paths(task, store, "index")
        (documents,) = input_paths(task, store, "documents")
        removals = input_paths(task, store, f"signals:{self.view}") if self.view != RAW else []
        tallies = [Tally()]
        batches = self._batches(EvaluationIndex.open(path), documents, removals[0] if removals else None, tallies)
        file = write_table(store.new_file(task, self.table), MATCHES, batches, {"task": task.key})
        return Made({self.table: file}, Ledger(input=tallies[0], kept=tallies[0]))

    def _batches(
        self, index: EvaluationIndex, documents: Path, removals: Path | None, tallies: list[Tally]
    ) -> Iterator[pa.RecordBatch]:
        for batch, views in part_views(documents, removals, BATCH_ROWS):
            found = index.find(views.batch.utf8)
            sizes = batch.column("text_bytes")
            tallies[0] += Tally(records=batch.num_rows, bytes=pc.sum(sizes).as_py() or 0)
            windows: list[bytes | None] = [None] * batch.num_rows
            texts: list[str | None] = [None] * batch.num_rows
            for row in np.flatnonzero(np.diff(found.first)).tolist():
                mine = slice(found.first[row], found.first[row + 1])
                starts, ends = found.starts[mine], found.ends[mine]
                text = views.batch.texts[row]
                texts[row] = json.dumps(_matched(text, starts, ends, found.ngrams[mine], index), ensure_ascii=False)
                starts, ends = views.to_source(row, starts, ends)
                made = np.empty(len(starts), WINDOW)
                made["ngram"], made["start"], made["end"] = found.ngrams[mine], starts, ends
                windows[row] = made.tobytes()
            columns = [batch.column("doc_id"), sizes, pa.array(windows, pa.binary()), pa.array(texts, pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=MATCHES)


def _matched(text: str, starts: Int64s, ends: Int64s, ngrams: Int64s, index: EvaluationIndex) -> list[dict[str, Any]]:
    """Return the items that a text holds most of, with the first words that are the same."""
    items, found, total = index.items_with(np.unique(ngrams))
    best = np.lexsort((items, -(found / total)))[:MOST_EVIDENCE]
    data = text.encode()
    shown = []
    for place in best.tolist():
        item = int(items[place])
        own = [
            n
            for n, ngram in enumerate(ngrams.tolist())
            if item in index.items[index.first[ngram] : index.first[ngram + 1]]
        ]
        end = _end_of_run(starts[own], ends[own])
        words = data[int(starts[own[0]]) : end].decode(errors="replace")
        name = {"benchmark": index.benchmarks[index.benchmark[item]], "item": index.names[item]}
        shown.append({**name, "found": int(found[place]), "of": int(total[place]), "text": words[:MOST_CHARACTERS]})
    return shown


def _end_of_run(starts: Int64s, ends: Int64s) -> int:
    """Return where the first run of overlapping windows ends; starts ascend."""
    end = int(ends[0])
    for start, stop in zip(starts.tolist(), ends.tolist(), strict=True):
        if start > end:
            break
        end = max(end, stop)
    return end


@register
class CountEvaluation(Stage):
    """Counts for each n-gram the documents that have it, among those that earlier verdicts kept."""

    name: ClassVar[str] = "evaluation_counts"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "counts"

    def inputs(self) -> tuple[str, ...]:
        """Return the index, the matches and the verdicts."""
        return ("index", "matches", "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Add up the parts."""
        (path,) = input_paths(task, store, "index")
        counts = np.zeros(len(EvaluationIndex.open(path).keys), np.int64)
        for matches, verdicts in zip(*(input_paths(task, store, role) for role in self.inputs()[1:]), strict=True):
            table = read_columns(matches, ["doc_id", "windows"])
            kept = read_columns(verdicts, ["doc_id", "kept"])
            same_rows(table.column("doc_id"), kept.column("doc_id"), matches)
            chosen = pc.and_(pc.fill_null(kept.column("kept"), False), table.column("windows").is_valid())
            for windows in table.column("windows").filter(chosen).to_pylist():
                counts[np.unique(np.frombuffer(windows, WINDOW)["ngram"])] += 1
        file = store.put_file(task, self.table, counts.astype("<i8").tobytes(), ".counts")
        return Made({self.table: file}, Ledger())


@register
class Contamination(Stage):
    """Writes the side table called `signal`; n-grams of more than `max_documents` documents are common."""

    name: ClassVar[str] = "contamination"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "signals"

    signal: str
    max_documents: int = Field(default=10, ge=1)

    def inputs(self) -> tuple[str, ...]:
        """Return the index, the counts and the matches."""
        return ("index", "counts", "matches")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        shared = [*planning.part_inputs("index"), *planning.part_inputs("counts")]
        return [self.task([*shared, item]) for item in planning.part_inputs("matches")]

    def run(self, task: Task, store: Store) -> Made:
        """Weigh what was found in one part."""
        paths = [input_paths(task, store, role)[0] for role in self.inputs()]
        weigher = Weigher.open(paths[0], paths[1], self.max_documents)
        schema, tallies = table_schema(self.signal, COLUMNS), [Tally()]
        batches = self._batches(weigher, paths[2], schema, tallies)
        file = write_table(store.new_file(task, self.table), schema, batches, {"task": task.key})
        return Made({self.table: file}, Ledger(input=tallies[0], kept=tallies[0], output=tallies[0]))

    def _batches(
        self, weigher: "Weigher", path: Path, schema: pa.Schema, tallies: list[Tally]
    ) -> Iterator[pa.RecordBatch]:
        for batch in read_batches(path, batch_rows=4096):
            tallies[0] += Tally(records=batch.num_rows, bytes=pc.sum(batch.column("text_bytes")).as_py() or 0)
            rows = []
            for row in batch.to_pylist():
                found = weigher.row(row["windows"], row["texts"])
                own = {f"{self.signal}.{name}": value for name, value in found.items()}
                rows.append({"doc_id": row["doc_id"], "text_bytes": row["text_bytes"], **own})
            yield pa.RecordBatch.from_pylist(rows, schema=schema)


_NOTHING: dict[str, Any] = {"spans": [], "num_ngrams": 0, "rare_ngrams": 0, "item_frac": 0.0, "weighted_frac": 0.0}


@dataclass(frozen=True)
class Weigher:
    """The index with the weight of each n-gram, 0 for those that are common."""

    index: EvaluationIndex
    weights: Int64s

    @classmethod
    def open(cls, index: Path, counts: Path, max_documents: int) -> "Weigher":
        """Read an index and how many documents have each of its n-grams."""
        documents = np.fromfile(counts, "<i8")
        return cls(EvaluationIndex.open(index), np.where(documents > max_documents, 0, ONE // np.maximum(documents, 1)))

    def row(self, windows: bytes | None, texts: str | None) -> dict[str, Any]:
        """Return the columns of one document."""
        if windows is None:
            return _NOTHING
        found = np.frombuffer(windows, WINDOW)
        ngrams = np.unique(found["ngram"]).astype(np.int64)
        items, num, total = self.index.items_with(ngrams)
        _, weight, weights = self.index.items_with(ngrams, self.weights)
        plain = num / total
        weighted = np.where(weights > 0, weight / np.maximum(weights, 1), -1.0)
        rare = self.weights[ngrams] > 0
        best = int(np.lexsort((items, -plain, -weighted))[0])
        item = int(items[best])
        return {
            "spans": self._spans(found[self.weights[found["ngram"]] > 0]),
            "num_ngrams": len(ngrams),
            "rare_ngrams": int(rare.sum()),
            "item_frac": float(plain.max()),
            "weighted_frac": float(weighted[best]) if weighted[best] >= 0 else None,
            "benchmark": self.index.benchmarks[self.index.benchmark[item]],
            "item": self.index.names[item],
            "evidence": texts,
        }

    def _spans(self, windows: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        """Return runs of overlapping windows, each by the name of the set that its first n-gram is of."""
        spans: list[dict[str, Any]] = []
        for window in windows[np.argsort(windows["start"], kind="stable")].tolist():
            ngram, start, end = window
            if spans and start <= spans[-1]["end"]:
                spans[-1]["end"] = max(spans[-1]["end"], end)
                continue
            item = self.index.items_of(ngram)[0]
            label = self.index.benchmarks[self.index.benchmark[item]]
            spans.append({"start": start, "end": end, "label": label, "replacement": None})
        return spans
