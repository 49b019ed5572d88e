"""What is evaluated: a checkpoint of a run, with the stream and the tokenizer that it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.trainer.checkpoint import Checkpoint
from headrace.trainer.device import choose_device
from headrace.trainer.evaluation.heldout import Evaluation, check_domain, evaluate_source
from headrace.trainer.evaluation.scorer import Scorer, make_scorer
from headrace.trainer.learner import Learner
from headrace.trainer.parallel import World
from headrace.trainer.run_record import RunRecord
from headrace.trainer.saved_model import open_saved
from headrace.trainer.stream import Stream


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
    saved = open_saved(path, stores, tokens)
    run = saved.record.run.measured_on(device)
    learner = Learner.build(run, saved.stream.vocab_size, World(0, 1, choose_device(run.run.device)))
    learner.model.load_state_dict(saved.checkpoint.model_tensors())
    learner.step = saved.checkpoint.step
    return Subject(saved.record, saved.checkpoint, saved.stream, learner)
