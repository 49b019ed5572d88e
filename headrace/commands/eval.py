"""`headrace eval` measures a model: the held-out split by domain, and tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.train import Stores, Tokens
from headrace.console import Result, stderr, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.trainer.evaluation.heldout import Evaluation
    from headrace.trainer.evaluation.task_file import TaskResult

SHOWN_DOMAINS = 30

Subject = Annotated[
    Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run's folder (its newest checkpoint), or a checkpoint's.")
]
TaskFiles = Annotated[
    list[Path] | None, typer.Option("--task", metavar="FILE", help="A task file (.toml). Repeatable.")
]
Domain = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="What domains are: 'corpus', or a column beside tokens. Default: the run's eval.domain."
    ),
]
MaxBatches = Annotated[int | None, typer.Option("--max-batches", min=1, help="Measure so many held-out batches.")]
WithHeldout = Annotated[bool, typer.Option("--heldout/--no-heldout", help="Whether to measure the held-out split.")]
Pseudo = Annotated[
    bool, typer.Option("--pseudo", help="Score a model that fills in masks by pseudo-log-likelihood (slow).")
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="Where to compute. Default: where the run did.")]


def evaluate(
    model: Subject,
    task: TaskFiles = None,
    domain: Domain = None,
    max_batches: MaxBatches = None,
    heldout: WithHeldout = True,
    pseudo: Pseudo = False,
    device: Device = None,
    store: Stores = None,
    tokens: Tokens = None,
) -> Result:
    """Measure a checkpoint: loss and bits per byte of the held-out split by domain, and tasks from files.

    Values in brackets are 95 % intervals, over documents or over items.
    """
    from headrace.trainer.evaluation.subject import open_subject
    from headrace.trainer.evaluation.task_file import load_task

    tasks = [load_task(path) for path in task or ()]
    for one in tasks:
        one.check()  # what is wrong with a task's files is told before a model is loaded
    subject = open_subject(model, store or (), tokens or (), device)
    scorer = subject.scorer(pseudo) if tasks else None
    whole = subject.heldout(domain, max_batches) if heldout else None
    results = []
    for one in tasks:
        assert scorer is not None
        results.append(one.run(scorer))
        stderr().print(f"{one.file.name}: done")
    domains = whole.by_domain() if whole else {}
    data = {
        "run": subject.record.run.run.name,
        "plan": subject.record.plan,
        "checkpoint": str(subject.checkpoint.path),
        "step": subject.checkpoint.step,
        "heldout": None if whole is None else whole.report() | {"domains": _reports(domains)},
        "tasks": [result.report() for result in results],
    }
    return Result(data, lambda console: _show(whole, results, console))


def _reports(domains: "Mapping[str, Evaluation]") -> dict[str, Any]:
    return {name: part.report() for name, part in domains.items()}


def _show(whole: "Evaluation | None", results: "Sequence[TaskResult]", console: Console) -> None:
    from headrace.trainer.evaluation.estimates import shown

    if whole is not None:
        domains = whole.by_domain()
        parts = [("all", whole), *(list(domains.items())[:SHOWN_DOMAINS] if len(domains) > 1 else ())]
        rows = [
            (name, len(part.documents), int(part.num_targets), shown(part.loss_estimate()), shown(part.bits_estimate()))
            for name, part in parts
        ]
        console.print(table(("held out", "documents", "targets", "loss", "bits per byte"), rows))
        if len(domains) > SHOWN_DOMAINS:
            console.print(f"{len(domains) - SHOWN_DOMAINS:,} more domains; --json has them all")
    if results:
        lines = [
            (result.name, metric, shown(found), found.n, result.num_examples, result.num_cut)
            for result in results
            for metric, found in result.metrics.items()
        ]
        console.print(table(("task", "metric", "value", "items", "examples", "cut"), lines))
        for signature in dict.fromkeys(found.signature for one in results for found in one.metrics.values()):
            if signature:
                console.print(f"signature: {signature}")
