"""What an objective is: a pure function from a batch to inputs, targets and weights.

The loss of a step is the sum over positions of weight times negative log-likelihood of the target, divided by the sum
of the weights of the *whole* global batch. A rank asks about its own rows only, so an objective treats each row by
itself; what it draws (masks, noise) it draws from a seed that it derives from the step and the row's tokens.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.registry import Registry
from headrace.trainer.batch import Batch


class Question(NamedTuple):
    """What the model is asked about a batch; all arrays are (rows, sequence_length).

    Attributes:
        inputs: int32, token ids that the model reads.
        targets: int32, token ids to be predicted; any id where the weight is 0.
        weights: float32, what each position counts in the loss; 0 where nothing is predicted.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]


Objective = Callable[[Batch], Question]

OBJECTIVES: Registry[Objective] = Registry("objective", "headrace.trainer.objectives")
register = OBJECTIVES.named
objectives = OBJECTIVES.all
