"""Next-token prediction: every target of the stream counts once."""

import numpy as np

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, register


@register("causal")
def ask_next_tokens(batch: Batch) -> Question:
    """Ask for the next token wherever the stream gives one."""
    asked = batch.targets != IGNORE
    return Question(batch.tokens, np.where(asked, batch.targets, np.int32(0)), asked.astype(np.float32))
