"""Repeats: which stretches of text occur elsewhere, written beside each document like a signal.

Three stages: the units of each part's texts as hashes (a task a part, for all documents), which of them occur twice or
more among the documents that are left (a task a range of hashes), and the side table with the spans of those that
should go (a task a part, which reads the texts again of documents that have any). Units are windows of words (Lee et
al. 2022, arXiv:2107.06499, exact substrings: every run of at least as many words that occurs elsewhere is covered by
them), lines or paragraphs (Wenzek et al. 2020, arXiv:1911.00359, section 3.1).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from headrace.filters.contract import Column, TextBatch
from headrace.filters.lsh import mix
from headrace.filters.normalize import normalize_resources
from headrace.filters.words import word_resources
from headrace.pipeline.dedup.candidates import Int64s
from headrace.pipeline.dedup.entries import Bools, Uint64s
from headrace.pipeline.dedup.occurrences import (
    REPEAT,
    STORED,
    Keep,
    Units,
    between,
    by_hash,
    find_repeats,
    first_at_least,
    open_array,
)
from headrace.pipeline.doc_ids import id_words
from headrace.pipeline.schema import Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, write_table
from headrace.pipeline.views import RAW, Views, chosen_views, part_views, table_schema

Unit = Literal["window", "line", "paragraph"]

BATCH_ROWS = 512
BYTES_OF_OCCURRENCE = 96
"""What an occurrence takes in memory while repeats are found."""

COLUMNS = (
    Column("repeats", "spans", "what occurs elsewhere, but for its first occurrence; label `repeat`"),
    Column("num_repeats", "int", "units that occur elsewhere and should go"),
    Column("repeated_frac", "float", "bytes of the text that they are; null of an empty text"),
    Column("longest_repeat", "int", "bytes of the longest span"),
)


class _OfUnits(Stage):
    """What says which units a text has: `words` of a window, `least` characters of a line or paragraph."""

    unit: Unit
    words: int = Field(default=50, ge=1)
    least: int = Field(default=1, ge=1)
    view: str = RAW

    def resources(self) -> dict[str, str]:
        """Return what decides the words, or what a line is compared as."""
        return dict(word_resources("english") if self.unit == "window" else normalize_resources())

    def texts(self) -> tuple[str, ...]:
        """Return the roles that the texts are read from."""
        return ("documents", *((f"signals:{self.view}",) if self.view != RAW else ()))

    @property
    def breaks(self) -> int:
        """How many line feeds end a unit."""
        return 1 if self.unit == "line" else 2


@register
class HashUnits(_OfUnits):
    """Hashes the units of one part; with a `salt` they equal those of other parts no more."""

    name: ClassVar[str] = "units"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "units"

    per_part: bool = False
    salt: int = 0

    def inputs(self) -> tuple[str, ...]:
        """Return the texts."""
        return self.texts()

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part."""
        columns = zip(*(planning.part_inputs(role) for role in self.inputs()), strict=True)
        return [self.task(inputs, salt=number + 1 if self.per_part else 0) for number, inputs in enumerate(columns)]

    def run(self, task: Task, store: Store) -> Made:
        """Hash one part."""
        paths = [input_paths(task, store, role)[0] for role in self.inputs()]
        total, found = Tally(), [np.zeros(0, STORED)]
        for batch, views in part_views(paths[0], paths[1] if len(paths) > 1 else None, BATCH_ROWS):
            units = self.units(views.batch, total.records)
            units["hash"] ^= mix(np.array([self.salt], np.uint64))
            found.append(by_hash(units))
            total += Tally(records=batch.num_rows, bytes=pc.sum(batch.column("text_bytes")).as_py() or 0)
        together = by_hash(np.concatenate(found))
        file = store.put_file(task, self.table, together.tobytes(), ".units")
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def units(self, batch: TextBatch, first_row: int) -> Units:
        """Return the units of some texts, the first of which is in that row."""
        from headrace.filters.analysis.becoming import becoming
        from headrace.filters.analysis.repeat_units import hash_lines, hash_windows

        if self.unit == "window":
            found: Units = hash_windows(*batch.word_table, self.words, first_row)
            return found
        tables = becoming(batch.utf8.data)
        lines: Units = hash_lines(*batch.utf8, self.breaks, self.least, first_row, *tables)
        return lines


@register
class FindRepeats(Stage):
    """Finds the units of one of `partitions` ranges of hashes that occur again among the documents that are left."""

    name: ClassVar[str] = "repeats"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "repeats"

    keep: Keep = "first"
    partition: int = Field(default=0, ge=0)
    partitions: int = Field(default=1, ge=1)

    def inputs(self) -> tuple[str, ...]:
        """Return the units and the earlier verdicts."""
        return ("units", "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a range, each over all parts."""
        items = [item for role in self.inputs() for item in planning.part_inputs(role)]
        return [self.task(items, partition=number) for number in range(self.partitions)]

    @classmethod
    def num_partitions(cls, planning: Planning, task_bytes: int) -> int:
        """Return how many ranges keep a task within `task_bytes`."""
        occurrences = sum(item.size for item in planning.part_inputs("units")) // STORED.itemsize
        return max(1, -(-occurrences * BYTES_OF_OCCURRENCE // task_bytes))

    def run(self, task: Task, store: Store) -> Made:
        """Find the repeats of one range."""
        found = find_repeats(self._parts(task, store), self.keep)
        return Made({self.table: store.put_file(task, self.table, found.tobytes(), ".repeats")}, Ledger())

    def _parts(self, task: Task, store: Store) -> Iterator[tuple[Units, Bools, Uint64s]]:
        for units, verdicts in zip(*(input_paths(task, store, role) for role in self.inputs()), strict=True):
            table = read_columns(verdicts, ["doc_id", "kept"])
            kept = table.column("kept").fill_null(False).to_numpy()
            mine = between(open_array(units, STORED), self.partition, self.partitions)
            yield mine, kept, id_words(table.column("doc_id"))


@register
class MarkRepeats(_OfUnits):
    """Writes the side table called `signal`: which spans of each document of a part are repeats."""

    name: ClassVar[str] = "marked_repeats"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "signals"

    signal: str
    first_row: int = 0

    def inputs(self) -> tuple[str, ...]:
        """Return the texts and the repeats."""
        return (*self.texts(), "repeats")

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part, over all ranges."""
        repeats, first_row, tasks = planning.part_inputs("repeats"), 0, []
        columns = zip(*(planning.part_inputs(role) for role in self.texts()), strict=True)
        for part, inputs in zip(planning.upstream["documents"].parts, columns, strict=True):
            tasks.append(self.task([*inputs, *repeats], first_row=first_row))
            first_row += part.files["documents"].rows or 0
        return tasks

    def run(self, task: Task, store: Store) -> Made:
        """Mark the repeats of one part."""
        paths = [input_paths(task, store, role)[0] for role in self.texts()]
        documents = read_columns(paths[0], ["doc_id", "text_bytes"])
        repeats = self._own(input_paths(task, store, "repeats"), documents.num_rows)
        spans = self._spans(paths[0], paths[1] if len(paths) > 1 else None, repeats)
        schema, total = table_schema(self.signal, COLUMNS), Tally(records=documents.num_rows)
        total += Tally(bytes=pc.sum(documents.column("text_bytes")).as_py() or 0)
        batches = self._batches(documents, repeats, spans, schema)
        file = write_table(store.new_file(task, self.table), schema, batches, {"task": task.key})
        return Made({self.table: file}, Ledger(input=total, kept=total, output=total))

    def _own(self, paths: list[Path], num_rows: int) -> Units:
        """Return the repeats of this part by row and number, rows counted within the part."""
        found = [np.zeros(0, REPEAT)]
        for path in paths:
            repeats = open_array(path, REPEAT)
            start, end = (first_at_least(repeats, "row", row) for row in (self.first_row, self.first_row + num_rows))
            found.append(np.array(repeats[start:end]))
        own = np.concatenate(found)
        own["row"] -= np.uint64(self.first_row)
        return own[np.lexsort((own["number"], own["row"]))]

    def _spans(self, documents: Path, removals: Path | None, repeats: Units) -> Iterator[tuple[int, Int64s]]:
        """Yield each row that has repeats, and its spans as rows of [start, end)."""
        rows, first = np.unique(repeats["row"].astype(np.int64), return_index=True)
        numbers = np.split(repeats["number"].astype(np.int64), first[1:]) if len(rows) else []
        done = 0
        for views in chosen_views(documents, removals, rows):
            for place in range(len(views.batch)):
                ranges = self._ranges(views, place, numbers[done])
                yield int(rows[done]), np.stack(views.to_source(place, *_merged(ranges)), axis=1)
                done += 1

    def _ranges(self, views: Views, place: int, numbers: Int64s) -> Int64s:
        """Return where some units of a text lie in it."""
        from headrace.filters.analysis.repeat_units import line_ranges

        data, offsets = views.batch.utf8
        if self.unit != "window":
            lines: Int64s = line_ranges(data[offsets[place] : offsets[place + 1]], self.breaks)
            return lines[numbers]
        table = views.batch.word_table
        words = table.words[table.first[place] : table.first[place + 1]]
        ends, sizes = words["end"].astype(np.int64), words["num_bytes"].astype(np.int64)
        starts = ends - sizes
        ranges: Int64s = np.stack([starts[numbers], ends[numbers + self.words - 1]], axis=1) - offsets[place]
        return ranges

    def _batches(
        self, documents: pa.Table, repeats: Units, spans: Iterator[tuple[int, Int64s]], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        counts = np.bincount(repeats["row"].astype(np.int64), minlength=documents.num_rows)
        waiting = next(spans, None)
        for start in range(0, documents.num_rows, 4096):
            rows: list[dict[str, Any]] = []
            for offset, document in enumerate(documents.slice(start, 4096).to_pylist()):
                own = np.zeros((0, 2), np.int64)
                if waiting is not None and waiting[0] == start + offset:
                    own, waiting = waiting[1], next(spans, None)
                values = _columns(own, int(counts[start + offset]), document["text_bytes"])
                rows.append(document | {f"{self.signal}.{name}": value for name, value in values.items()})
            yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _merged(ranges: Int64s) -> tuple[Int64s, Int64s]:
    """Return the starts and ends of ranges, whose starts ascend, after those that overlap or touch became one."""
    ends = np.maximum.accumulate(ranges[:, 1])
    begins = np.append(True, ranges[1:, 0] > ends[:-1])
    return ranges[begins, 0], ends[np.append(begins[1:], True)]


_REMOVAL = {"label": "repeat", "replacement": None}


def _columns(spans: Int64s, num_repeats: int, text_bytes: int) -> dict[str, Any]:
    sizes = spans[:, 1] - spans[:, 0]
    return {
        "repeats": [
            {"start": start, "end": end, "label": "repeat", "replacement": None} for start, end in spans.tolist()
        ],
        "num_repeats": num_repeats,
        "repeated_frac": int(sizes.sum()) / text_bytes if text_bytes else None,
        "longest_repeat": int(sizes.max()) if len(sizes) else 0,
    }
