"""Signals by id, and the texts they are measured on.

A signal's id is its name (its own, or what a recipe calls it with `as`) on the raw view (`gopher_quality`) and
`name@view` on another (`fineweb@c4`): there it is measured on the text without the spans that signal `c4` removes. A
column is `id.column`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.filters.contract import SIGNALS, Column, Signal, TextBatch
from headrace.filters.spans import Span, SpanColumn, View
from headrace.filters.utf8 import Int64s, Utf8
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.registry import make_registered
from headrace.pipeline.schema import SPANS
from headrace.pipeline.tables import read_batches, read_schema, rows_beside, same_rows, take_rows

RAW = "raw"

_LARGE_BYTES = 32 << 20
"""Of one batch: above that its analyses, several times as large, are not kept from one signal to the next."""

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


def role_of_column(column: str) -> str:
    """Return the role of the table that a column is in; a bare name is a document's."""
    signal = id_of_column(column)
    return f"signals:{signal}" if signal else "documents"


def roles_of_columns(columns: Iterable[str]) -> dict[str, list[str]]:
    """Return column ids, each once and sorted, by the role of the table with them."""
    roles: dict[str, list[str]] = {}
    for column in sorted(set(columns)):
        roles.setdefault(role_of_column(column), []).append(column)
    return roles


def make_signal(name: str, options: Mapping[str, Any], plugin: str = "") -> Signal:
    """Return a configured signal; `plugin` is the module that defines it, where a recipe had to name one.

    Raises:
        RecipeError: there is no such signal or it has no such option.
    """
    signal: Signal = make_registered(SIGNALS, name, options, plugin)
    return signal


def span_column(view: str, columns: Iterable[Column]) -> str:
    """Return the column whose spans make a view: the one column of that signal that holds removals.

    Raises:
        RecipeError: the signal has no such column.
    """
    names = [column.name for column in columns if column.kind == "spans"]
    if len(names) != 1:
        raise RecipeError(f"signal {view!r} makes no view: it has {len(names)} columns of spans, a view needs one")
    return f"{view}.{names[0]}"


def side_table_schema(signal: Signal, name: str) -> pa.Schema:
    """Return the Arrow schema of the side table that a signal fills; `name` is the signal's id there."""
    return table_schema(name, signal.columns)


def table_schema(name: str, columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of a side table with these columns, all of which are called after `name`."""
    fields = [(f"{name}.{column.name}", ARROW_TYPES[column.kind]) for column in columns]
    return pa.schema([("doc_id", pa.string()), ("text_bytes", pa.int64()), *fields])


def to_spans(value: Sequence[Mapping[str, Any]] | None) -> list[Span]:
    """Return the spans of one row of a span column."""
    return [Span(item["start"], item["end"], item["label"], item["replacement"]) for item in value or ()]


class Views:
    """The texts of one batch of documents, and what spans on the view mean in the extracted text.

    `texts` and `urls` are columns of documents, `removals` the column of spans whose edits make the view, or None.
    """

    def __init__(self, texts: pa.Array, urls: pa.Array, removals: pa.Array | None) -> None:
        self._texts, self._removals = texts, removals
        utf8 = utf8_of(texts)
        if removals is not None:
            utf8 = self._edited(utf8, removals)
        self.batch = TextBatch.from_utf8(*utf8, [url or "" for url in urls.to_pylist()])

    def _edited(self, utf8: Utf8, removals: pa.Array) -> Utf8:
        """Return the texts after their edits: all at once where spans are in order, as a signal's mostly are."""
        from headrace.filters.analysis.editing import apply_in_order, are_in_order

        first_span, values = list_parts(removals)
        starts, ends = (values.field(name).to_numpy(zero_copy_only=False) for name in ("start", "end"))
        if not are_in_order(*utf8, starts, ends, first_span):
            return Utf8.of([view.text for view in self._views])
        replacements = utf8_of(values.field("replacement").fill_null(""))
        return Utf8(*apply_in_order(*utf8, starts, ends, first_span, *replacements))

    @cached_property
    def _views(self) -> list[View]:
        """Each text with its edits, as is needed to carry spans on the view back."""
        assert self._removals is not None
        pairs = zip(self._texts.to_pylist(), self._removals.to_pylist(), strict=True)
        return [View.without(text, to_spans(spans)) for text, spans in pairs]

    def measure(self, signal: Signal) -> list[pa.Array]:
        """Return the signal's columns as Arrow arrays, spans as offsets into the extracted text."""
        measured = signal.measure(self.batch)
        if len(self.batch.utf8.data) > _LARGE_BYTES:
            self.batch.forget_analyses()
        return [self._array(measured[column.name], column.kind) for column in signal.columns]

    def to_source(self, row: int, starts: Int64s, ends: Int64s) -> tuple[Int64s, Int64s]:
        """Return where ranges of a view begin and end in the extracted text; what was removed between is in them."""
        if self._removals is None:
            return starts, ends
        ranges = [Span(start, end, "", None) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        moved = self._views[row].to_source(ranges)
        return np.array([span.start for span in moved], np.int64), np.array([span.end for span in moved], np.int64)

    def _array(self, values: Sequence[Any], kind: str) -> pa.Array:
        if kind != "spans":
            return pa.array(values, ARROW_TYPES[kind], from_pandas=False)
        if isinstance(values, SpanColumn) and self._removals is None:
            return span_array(values)
        moved = [self._to_source(row, spans) for row, spans in enumerate(values)]
        rows = [None if spans is None else [span._asdict() for span in spans] for spans in moved]
        return pa.array(rows, SPANS)

    def _to_source(self, row: int, spans: Sequence[Span] | None) -> list[Span] | None:
        if spans is None or self._removals is None:
            return None if spans is None else list(spans)
        return self._views[row].to_source(spans)


def part_views(documents: Path, removals: Path | None, batch_rows: int) -> Iterator[tuple[pa.RecordBatch, Views]]:
    """Yield all texts of a part, in batches with their `doc_id`, `url` and `text_bytes`; see `chosen_views`."""
    batches = read_batches(documents, ["doc_id", "text", "url", "text_bytes"], batch_rows=batch_rows)
    if removals is None:
        for batch in batches:
            yield batch, Views(batch.column("text"), batch.column("url"), None)
        return
    (column,) = (column.name for column in read_schema(removals) if column.type == SPANS)
    for batch, beside in rows_beside(removals, ["doc_id", column], batches):
        same_rows(batch.column("doc_id"), beside.column("doc_id"), removals)
        yield batch, Views(batch.column("text"), batch.column("url"), beside.column(column))


def chosen_views(documents: Path, removals: Path | None, rows: Int64s) -> Iterator[Views]:
    """Yield the texts of some rows of a part, ascending, in batches; `removals` is the table whose spans make the view.

    Raises:
        IntegrityError: the tables do not hold the same documents.
    """
    ids = ["doc_id", "text", "url"]
    if removals is None:
        for batch in take_rows(documents, ids, rows):
            yield Views(batch.column("text"), batch.column("url"), None)
        return
    (column,) = (column.name for column in read_schema(removals) if column.type == SPANS)
    spans = take_rows(removals, ["doc_id", column], rows)
    for batch, beside in zip(take_rows(documents, ids, rows), spans, strict=True):
        same_rows(batch.column("doc_id"), beside.column("doc_id"), removals)
        yield Views(batch.column("text"), batch.column("url"), beside.column(column))


def utf8_of(texts: pa.Array) -> Utf8:
    """Return a column of strings, none of them null, as bytes end to end, without copying them."""
    if not len(texts):
        return Utf8.of([])
    large = texts.cast(pa.large_string())
    _, offsets, data = large.buffers()
    first = np.frombuffer(offsets, np.int64, len(large) + 1, large.offset * 8)
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return Utf8(held[first[0] : first[-1]], first - first[0])


def list_parts(lists: pa.Array) -> tuple[Int64s, pa.Array]:
    """Return where each list of a column begins in its values (and, last, where they end), and the values."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]), lists.flatten()


def span_array(spans: SpanColumn) -> pa.Array:
    """Return spans as Arrow has them."""
    labels, replacements = (pa.array([kind[part] for kind in spans.kinds], pa.string()) for part in (0, 1))
    fields = [pa.array(spans.starts), pa.array(spans.ends), labels.take(spans.labels), replacements.take(spans.labels)]
    values = pa.StructArray.from_arrays(fields, fields=list(SPANS.value_type))
    return pa.ListArray.from_arrays(pa.array(spans.offsets, pa.int32()), values, type=SPANS)
