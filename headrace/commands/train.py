"""`headrace train` trains a model on corpora; `headrace trace` walks back from a step to the bytes of its documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.console import INTERRUPTED, Result, as_data, facts, stderr, table
from headrace.progress import training

if TYPE_CHECKING:
    from headrace.trainer.run_config import RunFile
    from headrace.trainer.train import TrainReport

RunFilePath = Annotated[Path, typer.Argument(metavar="RUN", help="A run file (.toml).")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where log and checkpoints go.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in DIR, if there is one.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="What `train --out` was given.")]
Step = Annotated[int, typer.Option("--step", metavar="N", min=1, help="Which step, as metrics.jsonl counts: from 1.")]


def train(run: RunFilePath, out: OutFolder, resume: Resume = False) -> Result:
    """Train a model as a run file says; the same run resumed at any step gives the same losses (on a CPU).

    Ctrl-C ends the step under way and writes a checkpoint.
    """
    from headrace.trainer.run_config import load_run

    loaded = load_run(run)
    _check_device(loaded, run)
    report = train_run(with_places(loaded, run.parent), out, resume)
    if report.interrupted:
        stderr().print(f"interrupted after step {report.step}; the same command with --resume continues there")

    def show(console: Console) -> None:
        console.print(facts({name: _rounded(value) for name, value in as_data(report).items()}))

    return Result(as_data(report), show, INTERRUPTED if report.interrupted else 0)


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


def with_places(run: "RunFile", folder: Path) -> "RunFile":
    """Return the run with manifests by absolute path: in a run file they are relative to it."""
    corpora = [
        corpus.model_copy(update={"tokens": str((folder / corpus.tokens).absolute())}) for corpus in run.data.corpora
    ]
    return run.model_copy(update={"data": run.data.model_copy(update={"corpora": corpora})})


def _rounded(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def trace(run: RunFolder, step: Step) -> Result:
    """Name the documents of a step's batch, and the bytes that they were read from.

    Nothing was logged for this: the batch is computed again from the run's plan.
    """
    from headrace.pipeline.errors import InputError, IntegrityError
    from headrace.trainer.checkpoint import latest_checkpoint
    from headrace.trainer.run_config import RunFile
    from headrace.trainer.stream import open_stream
    from headrace.trainer.trace import trace as trace_step

    checkpoint = latest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise InputError(f"{run}: no checkpoint there; name the folder that `headrace train --out` was given")
    config = RunFile.model_validate(checkpoint.state["config"], strict=False)
    stream = open_stream(config.data, config.run.seed)
    if stream.state() != checkpoint.state["stream"]:
        raise IntegrityError(f"{checkpoint.path}: the corpora at {_corpora(config)} are not those of this run any more")
    pieces = trace_step(stream, step - 1)  # the log counts steps taken, the stream counts batches from 0
    columns = ("row", "offset", "tokens", "from", "doc_id", "url", "bytes")

    def show(console: Console) -> None:
        rows = [
            (piece.row, piece.offset, piece.length, piece.start, piece.doc_id, piece.url, _range(piece.origin))
            for piece in pieces
        ]
        console.print(table(columns, rows))

    data = {"run": config.run.name, "plan": checkpoint.state["plan"], "step": step, "documents": as_data(pieces)}
    return Result(data, show)


def _range(origin: dict[str, object]) -> str:
    from headrace.pipeline.origins import Origin

    return str(Origin.of(origin))


def _corpora(run: "RunFile") -> str:
    return ", ".join(corpus.tokens for corpus in run.data.corpora)
