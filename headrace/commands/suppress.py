"""`headrace suppress`: what was taken down, so that no later build of the store brings it back."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.recipe_options import StoreFolder
from headrace.console import Result, as_data, facts, table

Reason = Annotated[str, typer.Option(help="Why, in words; it is kept with the record.")]
Date = Annotated[str, typer.Option(help="When it was asked for, as you write it.")]
Url = Annotated[str | None, typer.Option(help="The page of this URL, however it is written.")]
Domain = Annotated[str | None, typer.Option(help="Everything under this domain.")]
DocId = Annotated[str | None, typer.Option("--doc-id", help="This one document.")]
TextFile = Annotated[Path | None, typer.Option("--text-file", help="Every document with exactly this text.")]

PayloadFile = Annotated[
    Path | None,
    typer.Option("--payload-file", help="Every document that was extracted from exactly these bytes."),
]

COLUMNS = ("name", "what", "value", "reason", "date")


def suppress_add(
    store: StoreFolder,
    reason: Reason,
    url: Url = None,
    domain: Domain = None,
    doc_id: DocId = None,
    text_file: TextFile = None,
    payload_file: PayloadFile = None,
    date: Date = "",
) -> Result:
    """Take something down: builds of this store leave it out, and hold what resembles it for review."""
    from headrace.pipeline.store import Store
    from headrace.pipeline.suppressions import suppress, text_digest

    text = None if text_file is None else text_digest(text_file.read_text(encoding="utf-8"))
    payload = None if payload_file is None else sha256(payload_file.read_bytes()).hexdigest()
    given = {"url": url, "domain": domain, "doc_id": doc_id, "text": text, "payload": payload}
    named = [(what, value) for what, value in given.items() if value is not None]
    if len(named) != 1:
        raise typer.BadParameter("give one of --url, --domain, --doc-id, --text-file and --payload-file")
    made = suppress(Store.open(store), *named[0], reason, date)  # type: ignore[arg-type]
    data = {"name": made.name, "what": made.what, "value": made.value}
    return Result(data, lambda console: console.print(facts(data)))


def suppress_list(store: StoreFolder) -> Result:
    """List what is in force."""
    from headrace.pipeline.store import Store
    from headrace.pipeline.suppressions import in_force

    found = in_force(Store.look(store))
    rows = [(one.name, one.what, one.value, one.reason, one.date) for one in found]
    data = {"suppressions": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}
    return Result(data, lambda console: console.print(table(COLUMNS, rows)))


def suppress_remove(
    name: Annotated[str, typer.Argument(help="As `suppress list` prints it.")],
    store: StoreFolder,
    reason: Reason,
    date: Date = "",
) -> Result:
    """End a suppression; what was recorded stays, with a record that withdraws it."""
    from headrace.pipeline.store import Store
    from headrace.pipeline.suppressions import withdraw

    made = withdraw(Store.open(store), name, reason, date)
    data = {"withdrawn": name, "by": made.name}
    return Result(data, lambda console: console.print(facts(data)))


def suppress_check(store: StoreFolder) -> Result:
    """List the corpora of the store that still hold what was taken down; building them again leaves it out."""
    from headrace.pipeline.store import Store
    from headrace.pipeline.suppressions import still_held

    found = list(still_held(Store.look(store)))
    columns = ("corpus", "doc_id", "url", "what", "value")
    rows = [(one.corpus, one.doc_id, one.url or "-", one.what, one.value) for one in found]
    return Result({"held": as_data(found)}, lambda console: console.print(table(columns, rows)), int(bool(found)))
