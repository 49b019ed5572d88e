"""Which documents may be duplicates: those that earlier verdicts kept, and those that were taken down.

What was taken down is in no corpus, but what resembles it must not take its place.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from headrace.pipeline.dedup.entries import Bools
from headrace.pipeline.tables import read_columns

SUPPRESSED = "suppressed"
SUPPRESSIONS = "findings:suppress"


def suppressed_rows(findings: Sequence[Path]) -> set[int]:
    """Return the numbers of the documents, over all parts, that were taken down."""
    rows: set[int] = set()
    for path in findings:
        found = read_columns(path, ["row", "reason"])
        rows.update(found.filter(pc.equal(found.column("reason"), SUPPRESSED)).column("row").to_pylist())
    return rows


def member_flags(verdicts: Sequence[Path], taken_down: set[int]) -> Iterator[Bools]:
    """Yield for each part which of its documents may be duplicates of others."""
    kept = (read_columns(path, ["kept"]).column("kept").fill_null(False).to_numpy() for path in verdicts)
    yield from with_taken_down(kept, taken_down)


def with_taken_down(parts: Iterable[Bools], taken_down: set[int]) -> Iterator[Bools]:
    """Yield the flags of each part, true also for those that were taken down."""
    rows, first_row = np.array(sorted(taken_down), np.int64), 0
    for flags in parts:
        low, high = np.searchsorted(rows, [first_row, first_row + len(flags)])
        members = flags.copy()
        members[rows[low:high] - first_row] = True
        yield members
        first_row += len(flags)
