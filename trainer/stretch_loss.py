"""The loss of each stretch of a document in a step's batch, at the checkpoint nearest to the step: why a loss rose."""

from pathlib import Path

import numpy as np
import torch

from headrace.pipeline.errors import InputError
from headrace.trainer.checkpoint import Checkpoint, find_checkpoints, open_checkpoint
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import join_world
from headrace.trainer.run_config import RunFile
from headrace.trainer.stream import Stream


def nearest_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint whose step is nearest to one, of equally near ones the earlier.

    Raises:
        InputError: there is none.
        IntegrityError: it is damaged.
    """
    paths = find_checkpoints(folder)
    if not paths:
        raise InputError(f"{folder}: the run has no checkpoint to measure a loss with")
    return open_checkpoint(min(paths, key=lambda path: (abs(int(path.name.rpartition("-")[2]) - step), path.name)))


def stretch_losses(run: RunFile, stream: Stream, checkpoint: Checkpoint, step: int) -> list[float | None]:
    """Return nats per target of each stretch of the batch of a step (from 0), row by row; None where none is asked.

    Stretches are those of rows before they are cut to a shorter length.

    Raises:
        InputError: the run's objective moves tokens, so that no loss belongs to a stretch.
    """
    run = run.measured_on()
    with join_world(run.run.device) as world:
        learner = Learner.build(run, stream.vocab_size, world)
        learner.restore(checkpoint)
        learner.forward.eval()
        batch = stream.batch(step)
        question = learner.objective.ask(batch, run.run.seed)
        if question.left_out is not None or not np.array_equal(question.documents, batch.documents):
            raise InputError(f"the objective {run.run.objective!r} moves tokens: losses cannot be told by document")
        with torch.no_grad():
            losses = [learner.negative_log_likelihood(batch, question, rows) for rows in learner.microbatches(batch)]
    values = torch.cat(losses).double().cpu().numpy().reshape(-1, stream.sequence_length)
    weights = question.weights.reshape(values.shape)
    found: list[float | None] = []
    for row, (_, pieces) in enumerate(stream.pieces(step)):
        for piece in pieces:
            place = slice(piece.offset, piece.offset + piece.length)
            total = float(weights[row, place].sum())
            found.append(float(np.sum(values[row, place])) / total if total else None)
    return found
