"""Indexing a corpus that was built: by a name, under which later recipes compare their documents with it."""

from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.ancestry import manifest_of
from headrace.pipeline.artifacts import Planned, Watcher, ignore_progress, make
from headrace.pipeline.build_chain import Way
from headrace.pipeline.building import building
from headrace.pipeline.dedup.planning import PAYLOAD, measured_as, num_hashes
from headrace.pipeline.engines import Engine
from headrace.pipeline.errors import InputError
from headrace.pipeline.names import check_name, give_name
from headrace.pipeline.schema import Manifest, Upstream
from headrace.pipeline.stages.bands import Bands
from headrace.pipeline.stages.buckets import Buckets
from headrace.pipeline.stages.contract import Planning, Stage
from headrace.pipeline.stages.corpus_index import IndexDocuments, IndexKeys
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.views import role_of_column

TASK_BYTES = 256 << 20


@dataclass(frozen=True)
class Indexed:
    """An index that was made: its name and artifact, how many documents it has, and of which step the keys are."""

    name: str
    manifest: Manifest
    path: Path
    documents: int
    step: str


def index_corpus(
    path: Path, name: str, engine: Engine, step: str | None = None, watch: Watcher = ignore_progress
) -> Indexed:
    """Index the documents of a corpus by the band keys of a step that looked for duplicates on the way to it.

    Args:
        path: The corpus: a manifest, an artifact's folder or one of its parts.
        name: What recipes of its store will call the index.
        engine: What runs the tasks.
        step: Which step, by its label, where there are several.
        watch: Is told of progress.

    Raises:
        InputError: no step on the way to it looked for duplicates, or several did and none is named.
        RecipeError: an index cannot be called so.
        StoreError, IntegrityError: see `Way.to`.
    """
    check_name(IndexKeys.name, name)
    with building(Store.containing(manifest_of(path))):
        return _index(Way.to(path), name, engine, step, watch)


def _index(way: Way, name: str, engine: Engine, step: str | None, watch: Watcher) -> Indexed:
    path, store, chain = way.path, way.store, way.chain
    bands = _bands(path, chain, step)
    upstream = {"bands": bands, "verdicts": [one for one in chain if one.table == "verdicts"][-1]}
    stage = Bands.model_validate(bands.config, strict=False)
    role = role_of_column(stage.column)
    hashed = upstream[role] = _loaded(bands, role, store)
    measure = None if stage.column == PAYLOAD else Measure.model_validate(hashed.config, strict=False)
    documents = IndexDocuments(column=stage.column, bits=stage.bits)
    upstream["indexed"] = _make("index documents", documents, upstream, store, engine, watch)
    partitions = Buckets.num_partitions(Planning(store, upstream), TASK_BYTES)
    shape = stage.model_dump(include={"column", "bands", "rows", "bits", "scope"})
    measured = {"document": stage.column} if measure is None else measured_as(measure)
    keys = IndexKeys(measured=measured, partitions=partitions, **shape)
    made = _make("index keys", keys, upstream, store, engine, watch)
    give_name(name, made, store)
    row_bytes = 16 + num_hashes(stage.column, measure) * stage.bits // 8
    size = sum(part.files["indexed"].bytes for part in upstream["indexed"].parts)
    return Indexed(name, made, store.artifact_folder(made.stage, made.key) / MANIFEST, size // row_bytes, bands.name)


def _bands(path: Path, chain: list[Manifest], step: str | None) -> Manifest:
    found = [one for one in chain if one.stage == Bands.name]
    labels = [one.name.removesuffix(" bands") for one in found]
    chosen = [one for one, label in zip(found, labels, strict=True) if step in (None, label)]
    if len(chosen) != 1:
        known = ", ".join(map(repr, labels)) or "none"
        raise InputError(f"{path}: name one step that looked for duplicates with --step; there are: {known}")
    return chosen[0]


def _loaded(manifest: Manifest, role: str, store: Store) -> Manifest:
    item: Upstream = next(item for item in manifest.inputs if item.role == role)
    return Manifest.load(store.artifact_folder(item.stage, item.key) / MANIFEST)


def _make(
    label: str, stage: Stage, upstream: dict[str, Manifest], store: Store, engine: Engine, watch: Watcher
) -> Manifest:
    planning = Planning(store, {role: upstream[role] for role in stage.inputs()})
    (manifest,) = make([Planned(label, stage, tuple(stage.plan(planning)), planning)], engine, watch)
    return manifest
