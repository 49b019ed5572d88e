"""Bloom: passages that were mostly said before, told by a Bloom filter, in one pass over all documents in row order.

The way of DCLM's BFF (Li et al. 2024, arXiv:2406.11794, appendix on deduplication): of a paragraph the share of n-grams
that the filter has is looked up; if it reaches a threshold the paragraph goes, else its n-grams are put in. Memory is
the filter alone, whose size follows from how many n-grams are expected and how often it may be wrong. One task: what is
said first depends on the order of documents, which here is that of rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from headrace.filters.normalize import normalize_resources
from headrace.pipeline.dedup.entries import Bools
from headrace.pipeline.dedup.occurrences import REPEAT, Units
from headrace.pipeline.schema import Ledger, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns
from headrace.pipeline.views import RAW, Views, part_views

BATCH_ROWS = 512


@register
class BloomRepeats(Stage):
    """Finds passages of whose n-grams at least a share of `threshold` was said before, on `view`.

    The filter is made for `expected` n-grams and a share of `false_positives` among those that are new.
    """

    name: ClassVar[str] = "bloom"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "repeats"

    unit: Literal["line", "paragraph"] = "paragraph"
    n: int = Field(default=20, ge=1)
    threshold: float = Field(default=0.8, gt=0, le=1)
    expected: int = Field(ge=1)
    false_positives: float = Field(default=0.01, gt=0, lt=1)
    view: str = RAW

    def resources(self) -> dict[str, str]:
        """Return what decides words."""
        return dict(normalize_resources())

    def inputs(self) -> tuple[str, ...]:
        """Return the texts and the earlier verdicts."""
        return ("documents", "verdicts", *((f"signals:{self.view}",) if self.view != RAW else ()))

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts in order."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Read all texts, one after the other."""
        from headrace.filters.analysis.becoming import becoming
        from headrace.filters.analysis.bloom import empty_filter, filter_shape, passages_said_before

        bits, places = filter_shape(self.expected, self.false_positives)
        held, breaks, first_row, put = empty_filter(bits), 1 if self.unit == "line" else 2, 0, 0
        found = [np.zeros(0, REPEAT)]
        for views, counted in self._batches(task, store):
            utf8 = views.batch.utf8
            options = breaks, self.n, self.threshold, held, places, bits
            passages, more = passages_said_before(*utf8, counted, *options, *becoming(utf8.data))
            found.append(_as_repeats(passages, first_row))
            first_row, put = first_row + len(counted), put + int(more)
        file = store.put_file(task, self.table, np.concatenate(found).tobytes(), ".repeats")
        return Made({self.table: file}, Ledger(), {"ngrams": put, "filter_bits": bits, "places": places})

    def _batches(self, task: Task, store: Store) -> Iterator[tuple[Views, Bools]]:
        documents, verdicts = (input_paths(task, store, role) for role in ("documents", "verdicts"))
        removals: list[Path | None] = list(input_paths(task, store, f"signals:{self.view}"))
        for part, path in enumerate(documents):
            kept = read_columns(verdicts[part], ["kept"]).column("kept").fill_null(False).to_numpy()
            done = 0
            for batch, views in part_views(path, removals[part] if removals else None, BATCH_ROWS):
                yield views, kept[done : done + batch.num_rows]
                done += batch.num_rows


def _as_repeats(passages: Units, first_row: int) -> Units:
    repeats = np.empty(len(passages), REPEAT)
    repeats["row"], repeats["number"] = passages["row"] + first_row, passages["number"]
    return repeats
