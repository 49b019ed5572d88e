"""Whether the steps of a recipe fit together, asked before the first byte is read.

What a step names must be there when it runs: a column that an earlier step measures, of a kind that the step can use.
Left to the step itself, the question would come up hours later; and a column of spans that nobody measures would not
come up at all, but leave the text as it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.filters.contract import SIGNALS, Column
from headrace.filters.lsh import nearest_shapes
from headrace.filters.named_rules import load_rule_set
from headrace.filters.rules import Rule, near_miss
from headrace.pipeline.dedup.planning import PAYLOAD, SIGNATURE
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.plugins import plugin_signals
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.recipe_steps import (
    BestStep,
    BloomStep,
    CutStep,
    DecontaminateStep,
    ExactStep,
    LinesStep,
    MeasureStep,
    MinHashStep,
    RulesStep,
    SignalSpec,
    SubstringsStep,
)
from headrace.pipeline.schema import DOCUMENTS
from headrace.pipeline.stages.contamination import COLUMNS
from headrace.pipeline.stages.repeats import COLUMNS as REPEAT_COLUMNS
from headrace.pipeline.views import RAW, id_of_column, make_signal, signal_id, span_column

LISTED: Mapping[str, type] = {"int": int, "float": int, "bool": bool, "string": str}
"""What `in` lists for a column of each kind."""


class HasColumns(Protocol):
    """What steps can name columns of."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns."""
        ...


@dataclass(frozen=True)
class _Columns:
    columns: tuple[Column, ...]


Measured = dict[str, HasColumns]


def check_steps(recipe: Recipe) -> None:
    """Raise `RecipeError` where a step needs what no step before it makes, or cannot use what it names.

    Raises:
        ModelFileError: a signal's model file is not on this machine.
    """
    measured: Measured = {}
    plugins = plugin_signals(recipe.plugins)
    for step in recipe.steps:
        match step:
            case MeasureStep():
                _measure(step, measured, plugins)
            case RulesStep():
                for name in step.sets:
                    _check_set(name, measured)
                for rule in step.composed():
                    _check_rule(rule, measured)
            case ExactStep() | MinHashStep():
                _check_duplicates(step, measured, [source.name for source in recipe.sources])
            case DecontaminateStep():
                _add_columns(step, COLUMNS, measured)
            case SubstringsStep() | LinesStep() | BloomStep():
                _add_columns(step, REPEAT_COLUMNS, measured)
            case BestStep():
                _require(step.column, measured, ("int", "float"), "the best are found among numbers")
            case CutStep():
                for column in step.edits:
                    _require(column, measured, ("spans",), "cut edits text by columns of spans")
                for column in step.metadata.values():
                    _require(column, measured, tuple(LISTED), "metadata are numbers, flags and labels")


def _measure(step: MeasureStep, measured: Measured, plugins: Mapping[str, str]) -> None:
    """Add the signals of a step to those that later steps can name."""
    if step.view != RAW:
        span_column(step.view, _signal(step.view, measured).columns)
    for item in step.signals:
        spec = SignalSpec(name=item) if isinstance(item, str) else item
        if spec.as_ not in (None, spec.name) and spec.as_ in SIGNALS.all():
            raise RecipeError(f"signal {spec.name!r} is called as {spec.as_!r}, which is another signal; rename it")
        signal = make_signal(spec.name, spec.options, plugins.get(spec.name, ""))
        signal.resources()  # asks for the model file, if it needs one
        measured[signal_id(spec.called, step.view)] = signal


def _add_columns(
    step: DecontaminateStep | SubstringsStep | LinesStep | BloomStep, columns: tuple[Column, ...], measured: Measured
) -> None:
    """Add the columns of a step to those that later steps can name."""
    if step.view != RAW:
        span_column(step.view, _signal(step.view, measured).columns)
    if step.id in measured or step.as_ in SIGNALS.all():
        raise RecipeError(f"{step.id!r} is another signal; call what the step writes otherwise, by `as`")
    measured[step.id] = _Columns(columns)


def _check_set(name: str, measured: Measured) -> None:
    """Raise `RecipeError` with the steps that a set of rules lacks, as a recipe would write them."""
    columns = {column for rule in load_rule_set(name).composed() for column in rule.columns}
    missing = sorted({id_of_column(column) for column in columns} - {"", *measured})
    if not missing:
        return
    views: dict[str, list[str]] = {}
    for signal, _, view in (one.partition("@") for one in missing):
        views.setdefault(view, []).append(signal)
    steps = [
        f'[[steps]] kind = "measure"{f", view = {json.dumps(view)}" if view else ""}, signals = {json.dumps(signals)}'
        for view, signals in sorted(views.items())
    ]
    raise RecipeError(
        f"the rule set {name!r} reads {', '.join(missing)}, which no step before it measures; add {' and '.join(steps)}"
    )


def _check_rule(rule: Rule, measured: Measured) -> None:
    for bounds in rule.all_bounds:
        if bounds.in_ is None:
            _require(rule.column, measured, ("int", "float"), "min and max compare numbers")
        else:
            kind = _require(rule.column, measured, tuple(LISTED), "`in` compares labels, flags and numbers")
            if not any(type(value) is LISTED[kind] for value in bounds.in_):
                raise RecipeError(
                    f"column {rule.column!r} is of kind {kind!r}, so it is none of {bounds.in_}; "
                    "list values of that kind"
                )
    for key, columns in (("when", rule.when), ("by", rule.by)):
        for column in columns or ():
            if id_of_column(column):
                _require(column, measured, ("string",), f"`{key}` compares labels")
            elif column not in DOCUMENTS.names:
                known = near_miss(column, DOCUMENTS.names)
                raise RecipeError(
                    f"the rule over {rule.column!r} has `{key}` on {column!r}, no document has that{known}"
                )


def _check_duplicates(step: ExactStep | MinHashStep, measured: Measured, sources: Sequence[str]) -> None:
    for column in step.scope:
        if id_of_column(column):
            _require(column, measured, ("string", "int", "bool"), "a scope is made of labels")
        elif column not in DOCUMENTS.names:
            raise RecipeError(f"scope: no document has {column!r}{near_miss(column, DOCUMENTS.names)}")
    if step.by is not None:
        _require(step.by, measured, ("int", "float"), "a survivor is the highest or lowest by numbers")
    for source in step.prefer:
        if source not in sources:
            raise RecipeError(f"prefer: no source is called {source!r}{near_miss(source, sources)}")
    if isinstance(step, ExactStep):
        if step.column == PAYLOAD:
            return
        if not id_of_column(step.column):
            raise RecipeError(
                f"exact: column {step.column!r} is no digest; it is {PAYLOAD!r}, or a signal's, as in 'digest.text'"
            )
        _require(step.column, measured, ("hashes",), "exact duplicates have equal digests")
        return
    _require(f"{step.signal}.{SIGNATURE}", measured, ("hashes",), "minhash reads signatures")
    num_hashes = getattr(measured[step.signal], "num_hashes", 0)
    bands, rows = step.shape(num_hashes)
    if step.threshold is None and bands * rows != num_hashes:
        others = _in_words(nearest_shapes(bands, num_hashes))
        raise RecipeError(
            f"minhash with {bands} bands of {rows} rows needs signatures of {bands * rows} hashes, "
            f"{step.signal!r} has {num_hashes}; take {others}, or measure it with "
            f"num_buckets = {bands} and hashes_per_bucket = {rows}"
        )


def _in_words(shapes: Sequence[tuple[int, int]]) -> str:
    return " or ".join(f"{bands} bands of {rows} rows" for bands, rows in shapes)


def _require(column: str, measured: Measured, kinds: tuple[str, ...], why: str) -> str:
    """Return the kind of a column; raises `RecipeError` unless one of these, of a signal that was measured before."""
    if not id_of_column(column):
        raise RecipeError(f"column {column!r} names no signal; write it as in 'gopher_quality.num_words'")
    signal = _signal(id_of_column(column), measured)
    known: Mapping[str, str] = {f"{id_of_column(column)}.{item.name}": item.kind for item in signal.columns}
    if column not in known:
        raise RecipeError(f"no column {column!r}{near_miss(column, known)}; that signal has {', '.join(known)}")
    if known[column] not in kinds:
        raise RecipeError(f"column {column!r} is of kind {known[column]!r}, but {why}")
    return known[column]


def _signal(name: str, measured: Measured) -> HasColumns:
    if name not in measured:
        signal, _, view = name.partition("@")
        where = f' with view = "{view}"' if view else ""
        raise RecipeError(
            f"a step reads signal {name!r}, which no step before it measures{near_miss(name, measured)}; "
            f"add {signal!r} to a measure step{where}"
        )
    return measured[name]
