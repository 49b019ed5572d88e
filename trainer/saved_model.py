"""A model as a checkpoint has it, with the tokenizer and the objective that it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from headrace.pipeline.errors import InputError
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.checkpoint import Checkpoint, latest_checkpoint, open_checkpoint, restore_model
from headrace.trainer.model import Transformer
from headrace.trainer.objectives.contract import Objective
from headrace.trainer.relocate import open_recorded
from headrace.trainer.run_record import FILE, History, RunRecord, read_run
from headrace.trainer.stream import Stream

CHECKPOINTS = "checkpoints"
STATE = "state.json"


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint of a run.

    Attributes:
        folder: of the run; None where the checkpoint was taken out of it.
        record: the run.
        checkpoint: the model's parameters, and the state when they were written.
        stream: the run's stream, with its corpora.
    """

    folder: Path | None
    record: RunRecord
    checkpoint: Checkpoint
    stream: Stream

    @property
    def objective(self) -> Objective:
        """What it was trained by."""
        return self.record.run.make_objective()

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer of its corpora."""
        return self.stream.corpora[0].vocabulary

    @property
    def sequence_length(self) -> int:
        """Tokens that it saw at once."""
        return self.stream.sequence_length

    def model(self, device: torch.device | str = "cpu") -> Transformer:
        """Build it, ready to be used."""
        return restore_model(self.checkpoint, device).eval()


def open_saved(path: Path, stores: Sequence[Path] = (), tokens: Sequence[Path] = ()) -> SavedModel:
    """Open a run's newest whole checkpoint, or the one that is named.

    Args:
        path: a run's folder, or the folder of a checkpoint.
        stores: where the run's corpora lie now, if they were moved; `tokens`: their manifests (`open_recorded`).

    Raises:
        InputError: there is no checkpoint, or a corpus is not where it was.
        IntegrityError: what is there is damaged, or is not what the run was trained on.
    """
    folder, record, checkpoint = _find(path)
    return SavedModel(folder, record, checkpoint, open_recorded(record, stores, tokens, History.of(checkpoint.state)))


def _find(path: Path) -> tuple[Path | None, RunRecord, Checkpoint]:
    if (path / STATE).exists():
        checkpoint, folder = open_checkpoint(path), path.absolute().parent.parent
        if (folder / FILE).exists():
            return folder, read_run(folder), checkpoint
        state = {name: checkpoint.state[name] for name in ("plan", "intent", "stream", "config")}
        return None, RunRecord(**state, contents=()), checkpoint
    newest = latest_checkpoint(path / CHECKPOINTS)
    if newest is None:
        raise InputError(f"{path}: no checkpoint there; name the folder of a run, or one of its {CHECKPOINTS}/step-...")
    return path, read_run(path), newest
