"""What an objective is: a pure function from a batch to inputs, targets and weights, with its options.

The loss of a step is the sum over positions of weight times negative log-likelihood of the target, divided by the sum
of the weights of the *whole* global batch. A rank asks about its own rows only, so an objective treats each row by
itself; what it draws (masks, noise) it draws from generators that it makes of the seed, the step and the row's tokens.

An objective that writes signs which no tokenizer has (masks, sentinels) says how many; their ids follow the
vocabulary's last, and the model has that many more.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.registry import ClassRegistry, make_registered
from headrace.trainer.batch import Batch

Sight = Literal["causal", "bidirectional", "prefix"]
"""What a position sees of its own piece of a document: what is before it, all, or also all that is `visible`."""


class Question(NamedTuple):
    """What the model is asked about a batch; arrays are (rows, sequence_length) where nothing else is said.

    Attributes:
        inputs: int32, token ids that the model reads.
        targets: int32, token ids to be predicted; any id where the weight is 0.
        weights: float32, what each position counts in the loss; 0 where nothing is predicted.
        positions: int32, from 0 in each piece.
        documents: int32, number of the piece that a position is in, -1 on padding; attention never crosses it.
        visible: bool, positions that all of their piece see, those before them too; only with the sight `prefix`.
        left_out: int64 (rows,), tokens of each row that found no place; None where tokens stay in their places.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]
    positions: NDArray[np.int32]
    documents: NDArray[np.int32]
    visible: NDArray[np.bool_] | None = None
    left_out: NDArray[np.int64] | None = None

    def rows(self, selection: slice) -> "Question":
        """Return the question about only these rows."""
        return Question(*(None if array is None else array[selection] for array in self))  # type: ignore[arg-type]

    @property
    def num_positions(self) -> int:
        """Positions that are no padding."""
        return int((self.documents >= 0).sum())

    @property
    def has_gaps(self) -> bool:
        """Whether padding stands before what is none, in any row."""
        real = self.documents >= 0
        return bool((real[:, 1:] & ~real[:, :-1]).any())

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Where there is no padding; where there is nothing else, a single place."""
        real = self.documents >= 0
        if not real.any():
            real[:1, :1] = True
        return real

    def without_padding(self) -> "Question":
        """Return the question as one row of all positions that are no padding, in order; pieces stay apart."""
        kept = self.kept
        if kept.all():
            return self
        length = np.int32(self.documents.shape[1])
        apart = self.documents + length * np.arange(len(self.documents), dtype=np.int32)[:, None]
        flat = [array[kept][None] for array in (*self[:4], apart)]
        visible = None if self.visible is None else self.visible[kept][None]
        return Question(*flat, visible, self.left_out)  # type: ignore[arg-type,call-arg]

    def target_bytes(self, token_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the UTF-8 bytes of the text that each position predicts; `token_bytes` are those of each token's."""
        lengths = np.append(token_bytes, 0)  # signs beyond the vocabulary stand for no text
        found: NDArray[np.int64] = np.where(self.weights > 0, lengths[np.minimum(self.targets, len(token_bytes))], 0)
        return found

    def num_bytes(self, token_bytes: NDArray[np.int64]) -> float:
        """Return the UTF-8 bytes of all the text that is predicted, each target's times its weight."""
        return float((self.weights.astype(np.float64) * self.target_bytes(token_bytes)).sum())


class Objective(Protocol):
    """A registered objective; a frozen dataclass, whose fields are its options."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def sight(self) -> Sight:
        """How the model attends."""
        ...

    @property
    def num_signs(self) -> int:
        """How many ids behind the vocabulary it writes."""
        ...

    def ask(self, batch: Batch, seed: int) -> Question:
        """Return what the model is asked about a batch; of equal arguments always the same."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An objective that cannot be asked about rows of every length."""

    def require_length(self, sequence_length: int) -> None:
        """Raise RecipeError where rows can be so many positions long, or shorter, and those are too many."""
        ...


def require_length(objective: Objective, sequence_length: int) -> None:
    """Raise RecipeError if an objective cannot be asked about rows of this length, the longest there are."""
    if isinstance(objective, Bounded):
        objective.require_length(sequence_length)


OBJECTIVES = ClassRegistry("objective", "headrace.trainer.objectives")
register = OBJECTIVES.register
objectives = OBJECTIVES.all


def make_objective(name: str, options: Mapping[str, Any]) -> Objective:
    """Return an objective with its options.

    Raises:
        RecipeError: there is none of that name, it has no such option, or refuses a value.
    """
    return cast(Objective, make_registered(OBJECTIVES, name, options))


def row_generators(batch: Batch, seed: int) -> Iterator[np.random.Generator]:
    """Yield a generator for each row: of the seed, the step and the row's tokens, whichever rank has it."""
    for tokens in np.ascontiguousarray(batch.tokens, "<i4"):
        key = hashlib.sha256(f"{seed}\x1f{batch.step}\x1f".encode() + tokens.tobytes()).digest()
        yield np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))
