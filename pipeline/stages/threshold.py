"""Threshold: the value that the best share of the documents reaches, among those that earlier verdicts kept.

The first pass of "keep the best 10 %": it reads one column and the verdicts of all parts, and writes one number. The
second pass is a plain rule with that number as its bound, so a part whose threshold did not change is not judged again.
Of `n` documents with a value, the best `ceil(share * n)` are meant, `share` taken as the decimal fraction it is written
as; the threshold is the worst value among those. Documents that share that value are all in or, with `ties = "drop"`,
all out, so nothing depends on the order of documents. Memory: 24 bytes a document.
"""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.schema import THRESHOLDS, Ledger, Manifest, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_aligned, read_columns, write_table
from headrace.pipeline.views import role_of_column


@register
class Threshold(Stage):
    """Finds the value that the best `share` of the kept documents reaches in a column of numbers."""

    name: ClassVar[str] = "threshold"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "thresholds"

    column: str
    share: float = Field(gt=0, le=1)
    best: Literal["highest", "lowest"] = "highest"

    def inputs(self) -> tuple[str, ...]:
        """Return the side table of the column and the earlier verdicts."""
        return (role_of_column(self.column), "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Gather the values of the kept documents and find the threshold."""
        values, total = self._load(task, store)
        row = {"column": self.column, **asdict(self.find(values))}
        batch = pa.RecordBatch.from_pylist([row], schema=THRESHOLDS)
        file = write_table(store.new_file(task, self.table), THRESHOLDS, [batch], {"task": task.key})
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def find(self, values: NDArray[np.float64]) -> "FoundThreshold":
        """Return the threshold among the values of the kept documents, in any order."""
        if not len(values):
            return FoundThreshold(None, 0, 0)
        limit = threshold(values, self.share, self.best)
        reached = np.count_nonzero(values >= limit if self.best == "highest" else values <= limit)
        return FoundThreshold(limit, len(values), int(reached))

    def _load(self, task: Task, store: Store) -> tuple[NDArray[np.float64], Tally]:
        """Return the defined values of the kept documents, and how many documents there are."""
        gathered, total = [np.zeros(0)], Tally()
        paths = zip(*(input_paths(task, store, role) for role in self.inputs()), strict=True)
        for signals_path, verdicts_path in paths:
            verdicts = read_columns(verdicts_path, ["doc_id", "kept", "text_bytes"])
            column = read_aligned(signals_path, [self.column], verdicts.column("doc_id"))[self.column]
            kept = pc.fill_null(verdicts.column("kept"), False)
            gathered.append(self.values(column, kept, signals_path))
            total += Tally(records=verdicts.num_rows, bytes=pc.sum(verdicts.column("text_bytes")).as_py() or 0)
        return np.concatenate(gathered), total

    def values(
        self, column: pa.ChunkedArray, kept: pa.ChunkedArray | pa.Array, where: Path | str
    ) -> NDArray[np.float64]:
        """Return the values of the kept documents that have one; raises IntegrityError for NaN and infinities."""
        values: NDArray[np.float64] = column.filter(kept).drop_null().to_numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise IntegrityError(f"{where}: column {self.column!r} holds NaN or infinity; an undefined value is null")
        return values


def threshold(values: NDArray[np.float64], share: float, best: Literal["highest", "lowest"]) -> float:
    """Return the worst of the best `ceil(share * n)` of `n` values (at least one)."""
    part = Fraction(repr(share))
    count = -(-len(values) * part.numerator // part.denominator)
    place = len(values) - count if best == "highest" else count - 1
    return float(np.partition(values, place)[place])


@dataclass(frozen=True)
class FoundThreshold:
    """What was found: the threshold, None where no kept document has a value; how many have one, how many reach it."""

    threshold: float | None
    documents: int
    reached: int

    @classmethod
    def load(cls, manifest: Manifest, store: Store) -> "FoundThreshold":
        """Read what an artifact of thresholds holds."""
        (row,) = read_columns(store.part_path(manifest, 0)).to_pylist()
        return cls(row["threshold"], row["documents"], row["reached"])


def rule_bound(threshold: float | None, best: Literal["highest", "lowest"]) -> dict[str, float]:
    """Return the bound that keeps what reaches a threshold, as recipes write it.

    Where no kept document has a value it is 0, which judges none; `on_null` decides about them all.
    """
    return {"min" if best == "highest" else "max": 0.0 if threshold is None else threshold}


def threshold_rule(manifest: Manifest, store: Store, *, ties: str, on_null: str, reason: str) -> dict[str, Any]:
    """Return the rule that keeps what reaches a threshold that was found, as recipes write rules."""
    stage = Threshold.model_validate(manifest.config)
    (bound, value), *_ = rule_bound(FoundThreshold.load(manifest, store).threshold, stage.best).items()
    rule = {"column": stage.column, bound: value, "reason": reason}
    rule |= {f"{bound}_open": True} if ties == "drop" else {}
    return rule | ({"on_null": on_null} if on_null != "drop" else {})
