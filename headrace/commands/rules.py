"""`headrace rules`: what each rule does to the documents of a corpus, and what other thresholds would do."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.inspect import ManifestFile, Samples
from headrace.commands.recipe_options import Sets
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.funnel import Answer, Change, Funnel, Moved

Order = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...", help="Ask these first: steps, reasons, columns or signals, as in fineweb,gopher_quality."
    ),
]

LockFile = Annotated[
    str | None, typer.Option("--lock", metavar="FILE", help="The build that is asked about, if not the last.")
]

COUNTS = ("step", "rule", "column", "allowed", "fails", "alone", "first", "left")
CHANGED = (*COUNTS, "fails before", "first before")
THRESHOLDS = ("step", "column", "share", "", "documents", "threshold", "reach it")


def rules(
    manifest: ManifestFile, set_: Sets = None, order: Order = None, samples: Samples = 3, lock: LockFile = None
) -> Result:
    """Count for each rule the documents that fail it, that fail no other, and that it drops in the given order.

    With --set, also what other thresholds would do, and which documents would change sides. No text is read.
    """
    from headrace.pipeline.funnel import ask_rules

    names = [name.strip() for name in (order or "").split(",") if name.strip()]
    answer = ask_rules(Path(manifest), set_ or (), names, samples, Path(lock) if lock else None)
    return Result(as_data(answer), lambda console: _show(answer, console))


def _show(answer: "Answer", console: Console) -> None:
    kept = answer.funnel.kept
    now = answer.changed.funnel.kept if answer.changed else None
    shown = {"artifact": answer.name, "recipe": answer.recipe, "documents": answer.documents}
    console.print(facts({**shown, "pass": kept, "would pass": now}))
    console.print()
    console.print(table(COUNTS, list(_rows(answer.funnel))))
    if answer.changed:
        console.print("\nwith the changed rules", style="bold")
        console.print(table(CHANGED, list(_changed_rows(answer.changed.funnel, answer.funnel))))
        _show_thresholds(answer.changed, console)
        _show_moved(answer.changed, console)
    for note in answer.notes:
        console.print(f"\nnote: {note}")


def _rows(funnel: "Funnel") -> Iterator[tuple[Any, ...]]:
    for one in funnel.rules:
        yield one.step, one.rule, one.column, one.allowed, one.fails, one.alone, one.first, one.left


def _changed_rows(after: "Funnel", before: "Funnel") -> Iterator[tuple[Any, ...]]:
    for row, old in zip(_rows(after), before.rules, strict=True):
        yield *row, old.fails, old.first


def _show_thresholds(change: "Change", console: Console) -> None:
    rows = [
        (one.step, one.column, one.share, when, found.documents, found.threshold, found.reached)
        for one in change.thresholds
        for when, found in (("before", one.before), ("now", one.after))
    ]
    if rows:
        console.print("\nfound anew", style="bold")
        console.print(table(THRESHOLDS, rows))


def _show_moved(change: "Change", console: Console) -> None:
    sides = (
        ("would be kept", change.num_now_kept, change.now_kept),
        ("would be dropped", change.num_now_dropped, change.now_dropped),
    )
    for title, count, moved in sides:
        console.print(f"\n{count:,} more {title}", style="bold")
        for one in moved:
            console.print(_line(one))


def _line(moved: "Moved") -> str:
    crossed = "; ".join(f"{one.column} = {one.value}: {one.before} -> {one.after}" for one in moved.crossed)
    return f"  {moved.doc_id}  {moved.url or '-'}  {crossed}"
