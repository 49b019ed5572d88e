"""The sign by which an objective hides tokens, found by asking the objective itself."""

import numpy as np

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Objective


def find_mask(objective: Objective, batch: Batch) -> int:
    """Return the id that stands in place of a token which is to be filled in, where it stood.

    Args:
        objective: What a model was trained by.
        batch: Some batch of what it was trained on.

    Raises:
        InputError: the objective hides tokens by several signs or by none, or asks for them elsewhere.
    """
    question = objective.ask(batch, 0)
    asked = question.weights > 0
    signs = np.unique(question.inputs[asked & (question.inputs >= len(batch.token_bytes))])
    in_place = np.array_equal(question.documents, batch.documents) and np.array_equal(
        question.targets[asked], batch.tokens[asked]
    )
    if objective.sight != "bidirectional" or len(signs) != 1 or not in_place:
        raise InputError(
            f"the objective {objective.name!r} does not hide tokens in their places by one sign, so there is no "
            "pseudo-log-likelihood of its models"
        )
    return int(signs[0])
