"""Rewriting: a takedown that erases, from what is named to what is told when all of it is gone.

The store is held alone from beginning to end. Every step can be taken twice, so the same command finishes one that was
killed, whatever it had done.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.artifacts import Watcher, ignore_progress
from headrace.pipeline.build import Built, build
from headrace.pipeline.building import rewriting
from headrace.pipeline.engines import Engine
from headrace.pipeline.erasure import (
    Named,
    digest_of_names,
    find_named,
    names_of_tainted,
    remove_what_held,
)
from headrace.pipeline.erasures import add_erasures
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.lineage import Lineage
from headrace.pipeline.lock import Lock, locks_of
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.recipe_steps import ExactStep, MinHashStep
from headrace.pipeline.removal import Removed, finish_removal, removals
from headrace.pipeline.store import Store
from headrace.pipeline.stored_models import pin_models
from headrace.pipeline.suppressions import in_force, suppress_all
from headrace.pipeline.takedown import TakenDown, held_for, take_down
from headrace.pipeline.walk import NO_OPTIONS, BuildOptions

log = logging.getLogger(__name__)

HELD = "resembles a document that was taken down; held for review"


@dataclass(frozen=True)
class Rewritten:
    """What a takedown that erases did: what was hidden, the build without it, and what was removed."""

    taken: TakenDown
    built: Built
    removed: Removed


@dataclass(frozen=True)
class Asked:
    """What is asked for: the corpus, what to take down from its store, why and when."""

    corpus: Path
    named: Sequence[Named]
    reason: str
    date: str = ""


def rewrite(
    asked: Asked,
    recipe: Recipe,
    engine: Engine,
    options: BuildOptions = NO_OPTIONS,
    *,
    found_here: Callable[[Sequence[str]], None] = lambda doc_ids: None,
    watch: Watcher = ignore_progress,
) -> Rewritten:
    """Take down what is named, build a recipe without it, and remove all that was made from it.

    Where an earlier takedown of the store has removed the corpus already, the store is meant that it lay in.
    `found_here` is called with the ids of what will go, while it is still there.

    Raises:
        InputError: the path is no corpus and never was one, or a value is none of its kind.
        RecipeError: the recipe needs an index or a model that is made from what goes.
        StoreError: somebody else builds in the store, or the new build still holds some of it.
    """
    store = Store.containing(asked.corpus)
    with rewriting(store):
        finish_removal(store)
        lineage = Lineage(store)
        found = find_named(lineage, asked.named)
        _refuse_needed(lineage, found.doc_ids, recipe)
        del lineage
        found_here(found.doc_ids)
        taken = _take_down(asked, store, found.doc_ids)
        _hold_for_review(store, taken, asked.date)
        add_erasures(store, found.places)
        built = build(recipe, store, engine, options, watch=watch)
        removed = remove_what_held(store, found.doc_ids, built, digest_of_names(asked.named))
        return Rewritten(taken, built, _with_earlier(removed, asked, store))


def _take_down(asked: Asked, store: Store, doc_ids: Collection[str]) -> TakenDown:
    """Suppress what is named, also where its corpus is gone; what resembles it is looked for in the whole store."""
    held = tuple(held_for(doc_ids, store))
    if not asked.corpus.exists() and _was_removed(asked.corpus, store):
        records = tuple(one.name for one in suppress_all(store, asked.named, asked.reason, asked.date))
        return TakenDown(records, tuple(asked.named), None, (), held)
    done = take_down(asked.corpus, asked.named, asked.reason, asked.date)
    return TakenDown(done.records, done.named, None, done.hidden, held)


def _was_removed(corpus: Path, store: Store) -> bool:
    """Tell whether a path is of a corpus that a takedown has removed."""
    folders = {(store.root / path).parent for done in removals(store) for path in done.corpora}
    return not folders.isdisjoint((corpus.absolute(), corpus.absolute().parent))


def _hold_for_review(store: Store, taken: TakenDown, date: str) -> None:
    """Keep documents out of later builds, which no longer know what they resemble; to be withdrawn after review."""
    known = {one.value for one in in_force(store) if one.what == "doc_id"}
    suppress_all(store, [("doc_id", one.doc_id) for one in taken.held if one.doc_id not in known], HELD, date)


def _refuse_needed(lineage: Lineage, doc_ids: Collection[str], recipe: Recipe) -> None:
    """Tell which named artifacts will go; raise `RecipeError` if the recipe needs one of them, or a model that goes."""
    tainted = lineage.tainted(doc_ids)
    going = names_of_tainted(lineage, tainted).values()
    steps = (step for step in recipe.steps if isinstance(step, ExactStep | MinHashStep))
    indexes = {name for step in steps for name in step.against}
    for one in going:
        if one.stage == "index" and one.name in indexes:
            raise RecipeError(
                f"{recipe.name}: compares with the index {one.name!r}, which was made from what is taken down and has "
                "to go; leave it out of `against`, or first take down with --rewrite of the recipe whose corpus it "
                f"indexes, index the new corpus as {one.name!r}, and build {recipe.name!r} again"
            )
    for signal, model in pin_models(recipe, lineage.store)[1].items():
        if any(part.task in tainted for part in model.parts):
            called = next((repr(one.name) for one in going if one.key == model.key), model.content)
            raise RecipeError(
                f"{recipe.name}: measures {signal!r} with the {model.stage} {called}, which learnt from what is taken "
                "down and has to go; leave the signal out, or first take down with --rewrite of the recipe whose "
                f"corpus it learnt from, train it again, and build {recipe.name!r} again"
            )
    for one in going:
        log.warning("the %s %r was made from what is taken down, and goes with it; make it again", one.stage, one.name)


def _with_earlier(removed: Removed, asked: Asked, store: Store) -> Removed:
    """Add what earlier tries of the same command removed and may not have told, and recipes not built since then."""
    if asked.corpus.exists():
        return removed
    tries = {one.digest: one for one in (*removals(store), removed) if one.named == removed.named}.values()
    built = {Lock.load(path).recipe for path in locks_of(store)}
    together = {
        "erased": tuple(sorted({doc_id for one in tries for doc_id in one.erased})),
        "files": sum(one.files for one in tries),
        "bytes": sum(one.bytes for one in tries),
        "corpora": tuple(sorted({path for one in tries for path in one.corpora})),
        "names": tuple(sorted({name for one in tries for name in one.names})),
        "build_again": tuple(sorted({recipe for one in tries for recipe in one.build_again} - built)),
    }
    return Removed(named=removed.named, **together)  # type: ignore[arg-type]
