"""Signals by id, and the texts they are measured on.

A signal's id is its name (its own, or what a recipe calls it with `as`) on the raw view (`gopher_quality`) and
`name@view` on another (`fineweb@c4`): there it is measured on the text without the spans that signal `c4` removes. A
column is `id.column`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from headrace.filters.contract import SIGNALS, Signal, TextBatch
from headrace.filters.spans import Span, View
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.registry import make_registered
from headrace.pipeline.schema import SPANS

RAW = "raw"

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "spans": SPANS,
    "hashes": pa.binary(),
}


def signal_id(name: str, view: str) -> str:
    """Return the id of a signal measured on a view."""
    return name if view == RAW else f"{name}@{view}"


def id_of_column(column: str) -> str:
    """Return the signal id that a column such as `fineweb@c4.line_punct_ratio` belongs to."""
    return column.rpartition(".")[0]


def make_signal(name: str, options: Mapping[str, Any]) -> Signal:
    """Return a configured signal.

    Raises:
        RecipeError: there is no such signal or it has no such option.
    """
    signal: Signal = make_registered(SIGNALS, name, options)
    return signal


def span_column(view: str) -> str:
    """Return the column whose spans make a view: the one column of that signal that holds removals.

    Raises:
        RecipeError: the signal has no such column.
    """
    columns = [column.name for column in make_signal(view, {}).columns if column.kind == "spans"]
    if len(columns) != 1:
        raise RecipeError(f"signal {view!r} makes no view: it has {len(columns)} columns of spans, a view needs one")
    return f"{view}.{columns[0]}"


def side_table_schema(signal: Signal, name: str) -> pa.Schema:
    """Return the Arrow schema of the side table that a signal fills; `name` is the signal's id there."""
    fields = [(f"{name}.{column.name}", ARROW_TYPES[column.kind]) for column in signal.columns]
    return pa.schema([("doc_id", pa.string()), ("text_bytes", pa.int64()), *fields])


def to_spans(value: Sequence[Mapping[str, Any]] | None) -> list[Span]:
    """Return the spans of one row of a span column."""
    return [Span(item["start"], item["end"], item["label"], item["replacement"]) for item in value or ()]


class Views:
    """The texts of one batch of documents, and what spans on the view mean in the extracted text."""

    def __init__(self, texts: Sequence[str], urls: Sequence[str | None], removals: Sequence[Any] | None) -> None:
        self._views: list[View] | None = None
        if removals is not None:
            self._views = [View.without(text, to_spans(spans)) for text, spans in zip(texts, removals, strict=True)]
            texts = [view.text for view in self._views]
        self.batch = TextBatch(texts, [url or "" for url in urls])

    def measure(self, signal: Signal) -> list[pa.Array]:
        """Return the signal's columns as Arrow arrays, spans as offsets into the extracted text."""
        measured = signal.measure(self.batch)
        return [self._array(measured[column.name], column.kind) for column in signal.columns]

    def _array(self, values: Sequence[Any], kind: str) -> pa.Array:
        if kind == "spans":
            moved = [self._to_source(row, spans) for row, spans in enumerate(values)]
            values = [None if spans is None else [span._asdict() for span in spans] for spans in moved]
        return pa.array(values, ARROW_TYPES[kind], from_pandas=False)

    def _to_source(self, row: int, spans: Sequence[Span] | None) -> list[Span] | None:
        if spans is None or self._views is None:
            return None if spans is None else list(spans)
        return self._views[row].to_source(spans)
