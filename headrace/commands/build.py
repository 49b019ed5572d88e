"""`headrace build` makes a corpus of a recipe; `headrace plan` says what that would do."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.inspect import drop_rows
from headrace.commands.recipe_options import (
    Limit,
    RecipeName,
    Sample,
    Sets,
    Sources,
    StoreFolder,
    Workers,
    build_options,
    chosen_recipe,
    num_cores,
)
from headrace.console import Result, facts, stderr, table

if TYPE_CHECKING:
    from headrace.pipeline.build import Built
    from headrace.pipeline.lock import Lock
    from headrace.pipeline.schema import Manifest
    from headrace.pipeline.store import Store

DAMAGE = frozenset(("truncated", "bad_length", "corrupt_gzip"))
"""Faults of a record that say that its file is damaged."""

SHOWN_DAMAGE = 10

LockFile = Annotated[
    Path | None, typer.Option("--lock", metavar="FILE", help="The lock to hold to, in place of the store's own.")
]
Locked = Annotated[bool, typer.Option("--locked", help="Refuse whatever the lock of an earlier build does not name.")]


def build(
    recipe: RecipeName,
    store: StoreFolder,
    source: Sources = None,
    workers: Workers = None,
    sample: Sample = None,
    limit: Limit = None,
    set_: Sets = None,
    lock: LockFile = None,
    locked: Locked = False,
) -> Result:
    """Build a corpus: read, measure, select, cut and tokenize, as the recipe says.

    What an earlier build left in the store is used; a build that was stopped goes on where it was.
    """
    from headrace.pipeline.build import build as build_recipe
    from headrace.pipeline.build import lock_path
    from headrace.pipeline.engines import make_engine
    from headrace.pipeline.lock import Lock
    from headrace.pipeline.store import Store
    from headrace.progress import watching

    chosen, options = chosen_recipe(recipe, set_), build_options(source, sample, limit)
    opened = Store.open(store)
    held = Lock.load(lock or lock_path(opened, chosen, options)) if locked or lock else None
    with watching() as watch:
        built = build_recipe(chosen, opened, make_engine(workers or num_cores()), options, locked=held, watch=watch)
    result = built_result(built)
    for line in result.data["damaged"][:SHOWN_DAMAGE]:
        stderr().print("warning: {uri}: bytes [{start}, {end}): {reason}".format(**line), style="yellow")
    return result


def built_result(built: "Built") -> Result:
    """Return what a build made: where it lies, what it is called, how large it is, and what was left out."""
    tokens = built.manifests.get("tokens")
    dropped, read = list(_dropped(built.lock, built.store)), built.manifests["documents"]
    data: dict[str, Any] = {
        "recipe": built.lock.recipe,
        "manifest": built.path("corpus"),
        "content": built.corpus.content,
        "rows": built.corpus.rows,
        "text_bytes": built.corpus.ledger.output.bytes,
        "lock": str(built.lock_path),
        "dropped": [dict(zip(("step", "reason", "records", "bytes"), row, strict=True)) for row in dropped],
        "gaps": read.ledger.gaps,
        "damaged": list(_damaged(read, built.store)),
    }
    if tokens is not None:
        data |= {
            "tokens": tokens.facts["tokens"],
            "tokens_manifest": built.path("tokens"),
            "tokens_content": tokens.content,
        }

    def show(console: Console) -> None:
        console.print(facts({name: value for name, value in data.items() if not isinstance(value, list | dict)}))
        gaps = [("read", f"bytes of no record: {reason}", None, size) for reason, size in data["gaps"].items()]
        if rows := [*dropped, *gaps]:
            console.print()
            console.print(table(("dropped by", "reason", "records", "bytes"), rows))

    return Result(data, show)


def _dropped(lock: "Lock", store: "Store") -> Iterator[tuple[str, str, int, int]]:
    """Yield step, reason, records and bytes of all that the steps of a build dropped."""
    from headrace.pipeline.schema import Manifest

    for step in lock.steps:
        path = store.find_manifest(step.stage, step.key)
        if path is not None:
            yield from drop_rows(step.label, step.stage, Manifest.load(path).ledger)


def _damaged(read: "Manifest", store: "Store") -> Iterator[dict[str, Any]]:
    """Yield where inputs are cut short or broken: the places of gaps, and of records that are not whole."""
    from headrace.pipeline.tables import read_columns

    if not read.ledger.gaps and not DAMAGE.intersection(read.ledger.dropped):
        return
    for part in read.parts:
        path = store.artifact_folder(read.stage, read.key) / part.files["records"].name
        for row in read_columns(path, ["fate", "reason", "origin"]).to_pylist():
            if row["fate"] == "gap" or row["reason"] in DAMAGE:
                start, length = row["origin"]["offset"], row["origin"]["length"]
                yield {"uri": row["origin"]["uri"], "start": start, "end": start + length, "reason": row["reason"]}


def plan(
    recipe: RecipeName,
    store: StoreFolder,
    source: Sources = None,
    sample: Sample = None,
    limit: Limit = None,
    set_: Sets = None,
) -> Result:
    """Show what a build would run, what is there from earlier builds, and why the rest is not.

    A step's key follows from the contents of those before it, so the plan ends at the first step that would run.
    """
    from headrace.pipeline.build import plan as plan_recipe
    from headrace.pipeline.store import Store

    chosen = chosen_recipe(recipe, set_)
    steps = plan_recipe(chosen, Store.open(store), build_options(source, sample, limit))
    complete = all(step.cached == step.tasks for step in steps)

    def show(console: Console) -> None:
        rows = [(step.label, step.tasks, step.cached, step.why) for step in steps]
        console.print(table(("step", "tasks", "made before", "why"), rows))
        console.print("everything is there" if complete else "later steps depend on what this one gives")

    data = [{"step": step.label, "tasks": step.tasks, "cached": step.cached, "why": step.why} for step in steps]
    return Result({"recipe": chosen.name, "complete": complete, "steps": data}, show)
