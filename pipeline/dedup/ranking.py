"""Ranking: which of several duplicates survives, decided by what documents are and never by where they stand.

Documents are preferred, in this order: those that were taken down (what resembles them must be held back), those that
no later rule drops, those of an earlier source of `prefer`, those that the policy puts first, and of all the same the
smaller `doc_id`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.dedup.entries import Bools
from headrace.pipeline.errors import IntegrityError

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

Policy = Literal["first", "newest", "oldest", "longest", "shortest", "highest", "lowest"]
"""`first` is by `doc_id`; `highest` and `lowest` are by a column."""

_COLUMNS = {"newest": "date", "oldest": "date", "longest": "text_bytes", "shortest": "text_bytes"}
_DESCENDING = ("newest", "longest", "highest")


@dataclass(frozen=True)
class Survivor:
    """Which duplicate survives: `policy`, the `column` that it looks at, and sources in order of preference."""

    policy: Policy = "first"
    column: str | None = None
    prefer: tuple[str, ...] = ()

    def columns(self) -> list[str]:
        """Return the columns that are looked at, of documents (bare names) or signals."""
        looked = self.column if self.policy in ("highest", "lowest") else _COLUMNS.get(self.policy)
        return [*([looked] if looked else []), *(["source"] if self.prefer else [])]

    def grades(self, columns: dict[str, pa.ChunkedArray], num_rows: int, where: str) -> list[Float64s]:
        """Return numbers by which documents are preferred, the smaller the better, the first before the second.

        A document without a value (or with a date that cannot be read) comes last.

        Raises:
            IntegrityError: a column of numbers holds NaN.
        """
        grades = [_places(columns["source"], self.prefer)] if self.prefer else []
        if self.policy == "first":
            return grades or [np.zeros(num_rows)]
        name = self.columns()[0]
        values = _moments(columns[name]) if name == "date" else columns[name]
        numbers = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy()
        if np.isnan(numbers).sum() > values.null_count:
            raise IntegrityError(f"{where}: column {name!r} holds NaN; an undefined value is null")
        graded = -numbers if self.policy in _DESCENDING else numbers
        return [*grades, np.where(np.isnan(graded), np.inf, graded)]


def _places(sources: pa.ChunkedArray, prefer: Sequence[str]) -> Float64s:
    """Return where each source stands among the preferred ones; others come last."""
    places = pc.index_in(sources, value_set=pa.array(prefer, pa.string()))
    return np.asarray(pc.fill_null(places, len(prefer)).to_numpy(), np.float64)


def _moments(dates: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if date is None else parse_date(date) for date in dates.to_pylist()], pa.float64())


def parse_date(date: str) -> float | None:
    """Return a date in seconds since 1970, None where it has none of the forms that archives write.

    These are ISO 8601, the 14 digits of ARC files, and RFC 5322 (of HTTP). A date without a zone is in UTC.
    """
    date = date.strip()
    for form, parse in _FORMS:
        try:
            found = parse(date) if form.match(date) else None
        except (ValueError, TypeError, IndexError, OverflowError):  # the last where a number is too large for a time
            continue
        if found:
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None


def _fourteen_digits(date: str) -> datetime:
    return datetime.strptime(date, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[str], datetime]], ...] = (
    (re.compile(r"[0-9]{4}[-W]|[0-9]{8}(?![0-9])"), datetime.fromisoformat),
    (re.compile(r"[0-9]{14}$"), _fourteen_digits),
    (re.compile(""), parsedate_to_datetime),
)
"""How dates begin, and what reads them, which takes more for a date than it should: seconds since 1970 for a year."""


def rank(ids: npt.NDArray[np.uint64], grades: Sequence[Float64s], eligible: Bools, taken_down: Bools) -> Int64s:
    """Return the numbers of documents from the most to the least preferred."""
    keys = [ids[:, 1], ids[:, 0], *reversed(grades), ~eligible, ~taken_down]
    return np.lexsort(keys)
