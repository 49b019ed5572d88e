"""Builds: a recipe walked step by step, each made from what the earlier ones left in the store.

A walk yields what it plans before it needs it: `build` makes each, `plan` only looks whether it is there. The keys of a
step follow from the contents of earlier ones, so a plan ends at the first step that would run: what comes after depends
on what that gives, and may well be found unchanged.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.artifacts import NotCommittedError, Planned, Watcher, ignore_progress, make, manifest_path
from headrace.pipeline.building import building
from headrace.pipeline.engines import Engine
from headrace.pipeline.erasures import erased_places
from headrace.pipeline.lock import Lock, LockedStep, explain_change
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store, replace, writing
from headrace.pipeline.suppressions import write_names
from headrace.pipeline.walk import NO_OPTIONS, BuildOptions, Walk, Walker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What a build made: manifests by role, the lock, and where both lie."""

    manifests: Mapping[str, Manifest]
    lock: Lock
    lock_path: Path
    store: Store

    @property
    def corpus(self) -> Manifest:
        """The corpus."""
        return self.manifests["corpus"]

    def path(self, role: str) -> str:
        """Return the path of a manifest."""
        return manifest_path(self.manifests[role], self.store)


def build(
    recipe: Recipe,
    store: Store,
    engine: Engine,
    options: BuildOptions = NO_OPTIONS,
    *,
    locked: Lock | None = None,
    watch: Watcher = ignore_progress,
) -> Built:
    """Build a recipe: make what is missing, in order, and write the lock.

    Raises:
        InputError: a source has no files, or one of them cannot be read.
        RecipeError: the steps do not fit together, or name a model that the store has not.
        LockError: `locked` does not name what would be built.
        TaskError: a task failed; what was finished is kept.
    """
    try:
        with building(store):
            while True:
                known = erased_places(store)
                try:
                    return _build(recipe, store, engine, options, locked, watch)
                except NotCommittedError:
                    if erased_places(store) == known:
                        raise
                    log.warning("raw files hold documents again that were erased; they are left out, and planned anew")
    finally:
        engine.close()


def _build(
    recipe: Recipe, store: Store, engine: Engine, options: BuildOptions, locked: Lock | None, watch: Watcher
) -> Built:
    walker = Walker(recipe, store, options)
    steps: dict[str, LockedStep] = {}
    walk = walker.walk()
    planned = _next(walk, None)
    while planned is not None:
        for item in planned if locked else ():
            _check_locked(locked, item, options)
        manifests = make(planned, engine, watch)
        for item, manifest in zip(planned, manifests, strict=True):
            if locked:
                locked.check_content(item.label, manifest)
            steps[item.label] = LockedStep.of(item, manifest)
        done, planned = planned, _next(walk, manifests)
        if locked and _is_reading(done) and not _is_reading(planned):
            locked.check(done[0])
    lock = Lock(recipe=recipe.name, options=options.as_config(), inputs=walker.inputs(), steps=tuple(steps.values()))
    path = lock_path(store, recipe, options)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        replace(path, lock.render())
    write_names(store)
    return Built(walker.upstream, lock, path, store)


def _check_locked(lock: Lock | None, planned: Planned, options: BuildOptions) -> None:
    # with a limit the reading grows task by task: only its last key is in the lock, and is checked when it has ended
    if lock is not None and not (_is_reading([planned]) and options.limit is not None):
        lock.check(planned)


def _is_reading(planned: Sequence[Planned] | None) -> bool:
    return planned is not None and planned[0].label == "read"


def _next(walk: Walk, manifests: Sequence[Manifest] | None) -> Sequence[Planned] | None:
    try:
        return next(walk) if manifests is None else walk.send(manifests)
    except StopIteration:
        return None


@dataclass(frozen=True)
class PlannedStep:
    """A step as `plan` shows it."""

    label: str
    tasks: int
    cached: int
    why: str


def plan(recipe: Recipe, store: Store, options: BuildOptions = NO_OPTIONS) -> list[PlannedStep]:
    """Return the steps up to the first that would run, with what is there and why the rest is not."""
    walker = Walker(recipe, store, options)
    path = lock_path(store, recipe, options)
    last = Lock.load(path) if path.exists() else None
    walk, shown = walker.walk(), []
    planned = _next(walk, None)
    while planned is not None:
        missing = [len(item.missing()) for item in planned]
        shown += [_show(item, absent, last) for item, absent in zip(planned, missing, strict=True)]
        paths = [store.find_manifest(item.stage.name, item.key) for item in planned]
        manifests = [Manifest.load(path) for path in paths if path is not None]
        if any(missing) or len(manifests) < len(planned) or not all(map(store.is_linked, manifests)):
            break
        planned = _next(walk, manifests)
    return shown


def _show(planned: Planned, missing: int, last: Lock | None) -> PlannedStep:
    total = len(planned.tasks)
    if not missing:
        why = "made before"
    elif last is None or (known := last.step(planned.label)) is None:
        why = "never made in this store"
    elif known.key == planned.key:
        why = "its files are gone from the store"
    else:
        why = explain_change(known, planned)
    return PlannedStep(planned.label, total, total - missing, why)


def lock_path(store: Store, recipe: Recipe, options: BuildOptions) -> Path:
    """Return where the lock of a recipe lies in a store."""
    return store.root / "locks" / options.lock_name(recipe.name)
