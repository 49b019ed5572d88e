"""`headrace why`: the fate of one document."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.inspect import brief, start_of
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.refetch import Refetched
    from headrace.pipeline.whereabouts import Standing
    from headrace.pipeline.why import Fate, Judged

Name = Annotated[str, typer.Argument(metavar="DOC_ID_OR_URL", help="A document's id, or the address it was read from.")]
StoreFolder = Annotated[Path, typer.Option("--store", metavar="DIR", help="The store that it was built in.")]
LockFile = Annotated[
    Path | None, typer.Option("--lock", metavar="FILE", help="The build that is meant; the last one by default.")
]
Refetch = Annotated[bool, typer.Option("--refetch", help="Read its bytes again, and extract them anew.")]


def why(document: Name, store: StoreFolder, lock: LockFile = None, refetch: Refetch = False) -> Result:
    """Tell what became of a document: each signal's value, each rule's verdict, and where its bytes lie."""
    from headrace.pipeline.lock import Lock
    from headrace.pipeline.refetch import refetch as read_again
    from headrace.pipeline.store import Store
    from headrace.pipeline.whereabouts import Whereabouts
    from headrace.pipeline.why import why as explain

    opened = Store.containing(store)
    fates = explain(opened, document, Lock.load(lock) if lock else None)
    standings = Whereabouts(opened).look([(fate.doc_id, fate.origin) for fate in fates])
    again = [read_again(opened, fate) if refetch else None for fate in fates]

    def show(console: Console) -> None:
        for fate, standing, found in zip(fates, standings, again, strict=True):
            _show(fate, standing, found, console)

    data = [
        _with_origin(fate) | standing_data(standing) | ({"refetched": _with_origin(found)} if found else {})
        for fate, standing, found in zip(fates, standings, again, strict=True)
    ]
    return Result({"documents": data}, show)


def _with_origin(value: "Fate | Refetched") -> dict[str, Any]:
    return {**as_data(value), "origin": value.origin.as_row()}


def standing_data(standing: "Standing") -> dict[str, Any]:
    """Return how an origin stands as data: `note` and `found_at`, both null where its own place is good."""
    return {"note": standing.note, "found_at": standing.found_at.as_row() if standing.found_at else None}


def _show(fate: "Fate", standing: "Standing", found: "Refetched | None", console: Console) -> None:
    repair = (fate.metadata or {}).get("repair")
    outcome = f"{fate.outcome} at {fate.step}" if fate.outcome != "kept" else "kept"
    console.print(f"{fate.doc_id or fate.kind}  {fate.url or ''}", style="bold")
    console.print(
        facts(
            {
                "outcome": outcome,
                "reason": fate.reason,
                "evidence": brief(fate.evidence) if fate.evidence else None,
                "same as": fate.survivor,
                "source": f"{fate.source}, {fate.kind}, {fate.date or 'without a date'}",
                "bytes": str(fate.origin),
                "note": standing.note,
                "digest": fate.origin.digest,
                "in the corpus": f"{fate.corpus.path}, row {fate.corpus.row}" if fate.corpus else None,
                "tokens": f"{fate.num_tokens:,} in {fate.tokens.path}, row {fate.tokens.row}" if fate.tokens else None,
                "repaired": brief(repair) if repair else None,
                "text": start_of(fate.text) if fate.text else None,
            }
        )
    )
    for title, drawn in _tables(fate):
        console.print(f"\n{title}", style="bold")
        console.print(drawn)
    if found:
        console.print("\nread again", style="bold")
        console.print(facts(_again(found)))


def _tables(fate: "Fate") -> Iterator[tuple[str, Any]]:
    measured = [(item.column, item.value) for step in fate.steps for item in step.measured]
    if measured:
        yield "measured", table(("column", "value"), [(name, _number(value)) for name, value in measured])
    failed = [(one.step, one.reason, one.column, _number(one.value), brief(one.limits)) for one in fate.failed]
    if failed:
        yield "fails", table(("step", "rule", "column", "value", "allowed"), failed)
    judged = [(step.label, *_judged(item)) for step in fate.steps for item in step.judged]
    if judged:
        yield "judged", table(("step", "column", "value", "allowed", "verdict"), judged)
    decided = [
        (step.label, step.reason or ("kept" if step.kept else "-"), step.cluster, step.cluster_size)
        for step in fate.steps
        if not step.measured and not step.judged
    ]
    if decided:
        yield "decided over all", table(("step", "verdict", "cluster", "cluster size"), decided)


def _judged(judged: "Judged") -> tuple[str, str, str, str]:
    rule = judged.rule
    verdict = "passed" if judged.passed else f"failed: {rule.get('reason') or rule['column'].rpartition('.')[2]}"
    return rule["column"], _number(judged.value), judged.allowed, verdict if judged.applies else "does not apply"


def _number(value: Any) -> str:
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _again(found: "Refetched") -> dict[str, Any]:
    same = {True: "the same as stored", False: "DIFFERENT from what is stored", None: "nothing to compare with"}
    return {
        "from": str(found.origin),
        "digest": "the same as stored",
        "extracted": same[found.same],
        "reason": found.reason,
        "text": start_of(found.text) if found.text else None,
        "passed over": "; ".join(found.passed_over) or None,
    }
