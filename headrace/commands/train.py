"""`headrace train` trains a model on corpora; `headrace trace` walks back from a step to the bytes of its documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.commands.why import standing_data
from headrace.console import INTERRUPTED, PREEMPTED, Result, as_data, facts, stderr, table
from headrace.progress import training

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.pipeline.whereabouts import Standing
    from headrace.trainer.run_config import RunFile
    from headrace.trainer.stream import Stream
    from headrace.trainer.trace import Traced
    from headrace.trainer.train import TrainReport

SHOWN_NOTES = 10

RunFilePath = Annotated[Path, typer.Argument(metavar="RUN", help="A run file (.toml).")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where log and checkpoints go.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in DIR, if there is one.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="What `train --out` was given.")]
Stores = Annotated[
    list[Path] | None,
    typer.Option("--store", metavar="DIR", help="The store of the run's corpora, where it was moved. Repeatable."),
]
Tokens = Annotated[
    list[Path] | None,
    typer.Option(
        "--tokens", metavar="MANIFEST", help="The tokens of a corpus, where they were moved; one for each, in order."
    ),
]
WithLoss = Annotated[
    bool, typer.Option("--loss", help="Rank by the loss at the checkpoint nearest to the step, nats per token.")
]
Step = Annotated[int, typer.Option("--step", metavar="N", min=1, help="Which step, as metrics.jsonl counts: from 1.")]


def train(run: RunFilePath, out: OutFolder, resume: Resume = False) -> Result:
    """Train a model as a run file says; the same run resumed at any step gives the same losses (on a CPU).

    Ctrl-C ends the step under way and writes a checkpoint (status 130). So does SIGTERM, with status 75, on which a
    scheduler is to start the same command with --resume.
    """
    from headrace.trainer.run_config import load_run

    loaded = load_run(run)
    _check_device(loaded, run)
    report = train_run(loaded.beside(run.parent), out, resume)
    if report.interrupted:
        stderr().print(f"interrupted after step {report.step}; the same command with --resume continues there")

    def show(console: Console) -> None:
        console.print(facts({name: _rounded(value) for name, value in as_data(report).items()}))

    status = PREEMPTED if report.preempted else INTERRUPTED
    return Result(as_data(report), show, status if report.interrupted else 0)


def _check_device(run: "RunFile", path: Path) -> None:
    """Raise `RecipeError`, naming the file, where the run cannot compute on what it names."""
    from headrace.pipeline.errors import RecipeError
    from headrace.trainer.device import choose_device

    try:
        choose_device(run.run.device)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def train_run(run: "RunFile", out: Path, resume: bool) -> "TrainReport":
    """Train with progress on stderr."""
    from headrace.pipeline.store import writing
    from headrace.trainer.stream import open_stream
    from headrace.trainer.train import train as train_model

    with writing(out), training(run.run.steps) as watch:
        return train_model(run, open_stream(run.data, run.run.seed), out, resume, watch)


def _rounded(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def trace(run: RunFolder, step: Step, store: Stores = None, tokens: Tokens = None, loss: WithLoss = False) -> Result:
    """Name the documents of a step's batch, and the bytes that they were read from.

    Nothing was logged for this: the batch is computed again from the run's plan. So a step can be traced before it is
    trained, and one at which the run died.
    """
    from headrace.pipeline.errors import InputError
    from headrace.trainer.relocate import open_recorded
    from headrace.trainer.run_record import read_history, read_run
    from headrace.trainer.trace import trace as trace_step

    record = read_run(run)
    config = record.run
    if not 1 <= step <= config.run.steps:
        raise InputError(f"--step {step}: run {config.run.name!r} has the steps 1 to {config.run.steps}")
    history = read_history(run)
    stream = open_recorded(record, store or (), tokens or (), history)
    pieces = trace_step(stream, step - 1)  # the log counts steps taken, the stream counts batches from 0
    standings = _look(pieces, stream)
    trained, is_left_out = trained_steps(run), step - 1 in history.left_out
    if step > trained:
        stderr().print(
            f"step {step} has not been trained yet (the log ends with step {trained}); this will be its batch"
        )
    if is_left_out:
        stderr().print(f"step {step} was left out at a loss spike: nothing was learned of its batch")
    for note in _first_notes(standings):
        stderr().print(f"note: {note}", style="yellow")
    checkpoint, losses = _losses(run, stream, step) if loss else (None, [None] * len(pieces))
    found = list(zip(pieces, standings, losses, strict=True))
    if loss:
        found.sort(key=lambda one: -(one[2] or 0))
    columns = (*(("loss",) if loss else ()), "row", "offset", "tokens", "from", "doc_id", "url", "bytes")

    def show(console: Console) -> None:
        rows = [
            (
                *((f"{value:.4f}",) if value is not None else ()),
                *(piece.row, piece.offset, piece.length, piece.start, piece.doc_id, piece.url),
                _place(piece, standing),
            )
            for piece, standing, value in found
        ]
        console.print(table(columns, rows))

    documents = [
        as_data(piece) | standing_data(standing) | ({"loss": value} if loss else {}) for piece, standing, value in found
    ]
    data = {
        "run": config.run.name,
        "plan": record.plan,
        "step": step,
        "trained": step <= trained and step - 1 not in history.left_out,
    }
    return Result({**data, **({"checkpoint": checkpoint} if loss else {}), "documents": documents}, show)


def _losses(run: Path, stream: "Stream", step: int) -> "tuple[int, list[float | None]]":
    """Return the step of the checkpoint nearest to a step, and its loss on each stretch of the step's batch."""
    from headrace.trainer.run_record import read_run
    from headrace.trainer.stretch_loss import nearest_checkpoint, stretch_losses

    checkpoint = nearest_checkpoint(run / "checkpoints", step)
    return checkpoint.step, stretch_losses(read_run(run).run, stream, checkpoint, step - 1)


def _look(pieces: "Sequence[Traced]", stream: "Stream") -> "list[Standing]":
    """Return how the origin of each stretch stands, as the store of its corpus knows."""
    from headrace.pipeline.origins import Origin
    from headrace.pipeline.whereabouts import Whereabouts

    found: dict[tuple[int, str], Standing] = {}
    for number, corpus in enumerate(stream.corpora):
        origins = {piece.doc_id: Origin.of(piece.origin) for piece in pieces if piece.corpus == number}
        standings = Whereabouts(corpus.store).look(list(origins.items()))
        found |= {(number, doc_id): standing for doc_id, standing in zip(origins, standings, strict=True)}
    return [found[piece.corpus, piece.doc_id] for piece in pieces]


def _first_notes(standings: "Sequence[Standing]") -> "Iterator[str]":
    """Yield what is to be said of places, the first of it and how much more there is."""
    notes = list(dict.fromkeys(standing.note for standing in standings if standing.note))
    yield from notes[:SHOWN_NOTES]
    if len(notes) > SHOWN_NOTES:
        yield f"{len(notes) - SHOWN_NOTES:,} more documents are not where they were read; --json says where each is"


def _place(piece: "Traced", standing: "Standing") -> str:
    """Return the range of bytes where a document can be read, or could."""
    from headrace.pipeline.origins import Origin

    return str(standing.found_at or Origin.of(piece.origin))


def trained_steps(run: Path) -> int:
    """Return how many steps a run has taken, as its log says."""
    from headrace.trainer.metrics import read_metrics

    log = read_metrics(run / "metrics.jsonl")
    return int(log[-1]["step"]) if log else 0
