"""`headrace clusters`: the largest clusters of duplicates, their texts beside each other, the differences marked."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.commands.inspect import ManifestFile
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.cluster_texts import Cluster, Clusters, Member

Number = Annotated[int, typer.Option("--clusters", min=0, help="How many clusters to show, the largest first.")]
Members = Annotated[
    int, typer.Option(min=0, help="How many members of each, those that resemble their survivor least first.")
]
Step = Annotated[str | None, typer.Option(metavar="LABEL", help="Of which step, where several look for duplicates.")]
Held = Annotated[bool, typer.Option("--held", help="Only clusters that are held for review: they resemble a takedown.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write what is shown as a page, too.")]

STYLES = {"same": "", "survivor": "bold red", "member": "bold green", "left out": "dim italic"}
PAGE_WIDTH = 136


def clusters(
    manifest: ManifestFile,
    clusters: Number = 5,
    members: Members = 3,
    step: Step = None,
    held: Held = False,
    html: Html = None,
) -> Result:
    """Show the largest clusters of duplicates with their texts side by side.

    Left is the survivor, right a document that went for it; words that only one of them has are marked.
    """
    from headrace.pipeline.cluster_texts import show_clusters
    from headrace.pipeline.store import writing

    found = show_clusters(Path(manifest), clusters, members, step, held=held)
    if html is not None:
        page = Console(record=True, width=PAGE_WIDTH, file=io.StringIO())
        _show(found, page)
        with writing(html):
            html.write_text(page.export_html(), encoding="utf-8")
    return Result(as_data(found), lambda console: _show(found, console))


def _show(found: "Clusters", console: Console) -> None:
    told: dict[str, Any] = {"step": found.step, "clusters": found.num_clusters, "removed": found.num_removed}
    console.print(facts({**told, "held for review": found.num_held or None}))
    console.print()
    console.print(table(("cluster size", "clusters"), list(found.sizes)[-12:]))
    for cluster in found.largest:
        console.print(f"\ncluster {cluster.cluster} of {cluster.size:,}", style="bold")
        for member in cluster.members:
            console.print(_side_by_side(cluster, member, min(console.width, PAGE_WIDTH)))


def _side_by_side(cluster: "Cluster", member: "Member", width: int) -> Table:
    evidence = ", ".join(f"{key} {value}" for key, value in json.loads(member.evidence).items())
    beside = Table(width=width)
    beside.add_column(f"{cluster.survivor}\n{cluster.url or '-'}", ratio=1, overflow="fold")
    beside.add_column(f"{member.doc_id}  {evidence}\n{member.url or '-'}", ratio=1, overflow="fold")
    beside.add_row(*(_marked(member, side) for side in ("survivor", "member")))
    return beside


def _marked(member: "Member", side: str) -> Text:
    return Text(" ").join(_pieces(member, side))


def _pieces(member: "Member", side: str) -> Iterator[Text]:
    for piece in member.pieces:
        if piece.kind in ("same", "left out", side):
            shown = f"[{piece.text}]" if piece.kind == "left out" else piece.text
            yield Text(shown, style=STYLES[piece.kind])
