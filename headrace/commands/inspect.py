"""`headrace inspect`: the funnel that led to an artifact, and some documents from each of its ways out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.inspect import Funnel, Report, Sample
    from headrace.pipeline.schema import Ledger

SHOWN_CHARACTERS = 110
MODELS = ("classifier",)
"""Stages that make a model, which documents do not go through."""

ON_THE_WAY = ("measure", "distinct", "bands", "buckets", "duplicates", "threshold")
"""Stages that decide nothing themselves: verdicts that follow have the numbers."""

FUNNEL = ("step", "in", "kept", "dropped", "bytes in", "bytes out", "tokens", "seconds")

ManifestFile = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, as `build` prints it.")]
Samples = Annotated[int, typer.Option(min=0, help="Documents to show of those kept, and of each reason.")]


def inspect(manifest: ManifestFile, samples: Samples = 3) -> Result:
    """Show how an artifact came to be: what each step took in, kept and dropped, for which reasons and how long."""
    from headrace.pipeline.inspect import inspect as inspect_manifest

    report = inspect_manifest(manifest, samples)
    return Result(as_data(report), lambda console: _show(report, console))


def _show(report: "Report", console: Console) -> None:
    models = [step for step in report.steps[:-1] if step.stage in MODELS]  # learned from other texts than these
    steps = [step for step in report.steps if step not in models]
    named = {"models": ", ".join(f"{step.label} ({step.path})" for step in models) or None}
    console.print(
        facts({"artifact": report.name, "content": report.content, "rows": report.rows, **report.facts, **named})
    )
    console.print()
    console.print(funnel_table(steps))
    reasons = [row for step in steps for row in drop_rows(step.label, step.stage, step.ledger)]
    if reasons:
        console.print()
        console.print(table(("dropped by", "reason", "records", "bytes"), reasons))
    for title, found in _sampled(report):
        console.print(f"\n{title}", style="bold")
        for sample in found:
            console.print(_line(sample))


def funnel_table(steps: Iterable["Funnel"]) -> Any:
    """Return the steps that decide or write, with what went through them."""
    rows = []
    for step in steps:
        ledger = step.ledger
        dropped = sum(tally.records for tally in ledger.dropped.values())
        if step.stage in ON_THE_WAY or not ledger.input.records:
            continue
        kept, sizes = ledger.kept.records, (ledger.input.bytes, ledger.output.bytes)
        rows.append((step.label, ledger.input.records, kept, dropped, *sizes, step.tokens, f"{step.seconds:.1f}"))
    return table(FUNNEL, rows)


def drop_rows(label: str, stage: str, ledger: "Ledger") -> Iterator[tuple[str, str, int, int]]:
    """Yield step, reason, records and bytes of what a step dropped, most records first; `cut` carries out verdicts."""
    for reason, tally in sorted(ledger.dropped.items(), key=lambda item: (-item[1].records, item[0])):
        if (stage, reason) != ("cut", "verdict"):
            yield label, reason, tally.records, tally.bytes


def _sampled(report: "Report") -> Iterator[tuple[str, Iterable["Sample"]]]:
    yield "kept", report.kept
    for dropped in report.dropped:
        yield f"dropped by {dropped.label}: {dropped.reason}", dropped.samples


def _line(sample: "Sample") -> str:
    evidence = f"  {brief(sample.evidence)}" if sample.evidence else ""
    text = f"\n      {start_of(sample.text)}" if sample.text else ""
    return f"  {sample.doc_id or '-'}  {sample.url or '-'}{evidence}{text}"


def brief(evidence: Mapping[str, Any]) -> str:
    """Return evidence in one line."""
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in evidence.items()
    )


def start_of(text: str) -> str:
    """Return the beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 3]}..."
