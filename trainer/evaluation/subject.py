"""What is evaluated: a checkpoint of a run, with the stream and the tokenizer that it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.errors import InputError
from headrace.trainer.checkpoint import Checkpoint, latest_checkpoint, open_checkpoint
from headrace.trainer.device import choose_device
from headrace.trainer.evaluation.heldout import Evaluation, check_domain, evaluate_source
from headrace.trainer.evaluation.scorer import Scorer, make_scorer
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World
from headrace.trainer.relocate import open_recorded
from headrace.trainer.run_record import FILE, History, RunRecord, read_run
from headrace.trainer.stream import Stream

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Subject:
    """A model as a checkpoint has it."""

    record: RunRecord
    checkpoint: Checkpoint
    stream: Stream
    learner: Learner

    def heldout(self, domain: str | None = None, max_batches: int | None = None) -> Evaluation | None:
        """Measure the held-out split, all of it by default, by the run's own domains by default; None if it is empty.

        Raises:
            InputError: the corpora have no such column as the domain names.
        """
        chosen = domain or self.record.run.eval.domain
        check_domain(self.stream, chosen)
        return evaluate_source(self.learner, self.stream, max_batches, chosen)

    def scorer(self, pseudo: bool = False) -> Scorer:
        """Return what answers tasks; raises `InputError` where the model has no likelihoods (`make_scorer`).

        With `pseudo`, a model that fills in masks is scored by pseudo-log-likelihood.
        """
        return make_scorer(
            self.learner.model,
            self.stream.corpora[0].vocabulary,
            self.stream.sequence_length,
            self.learner.objective,
            bf16=self.learner.bf16,
            example=self.stream.batch(0) if pseudo else None,
        )


def open_subject(
    path: Path, stores: Sequence[Path] = (), tokens: Sequence[Path] = (), device: str | None = None
) -> Subject:
    """Open what is evaluated.

    Args:
        path: A run's folder, whose newest whole checkpoint is taken, or the folder of a checkpoint.
        stores: Where the run's corpora lie now (`relocate.open_recorded`); `tokens`: their manifests.
        device: To compute on, by default the run's.

    Raises:
        InputError: there is no checkpoint, or a corpus is not where it was.
        IntegrityError: what is there is damaged, or is not what the run was trained on.
        RecipeError: this machine has no such device.
    """
    record, checkpoint = _find(path)
    stream = open_recorded(record, stores, tokens, History.of(checkpoint.state))
    run = record.run.measured_on(device)
    learner = Learner.build(run, stream.vocab_size, World(0, 1, choose_device(run.run.device)))
    learner.model.load_state_dict(checkpoint.model_tensors())
    learner.step = checkpoint.step
    return Subject(record, checkpoint, stream, learner)


def _find(path: Path) -> tuple[RunRecord, Checkpoint]:
    if (path / "state.json").exists():
        checkpoint = open_checkpoint(path)
        run = path.absolute().parent.parent
        return (read_run(run) if (run / FILE).exists() else _record_in(checkpoint)), checkpoint
    newest = latest_checkpoint(path / CHECKPOINTS)
    if newest is None:
        raise InputError(f"{path}: no checkpoint there; name the folder of a run, or one of its {CHECKPOINTS}/step-...")
    return read_run(path), newest


def _record_in(checkpoint: Checkpoint) -> RunRecord:
    """Return the record of a run from a checkpoint that was taken out of its folder."""
    return RunRecord(**{name: checkpoint.state[name] for name in ("plan", "intent", "stream", "config")}, contents=())
