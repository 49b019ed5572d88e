"""`headrace contamination`: how much of which evaluation sets a corpus holds, and in which documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.commands.inspect import ManifestFile
from headrace.console import Result, as_data, table

if TYPE_CHECKING:
    from headrace.pipeline.contamination.report import ContaminationReport

Number = Annotated[int, typer.Option("--matches", min=0, help="How many documents to show, most held first.")]
Step = Annotated[str | None, typer.Option(metavar="LABEL", help="Of which step, where several look for sets.")]

COLUMNS = ("benchmark", "items", "searchable", "found", "half", "80 %", "whole", "documents", "kept")


def contamination(manifest: ManifestFile, matches: Number = 5, step: Step = None) -> Result:
    """Report for each evaluation set how many of its items stand in the documents, and in how many of these.

    An item is found if a document has an n-gram of it that is not common, and held by the share of all of them.
    """
    from headrace.pipeline.contamination.report import report_contamination

    found = report_contamination(Path(manifest), matches, step)
    return Result(as_data(found), lambda console: _show(found, console))


def _show(found: "ContaminationReport", console: Console) -> None:
    rows = [
        (one.name, one.items, one.searchable, one.found, *one.held, one.documents, one.kept) for one in found.benchmarks
    ]
    console.print(table(COLUMNS, rows))
    for match in found.strongest:
        fate = "kept" if match.kept else "dropped"
        console.print(f"\n{match.doc_id}  {match.url or '-'}", style="bold")
        console.print(f"  {fate}; holds {match.weighted_frac:.0%} of {match.benchmark} {match.item}")
        console.print(f"  {match.text}", style="italic", markup=False)
