"""Training a classifier into a store, where it lies like any artifact: verified, and found again instead of trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipeline.artifacts import Planned, Watcher, ignore_progress, make
from headrace.pipeline.engines import make_engine
from headrace.pipeline.labelled_texts import Choice
from headrace.pipeline.names import check_name, give_name
from headrace.pipeline.raw_files import find_files
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.classifier import LABELS, TrainClassifier
from headrace.pipeline.stages.contract import Planning
from headrace.pipeline.store import MANIFEST, Store


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its manifest, the path of that and of the model, and what was measured."""

    manifest: Manifest
    path: Path
    model: Path
    report: Mapping[str, Any]


def train_classifier(
    name: str, stage: TrainClassifier, positive: str, negative: str, store: Store, watch: Watcher = ignore_progress
) -> Classifier:
    """Train on the files that two globs name, or find what was trained on them before; the name stands for it then.

    Raises:
        RecipeError: it cannot be called so.
        InputError: a glob names no file, a file cannot be read, or too few texts are in them.
        TaskError: the training failed.
    """
    check_name(stage.name, name)
    for where in (stage.positive_where, stage.negative_where):
        Choice.parse(stage.text_column, where)
    files = {label: find_files(label, glob, store) for label, glob in zip(LABELS, (positive, negative), strict=True)}
    planning = Planning(store, {}, files)
    engine = make_engine(1)
    try:
        planned = Planned(stage.name, stage, tuple(stage.plan(planning)), planning)
        (manifest,) = make([planned], engine, watch)
    finally:
        engine.close()
    give_name(name, manifest, store)
    return open_classifier(manifest, store)


def open_classifier(manifest: Manifest, store: Store) -> Classifier:
    """Return a classifier that lies in a store."""
    folder = store.artifact_folder(manifest.stage, manifest.key)
    files = manifest.parts[0].files
    report = json.loads((folder / files["report"].name).read_text(encoding="utf-8"))
    return Classifier(manifest, folder / MANIFEST, folder / files["model"].name, report)
