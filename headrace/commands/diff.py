"""`headrace diff`: which documents changed fate between two corpora, and why."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.commands.inspect import Samples, brief, start_of
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.diff import Difference, Left, OtherText, Side

First = Annotated[Path, typer.Argument(metavar="A", help="The manifest of a corpus, as `build` prints it.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another, of this store or of any other.")]


def diff(a: First, b: Second, samples: Samples = 3) -> Result:
    """Compare two corpora: what both have, what one has alone, and what kept it out of the other."""
    from headrace.pipeline.diff import diff as compare

    found = compare(a, b, samples)
    return Result(as_data(found), lambda console: _show(found, console))


def _show(found: "Difference", console: Console) -> None:
    console.print(
        facts(
            {
                "documents of A": found.a.documents,
                "documents of B": found.b.documents,
                "in both": found.both,
                "with another text": found.other_text,
            }
        )
    )
    for side, name, other in ((found.a, "A", "B"), (found.b, "B", "A")):
        if side.alone:
            console.print(f"\n{side.alone:,} in {name} alone; why {other} has not got them", style="bold")
            console.print(
                table(("step", "reason", "documents"), [(r.step, r.reason, r.documents) for r in side.reasons])
            )
            for line in _samples(side):
                console.print(line)
    if found.other_text:
        console.print(f"\n{found.other_text:,} in both with another text", style="bold")
        for one in found.samples:
            console.print(_text_line(one))


def _samples(side: "Side") -> Iterator[str]:
    for reason in side.reasons:
        if reason.samples:
            yield f"\n{reason.step}: {reason.reason}"
        for one in reason.samples:
            yield f"  {one.doc_id}  {one.url or '-'}  {_why(one)}".rstrip()


def _why(left: "Left") -> str:
    failed = [f"{one.reason}: {brief(one.evidence)}" for one in left.failed]
    survivor = [f"same as {left.survivor}"] if left.survivor else []
    return "; ".join([*failed, *survivor, *([brief(left.evidence)] if left.evidence else [])])


def _text_line(one: "OtherText") -> str:
    sizes = f"{one.bytes_a:,} and {one.bytes_b:,} bytes, other from character {one.differs_at:,}"
    texts = f"      A: {start_of(one.text_a)}\n      B: {start_of(one.text_b)}"
    return f"  {one.doc_id}  {one.url or '-'}  {sizes}\n{texts}"
