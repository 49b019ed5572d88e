"""`headrace stream check` and `export`, `headrace exposure`: what a run is given, and where something went in."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.commands.train import RunFilePath, RunFolder, Stores, Tokens, trained_steps
from headrace.console import Result, as_data, stderr, table

DocId = Annotated[str | None, typer.Option("--doc", metavar="ID", help="One document.")]
Url = Annotated[str | None, typer.Option(help="The page of this URL, however it is written.")]
Domain = Annotated[str | None, typer.Option(help="Everything under this domain.")]
ExportFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is not there yet.")]
Format = Annotated[str, typer.Option(metavar="FORMAT", help="megatron or mds.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Check as if the run had so many steps.")]


def stream_check(run: RunFilePath, steps: Steps = None) -> Result:
    """Prove from lengths alone that a run serves each document exactly as often as planned.

    Tells for each corpus what an epoch is made of, how much of its rows is padding, and what share of the run's tokens
    is its.
    """
    from headrace.trainer.coverage import check_coverage
    from headrace.trainer.run_config import load_run
    from headrace.trainer.stream import open_stream

    loaded = load_run(run).beside(run.parent)
    steps = steps or loaded.run.steps
    stream = open_stream(loaded.data, loaded.run.seed)
    found = check_coverage(stream, steps)
    columns = ("corpus", "servings", "positions", "rows", "padded", "split", "dropped", "epochs", "share", "weight")

    def show(console: Console) -> None:
        rows = [
            (
                *(c.name, c.servings, c.positions, c.rows, f"{c.padded_share:.3%}", c.split, c.dropped),
                *(f"{c.epochs:.3f}", f"{c.share:.3%}", f"{c.weight:.3%}"),
            )
            for c in found
        ]
        console.print(table(columns, rows))
        replaced = sum(corpus.replaced for corpus in found)
        if replaced:
            console.print(f"{replaced} damaged windows are replaced; what is in them is not served", style="yellow")
        else:
            console.print("each document is served exactly as often as planned", style="green")

    return Result({"plan": stream.plan.identity, "steps": steps, "corpora": as_data(found)}, show)


def stream_export(run: RunFilePath, out: ExportFolder, to: Format = "megatron") -> Result:
    """Write the tokens of a run's corpora for other trainers: Megatron's .bin and .idx (nanoGPT reads .bin), or MDS.

    Each document once an epoch, or as often as it is repeated, held-out ones apart.
    """
    from headrace.trainer.exports.documents import export_tokens
    from headrace.trainer.run_config import load_run
    from headrace.trainer.stream import open_stream

    loaded = load_run(run).beside(run.parent)
    found = export_tokens(open_stream(loaded.data, loaded.run.seed), to, out)
    columns = ("path", "split", "documents", "tokens")

    def show(console: Console) -> None:
        console.print(table(columns, [(one.path, one.split, one.documents, one.tokens) for one in found]))

    return Result({"exported": as_data(found)}, show)


def exposure(
    run: RunFolder,
    doc: DocId = None,
    url: Url = None,
    domain: Domain = None,
    store: Stores = None,
    tokens: Tokens = None,
) -> Result:
    """Name the steps of a run that were trained on a document, a URL or a domain, and with how many tokens.

    Nothing was logged for this. Only steps that were taken count, as the run's log says.
    """
    from headrace.trainer.exposure import exposure as find_exposure
    from headrace.trainer.relocate import open_recorded
    from headrace.trainer.run_record import read_history, read_run

    given = [(what, value) for what, value in (("doc_id", doc), ("url", url), ("domain", domain)) if value is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --doc, --url and --domain")
    record, steps, history = read_run(run), trained_steps(run), read_history(run)
    stream = open_recorded(record, store or (), tokens or (), history)
    found = find_exposure(stream, *given[0], steps)  # type: ignore[arg-type]  # one of the three
    found = [one for one in found if one.step not in history.left_out]
    total = sum(one.length for one in found)
    documents, touched = (len({getattr(one, name) for one in found}) for name in ("doc_id", "step"))
    stderr().print(f"{total:,} tokens of {documents:,} documents in {touched:,} of {steps:,} steps")
    rows = [as_data(one) | {"step": one.step + 1} for one in found]

    def show(console: Console) -> None:
        columns = ("step", "row", "tokens", "from", "doc_id", "url")
        console.print(table(columns, [(o.step + 1, o.row, o.length, o.start, o.doc_id, o.url) for o in found]))

    data = {"run": record.run.run.name, "plan": record.plan, "trained": steps, "tokens": total}
    return Result({**data, "exposed": rows}, show)
