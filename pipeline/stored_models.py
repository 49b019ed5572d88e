"""Models that signals take from the store: named in the recipe, pinned by digest before anything is planned.

The option `artifact` of such a signal is a name, or `sha256:` and the digest of a model in the store. A plan has the
digest in its place, so the key of what is measured has neither the name nor where the model lies; the artifact itself
is an input of the task, like documents are, and the worker opens what its record names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.filters.contract import StoredModel
from headrace.filters.models import BY_DIGEST
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.names import find_named
from headrace.pipeline.plugins import plugin_signals
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.recipe_steps import MeasureStep, SignalSpec
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.views import make_signal, signal_id

ARTIFACT = "artifact"


def pin_models(recipe: Recipe, store: Store) -> tuple[Recipe, Mapping[str, Manifest]]:
    """Return the recipe with digests in place of names of models, and those models by the ids of their signals.

    Raises:
        RecipeError: the store has no such model.
        ModelFileError: a model is not the one that its manifest, or the recipe, names.
        IntegrityError: a record is damaged.
    """
    plugins = plugin_signals(recipe.plugins)
    models: dict[str, Manifest] = {}
    steps: list[Any] = []
    for step in recipe.steps:
        if isinstance(step, MeasureStep):
            specs: list[str | SignalSpec] = []
            for spec in step.signals:
                if isinstance(spec, SignalSpec) and ARTIFACT in spec.options:
                    spec, model = _pinned(spec, plugins.get(spec.name, ""), store)
                    if model is not None:
                        models[signal_id(spec.called, step.view)] = model
                specs.append(spec)
            step = step.model_copy(update={"signals": specs})
        steps.append(step)
    return recipe.model_copy(update={"steps": steps}), models


def _pinned(spec: SignalSpec, plugin: str, store: Store) -> tuple[SignalSpec, Manifest | None]:
    signal = make_signal(spec.name, spec.options, plugin)
    if not isinstance(signal, StoredModel):  # an option of that name that means something else
        return spec, None
    manifest = _find(signal.stored_as, spec.options[ARTIFACT], store)
    changes = signal.pin(store.artifact_folder(manifest.stage, manifest.key) / MANIFEST)
    options = {name: value for name, value in {**spec.options, **changes}.items() if value is not None}
    return spec.model_copy(update={"options": options}), manifest


def _find(stage: str, name: str, store: Store) -> Manifest:
    if not name.startswith(BY_DIGEST):
        return find_named(stage, name, store)
    for path in store.manifests(stage):
        manifest = Manifest.load(path)
        if manifest.parts[0].files[manifest.table].sha256 == name.removeprefix(BY_DIGEST):
            return manifest
    raise RecipeError(f"no {stage} in the store {store.root} has {name}; give the name of one, or train it again")


def stored_stage(signal: Any) -> str | None:
    """Return the stage of the artifact whose model a pinned signal is measured with, None where it has none."""
    return signal.stored_as if isinstance(signal, StoredModel) and signal.artifact is not None else None


def with_model(signal: Any, path: Path) -> Any:
    """Return a pinned signal that opens its model at a path."""
    assert isinstance(signal, StoredModel)
    return signal.with_model(path)
