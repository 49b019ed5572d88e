"""`headrace build` makes a corpus of a recipe; `headrace plan` says what that would do."""

from collections.abc import Iterator, Mapping, Sequence
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

HARMLESS = frozenset(("padding",))
"""Gaps between records that are no damage."""

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
    from headrace.pipeline.store import Store
    from headrace.progress import watching

    chosen, options = chosen_recipe(recipe, set_), build_options(source, sample, limit)
    opened = Store.open(store)
    held = _held_lock(lock or lock_path(opened, chosen, options)) if locked or lock else None
    with watching() as watch:
        built = build_recipe(chosen, opened, make_engine(workers or num_cores()), options, locked=held, watch=watch)
    result = built_result(built)
    for line in damage_warnings(result.data["damaged"]):
        stderr().print(f"warning: {line}", style="yellow")
    if lost := result.data["lost_files"]:
        stderr().print(f"note: {lost_note(lost)}", style="yellow")
    return result


def lost_note(lost: Sequence[str]) -> str:
    """Return in words that reused parts name files which are gone."""
    more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
    return (
        f"parts of an earlier build are used again, and their origins name where the bytes were read then: {lost[0]}"
        f"{more}, no longer there; `why` and `trace` name another place where the store knows one"
    )


def damage_warnings(damaged: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each of the first places of damage, and one that says how many there are beside them."""
    for place in damaged[:SHOWN_DAMAGE]:
        inner = "".join(f", inflated [{item['start']}, {item['end']})" for item in place["inner"] or ())
        yield f"{place['uri']}: bytes [{place['start']}, {place['end']}){inner}: {place['reason']}"
    if len(damaged) > SHOWN_DAMAGE:
        yield f"{len(damaged) - SHOWN_DAMAGE:,} more damaged places; --json lists all of them"


def _held_lock(path: Path) -> "Lock":
    """Return the lock that a build is held to; raises `LockError` where none was written yet."""
    from headrace.pipeline.errors import LockError
    from headrace.pipeline.lock import Lock

    if not path.exists():
        raise LockError(f"{path}: there is no lock yet; build once without --locked and --lock to write one")
    return Lock.load(path)


def built_result(built: "Built") -> Result:
    """Return what a build made: where it lies, what it is called, how large it is, and what was left out."""
    from headrace.pipeline.whereabouts import lost_files

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
        "lost_files": [str(path) for path in lost_files((read, built.corpus), built.store)],
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

    if HARMLESS.issuperset(read.ledger.gaps) and not DAMAGE.intersection(read.ledger.dropped):
        return
    for part in read.parts:
        path = store.artifact_folder(read.stage, read.key) / part.files["records"].name
        for row in read_columns(path, ["fate", "reason", "origin"]).to_pylist():
            if row["reason"] in DAMAGE if row["fate"] != "gap" else row["reason"] not in HARMLESS:
                origin = row["origin"]
                place = {"start": origin["offset"], "end": origin["offset"] + origin["length"]}
                yield {"uri": origin["uri"], **place, "inner": origin["inner"], "reason": row["reason"]}


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
    Nothing is written, so files that the store has not seen are hashed now, and again by the build.
    """
    from headrace.pipeline.build import plan as plan_recipe
    from headrace.pipeline.store import Store

    chosen = chosen_recipe(recipe, set_)
    opened = Store.look(store)
    steps = plan_recipe(chosen, opened, build_options(source, sample, limit))
    complete = all(step.cached == step.tasks for step in steps)

    def show(console: Console) -> None:
        if not opened.exists:
            console.print(f"there is no store at {opened.root} yet; `headrace build` would make it\n")
        rows = [(step.label, step.tasks, step.cached, step.why) for step in steps]
        console.print(table(("step", "tasks", "made before", "why"), rows))
        console.print("everything is there" if complete else "later steps depend on what this one gives")

    data = [{"step": step.label, "tasks": step.tasks, "cached": step.cached, "why": step.why} for step in steps]
    found = {"recipe": chosen.name, "store": str(opened.root), "store_exists": opened.exists}
    return Result({**found, "complete": complete, "steps": data}, show)
