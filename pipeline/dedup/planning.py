"""From a recipe's step to the stages that find its duplicates."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from headrace.filters.rules import Rule
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.names import find_named
from headrace.pipeline.plugins import plugin_signals
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.recipe_steps import (
    BloomStep,
    DuplicatesStep,
    ExactStep,
    LinesStep,
    MeasureStep,
    MinHashStep,
    SignalSpec,
    SubstringsStep,
)
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.bands import Bands
from headrace.pipeline.stages.bloom import BloomRepeats
from headrace.pipeline.stages.corpus_index import IndexKeys
from headrace.pipeline.stages.duplicates import Duplicates
from headrace.pipeline.stages.earlier import Earlier
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.stages.repeats import HashUnits, MarkRepeats
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.views import id_of_column

SIGNATURE = "signature"
PAYLOAD = "payload_digest"
_DIGEST_HASHES = 2  # of 64 bits
_PAYLOAD_HASHES = 8  # as it is written, in hexadecimal digits
_EXACT = {"reason": "exact_duplicate", "similarity": 1.0}


def measure_stage(recipe: Recipe, name: str) -> Measure:
    """Return the stage that measures a signal, given by its id; raises KeyError where a recipe measures none."""
    plugins = plugin_signals(recipe.plugins)
    for step in (step for step in recipe.steps if isinstance(step, MeasureStep)):
        for stage in measure_stages(step, plugins):
            if stage.id == name:
                return stage
    raise KeyError(name)


def measure_stages(step: MeasureStep, plugins: Mapping[str, str]) -> Iterator[Measure]:
    """Yield the stages of a step that measures; `plugins` are modules by the signals that they define."""
    for item in step.signals:
        spec = SignalSpec(name=item) if isinstance(item, str) else item
        plugin = plugins.get(spec.name, "")
        yield Measure(signal=spec.name, alias=spec.as_, options=spec.options, view=step.view, plugin=plugin)


def duplicate_stages(
    step: ExactStep | MinHashStep, recipe: Recipe, *, rules: Sequence[Rule], suppressed: bool
) -> tuple[Bands, Duplicates]:
    """Return the first and the last stage of a step.

    Args:
        step: The step, which fits (see `check_steps`).
        recipe: The recipe.
        rules: What later steps ask.
        suppressed: Whether some documents were taken down.
    """
    bands = exact_bands(step) if isinstance(step, ExactStep) else minhash_bands(step, recipe)
    how: dict[str, Any] = _EXACT if isinstance(step, ExactStep) else minhash_config(step, recipe)
    duplicates = Duplicates(
        column=bands.column,
        bits=bands.bits,
        policy=step.survivor,
        by=step.by,
        prefer=tuple(step.prefer),
        rules=tuple(rule.as_config() for rule in rules),
        suppressed=suppressed,
        **how,
    )
    return bands, duplicates


def earlier_stage(step: ExactStep | MinHashStep, recipe: Recipe, bands: Bands, duplicates: Duplicates) -> Earlier:
    """Return the stage that compares documents with the indexes that a step names."""
    signal = id_of_column(bands.column)
    return Earlier(
        column=bands.column,
        num_hashes=num_hashes(bands.column, measure_stage(recipe, signal) if signal else None),
        bits=bands.bits,
        against=tuple(step.against),
        reason=duplicates.reason,
        similarity=duplicates.similarity,
        most=duplicates.most,
    )


def num_hashes(column: str, measure: Measure | None) -> int:
    """Return how many hashes a document has in a column, whatever bands are made of: a signature's, or a digest's.

    `measure` is the stage that measures it, None where it is a column of documents.
    """
    if measure is None:
        return _PAYLOAD_HASHES
    if column.endswith(f".{SIGNATURE}"):
        signal: Any = measure.make()
        return int(signal.num_hashes)
    return _DIGEST_HASHES


def measured_as(stage: Measure) -> dict[str, Any]:
    """Return what decides the hashes that a stage measures: the signal with its options, and versions; no view."""
    signal: Any = stage.make()
    options = {field.name: getattr(signal, field.name) for field in fields(signal)}
    return {"signal": stage.signal, "options": json.loads(canonical_json(options)), "resources": stage.resources()}


def hashed_as(column: str, recipe: Recipe) -> dict[str, Any]:
    """Return what decides the hashes of a column: how a recipe measures them, or that they are of payloads."""
    signal = id_of_column(column)
    return measured_as(measure_stage(recipe, signal)) if signal else {"document": column}


def find_indexes(step: ExactStep | MinHashStep, bands: Bands, recipe: Recipe, store: Store) -> dict[str, Manifest]:
    """Return the artifacts of the indexes that a step names, by the roles that stages read them in.

    Raises:
        RecipeError: the store has no such index, or one was made of other hashes, bands or scopes.
        StoreError, IntegrityError: the artifact is gone or damaged.
    """
    found: dict[str, Manifest] = {}
    hashed = hashed_as(bands.column, recipe)
    for name in step.against:
        index = find_named(IndexKeys.name, name, store)
        made = {"bands": bands.bands, "rows": bands.rows, "bits": bands.bits, "scope": list(bands.scope), **hashed}
        theirs = {key: index.config[key] for key in ("bands", "rows", "bits")} | index.config["measured"]
        theirs["scope"] = index.config.get("scope", [])
        if theirs != made:
            raise RecipeError(
                f"the index {name!r} cannot be compared with this step: it was made with {canonical_json(theirs)}, "
                f"the step has {canonical_json(made)}; make both with the same, or make the index anew"
            )
        documents = next(item for item in index.inputs if item.role == "indexed")
        found[f"index:{name}"] = index
        found[f"indexed:{name}"] = Manifest.load(store.artifact_folder(documents.stage, documents.key) / MANIFEST)
    return found


def repeat_stages(step: SubstringsStep | LinesStep) -> tuple[HashUnits, MarkRepeats]:
    """Return the first and the last stage of a step that looks for repeated text."""
    if isinstance(step, SubstringsStep):
        units: dict[str, Any] = {"unit": "window", "words": step.words, "view": step.view}
        return HashUnits(**units), MarkRepeats(signal=step.id, **units)
    lines: dict[str, Any] = {"unit": step.unit, "least": step.min_characters, "view": step.view}
    return HashUnits(per_part=step.scope == "part", **lines), MarkRepeats(signal=step.id, **lines)


def bloom_stages(step: BloomStep) -> tuple[BloomRepeats, MarkRepeats]:
    """Return both stages of a step that finds passages by a Bloom filter."""
    options = step.model_dump(include={"unit", "n", "threshold", "expected", "false_positives", "view"})
    return BloomRepeats(**options), MarkRepeats(signal=step.id, unit=step.unit, view=step.view)


def exact_bands(step: ExactStep) -> Bands:
    """Return the stage that makes each digest one band: those of signals have 128 bits, those of payloads 64 digits."""
    rows = _PAYLOAD_HASHES if step.column == PAYLOAD else _DIGEST_HASHES
    return Bands(column=step.column, bands=1, rows=rows, scope=_scope(step))


def minhash_bands(step: MinHashStep, recipe: Recipe) -> Bands:
    """Return the stage that cuts signatures into bands."""
    column = f"{step.signal}.{SIGNATURE}"
    signal = measure_stage(recipe, step.signal).make()
    bands, rows = step.shape(getattr(signal, "num_hashes", 0))
    return Bands(column=column, bands=bands, rows=rows, bits=getattr(signal, "bits", 64), scope=_scope(step))


def minhash_config(step: MinHashStep, recipe: Recipe) -> dict[str, Any]:
    """Return what a step says of near-duplicates; what does not matter to its kind of verification is left out."""
    config: dict[str, Any] = {"reason": "near_duplicate", "verify": step.verify}
    if step.verify != "none":
        config |= {"similarity": step.similarity, "most": step.most}
    if step.verify == "jaccard":
        config["shingles"] = measure_stage(recipe, step.signal).model_dump(mode="json")
    return config


def _scope(step: DuplicatesStep) -> tuple[str, ...]:
    return tuple(sorted(set(step.scope)))
