"""Measure: one signal on one view, written beside the documents, row by row.

Each signal has an artifact of its own, so that a new signal is a new pass for itself alone and a changed rule measures
nothing. Signals that are missing for the same part run as one bundle: the text is read once and its analysis shared.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import SerializerFunctionWrapHandler, model_serializer

from headrace.filters.contract import Signal
from headrace.filters.plugin_code import code_identity
from headrace.pipeline.schema import Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.stored_models import stored_stage, with_model
from headrace.pipeline.tables import TableWriter, table_writers
from headrace.pipeline.views import RAW, Views, make_signal, part_views, side_table_schema, signal_id

BATCH_ROWS = 512
MODEL = "model"
"""Role of a model that lies in the store."""


@register
class Measure(Stage):
    """Measures `signal` on `view` for every document; `alias` is what a recipe calls it, if not by its own name."""

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "signals"

    signal: str
    alias: str | None = None
    options: dict[str, Any] = {}
    view: str = RAW
    plugin: str = ""  # module that defines the signal, where a recipe had to name it

    @model_serializer(mode="wrap")
    def _without_what_is_not_named(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if value or name not in ("alias", "plugin")}

    @property
    def id(self) -> str:
        """The signal's id: `name` or `name@view`."""
        return signal_id(self.alias or self.signal, self.view)

    def make(self) -> Signal:
        """Return the configured signal."""
        return make_signal(self.signal, self.options, self.plugin)

    def resources(self) -> dict[str, str]:
        """Return the signal's version and all that it says can change its values."""
        signal = self.make()
        return {f"signal:{self.signal}": str(signal.version), **signal.resources(), **code_identity(type(signal))}

    def inputs(self) -> tuple[str, ...]:
        """Return the documents, the side table whose spans make the view, and the model if it lies in the store."""
        texts = ("documents",) if self.view == RAW else ("documents", f"signals:{self.view}")
        return texts if stored_stage(self.make()) is None else (*texts, MODEL)

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task a part of the documents."""
        roles = self.inputs()
        model = planning.part_inputs(MODEL) if MODEL in roles else []
        columns = [planning.part_inputs(role) for role in roles if role != MODEL]
        return [self.task([*inputs, *model]) for inputs in zip(*columns, strict=True)]

    @classmethod
    def bundles(cls, tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
        """Group the tasks that read the same texts on the same view."""

        def texts(task: Task) -> tuple[str, ...]:
            return tuple(item.content for item in task.inputs if item.role != MODEL)

        return [tuple(group) for _, group in groupby(sorted(tasks, key=texts), texts)]

    @classmethod
    def run_bundle(cls, tasks: Sequence[Task], store: Store) -> Iterator[tuple[Task, Made]]:
        """Measure all signals of the bundle in one reading of the text."""
        stages = [stage for stage in map(cls.of, tasks) if isinstance(stage, Measure)]
        signals = [_opened(stage, task, store) for stage, task in zip(stages, tasks, strict=True)]
        schemas = [side_table_schema(signal, stage.id) for signal, stage in zip(signals, stages, strict=True)]
        view = str(tasks[0].config["view"])
        writers = [
            TableWriter(store.new_file(task, cls.table), schema, {"task": task.key}, plain=_random(signal, stage.id))
            for task, schema, signal, stage in zip(tasks, schemas, signals, stages, strict=True)
        ]
        tally = Tally()
        with table_writers(*writers):
            for batch, views in _views(tasks[0], store, view):
                for signal, schema, writer in zip(signals, schemas, writers, strict=True):
                    writer.write(_side_batch(batch, views, signal, schema))
                tally += Tally(records=batch.num_rows, bytes=sum(batch.column("text_bytes").to_pylist()))
            files = [writer.close() for writer in writers]
        for task, file in zip(tasks, files, strict=True):
            yield task, Made({cls.table: file}, Ledger(input=tally, kept=tally, output=tally))


def _random(signal: Signal, name: str) -> list[str]:
    """Return the columns of hashes, in which there is nothing to compress; none beside spans, which are nested."""
    kinds = {column.kind for column in signal.columns}
    return [] if "spans" in kinds else [f"{name}.{column.name}" for column in signal.columns if column.kind == "hashes"]


def _opened(stage: Measure, task: Task, store: Store) -> Signal:
    """Return the signal of a task, with its model where that is one of the task's inputs."""
    signal = stage.make()
    for path in input_paths(task, store, MODEL):
        signal = with_model(signal, path)
    return signal


def _views(task: Task, store: Store, view: str) -> Iterator[tuple[pa.RecordBatch, Views]]:
    (documents,) = input_paths(task, store, "documents")
    removals = None if view == RAW else input_paths(task, store, f"signals:{view}")[0]
    yield from part_views(documents, removals, BATCH_ROWS)


def _side_batch(batch: pa.RecordBatch, views: Views, signal: Signal, schema: pa.Schema) -> pa.RecordBatch:
    columns = [batch.column("doc_id"), batch.column("text_bytes"), *views.measure(signal)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
