"""Whether the steps of a recipe fit together, asked before the first byte is read.

What a step names must be there when it runs: a column that an earlier step measures, of a kind that the step can use.
Left to the step itself, the question would come up hours later; and a column of spans that nobody measures would not
come up at all, but leave the text as it is.
"""

from collections.abc import Mapping

from headrace.filters.contract import SIGNALS, Signal
from headrace.filters.rules import Rule, near_miss
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import BestStep, CutStep, MeasureStep, MinHashStep, Recipe, RulesStep, SignalSpec
from headrace.pipeline.schema import DOCUMENTS
from headrace.pipeline.views import RAW, id_of_column, make_signal, signal_id, span_column

SIGNATURE = "signature"

Measured = dict[str, Signal]


def check_steps(recipe: Recipe) -> None:
    """Raise `RecipeError` where a step needs what no step before it makes, or cannot use what it names.

    Raises:
        ModelFileError: a signal's model file is not on this machine.
    """
    measured: Measured = {}
    for step in recipe.steps:
        match step:
            case MeasureStep():
                _measure(step, measured)
            case RulesStep():
                for rule in step.rules:
                    _check_rule(rule, measured)
            case MinHashStep():
                _check_minhash(step, measured)
            case BestStep():
                _require(step.column, measured, ("int", "float"), "the best are found among numbers")
            case CutStep():
                for column in step.edits:
                    _require(column, measured, ("spans",), "cut edits text by columns of spans")


def _measure(step: MeasureStep, measured: Measured) -> None:
    """Add the signals of a step to those that later steps can name."""
    if step.view != RAW:
        _signal(step.view, measured)
        span_column(step.view)
    for item in step.signals:
        spec = SignalSpec(name=item) if isinstance(item, str) else item
        if spec.as_ not in (None, spec.name) and spec.as_ in SIGNALS.all():
            raise RecipeError(f"signal {spec.name!r} is called as {spec.as_!r}, which is another signal; rename it")
        signal = make_signal(spec.name, spec.options)
        signal.resources()  # asks for the model file, if it needs one
        measured[signal_id(spec.called, step.view)] = signal


def _check_rule(rule: Rule, measured: Measured) -> None:
    if rule.in_ is None:
        _require(rule.column, measured, ("int", "float"), "min and max compare numbers")
    else:
        _require(rule.column, measured, ("int", "float", "bool", "string"), "`in` compares labels, flags and numbers")
    for column in rule.when or ():
        if id_of_column(column):
            _require(column, measured, ("string",), "`when` compares labels")
        elif column not in DOCUMENTS.names:
            known = near_miss(column, DOCUMENTS.names)
            raise RecipeError(f"the rule over {rule.column!r} has `when` on {column!r}, no document has that{known}")


def _check_minhash(step: MinHashStep, measured: Measured) -> None:
    _require(f"{step.signal}.{SIGNATURE}", measured, ("hashes",), "minhash reads signatures")
    num_hashes = getattr(measured[step.signal], "num_hashes", step.bands * step.rows)
    if step.bands * step.rows != num_hashes:
        raise RecipeError(
            f"minhash with {step.bands} bands of {step.rows} rows needs signatures of {step.bands * step.rows} hashes, "
            f"{step.signal!r} has {num_hashes}; change bands and rows, or measure it with num_buckets = {step.bands} "
            f"and hashes_per_bucket = {step.rows}"
        )


def _require(column: str, measured: Measured, kinds: tuple[str, ...], why: str) -> None:
    """Raise `RecipeError` unless a signal measured before has a column of that id and of one of these kinds."""
    signal = _signal(id_of_column(column), measured)
    known: Mapping[str, str] = {f"{id_of_column(column)}.{item.name}": item.kind for item in signal.columns}
    if column not in known:
        raise RecipeError(f"no column {column!r}{near_miss(column, known)}; that signal has {', '.join(known)}")
    if known[column] not in kinds:
        raise RecipeError(f"column {column!r} is of kind {known[column]!r}, but {why}")


def _signal(name: str, measured: Measured) -> Signal:
    if name not in measured:
        signal, _, view = name.partition("@")
        where = f' with view = "{view}"' if view else ""
        raise RecipeError(
            f"a step reads signal {name!r}, which no step before it measures; add {signal!r} to a measure step{where}"
        )
    return measured[name]
