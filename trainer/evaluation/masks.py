"""The sign by which an objective hides tokens, found by asking the objective itself."""

import numpy as np

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import Batch
from headrace.trainer.objectives.contract import Objective

_ROWS, _LENGTH = 8, 128


def find_mask(objective: Objective, vocab_size: int, end_of_text: int) -> int:
    """Return the id that stands in place of a token which is to be filled in, where it stood.

    Args:
        objective: What a model was trained by.
        vocab_size: Ids of the tokenizer; signs follow them.
        end_of_text: What stands before a document.

    Raises:
        InputError: the objective hides tokens by several signs or by none, or asks for them elsewhere.
    """
    batch = _example(vocab_size, end_of_text)
    question = objective.ask(batch, 0)
    asked = question.weights > 0
    signs = np.unique(question.inputs[asked & (question.inputs >= vocab_size)])
    in_place = np.array_equal(question.documents, batch.documents) and np.array_equal(
        question.targets[asked], batch.tokens[asked]
    )
    if objective.sight != "bidirectional" or len(signs) != 1 or not in_place:
        raise InputError(
            f"the objective {objective.name!r} does not hide tokens in their places by one sign, so there is no "
            "pseudo-log-likelihood of its models"
        )
    return int(signs[0])


def _example(vocab_size: int, end_of_text: int) -> Batch:
    """Return rows of one document each, of tokens that a text may have."""
    random = np.random.default_rng(0)
    line = random.integers(vocab_size, size=(_ROWS, _LENGTH + 1)).astype(np.int32)
    line[:, 0] = end_of_text
    positions = np.tile(np.arange(_LENGTH, dtype=np.int32), (_ROWS, 1))
    token_bytes, sources = np.ones(vocab_size, np.int64), np.zeros(_ROWS, np.int16)
    tokens, targets = np.ascontiguousarray(line[:, :-1]), np.ascontiguousarray(line[:, 1:])
    return Batch(0, tokens, targets, positions, np.zeros_like(positions), token_bytes, sources)
