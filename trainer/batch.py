"""What the stream hands to training: batches as arrays, each a pure function of its step.

Rows hold pieces of documents one after another. `positions` restart and `documents` change where a new piece begins,
so a model needs no other sign of the border. A source keeps no cursor: asked twice for a step it answers the same,
and the rows of all ranks together are the rows of the one batch, in an order that the number of ranks fixes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

IGNORE = -100
"""Target of a position where nothing is to be predicted (torch's `ignore_index`)."""


@dataclass(frozen=True)
class Batch:
    """Rows of one global step.

    Attributes:
        step: the global step that this batch belongs to.
        tokens: int32 (rows, sequence_length), the model's inputs.
        targets: int32 (rows, sequence_length), the next tokens; `IGNORE` where nothing is to be predicted.
        positions: int32 (rows, sequence_length), from 0 in each piece of a document.
        documents: int32 (rows, sequence_length), number of the piece in its row, -1 on padding; attention never
            crosses it.
        token_bytes: int64 (vocabulary,), UTF-8 bytes of the text that each token stands for.
        sources: int16 (rows,), number of the corpus that each row is from, in the order of the plan.
        columns: what was asked beside tokens: by name a list of rows, each a list of values, one for each piece in it;
            `documents` are places in that list, where masks tell documents apart.
        token_joins: bool (vocabulary, 2), whether a token can go on a word, and whether a word can go on behind it;
            None where that is not known.
    """

    step: int
    tokens: NDArray[np.int32]
    targets: NDArray[np.int32]
    positions: NDArray[np.int32]
    documents: NDArray[np.int32]
    token_bytes: NDArray[np.int64]
    sources: NDArray[np.int16]
    columns: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    token_joins: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.tokens)

    @cached_property
    def num_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of the text that each row's targets stand for, int64 (rows,)."""
        lengths: NDArray[np.int64] = np.where(
            self.targets == IGNORE, 0, self.token_bytes[np.maximum(self.targets, 0)]
        ).sum(axis=1, dtype=np.int64)
        return lengths

    def cumulative_lengths(self, size: int | None = None) -> NDArray[np.int32]:
        """Return where pieces begin in the rows end to end, and where the last one ends: `cu_seqlens`.

        Padding at a row's end is a piece of its own. With a `size` the array is filled up with its last value, so that
        its shape does not change from batch to batch.

        Raises:
            ValueError: there are more pieces than fit.
        """
        edges = np.ones(self.documents.shape, dtype=bool)
        edges[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        begins = np.flatnonzero(edges.ravel()).astype(np.int32)
        total = np.int32(self.documents.size)
        if size is None:
            return np.append(begins, total)
        if len(begins) >= size:
            raise ValueError(f"{len(begins)} pieces do not fit in cumulative lengths of size {size}")
        filled = np.full(size, total, np.int32)
        filled[: len(begins)] = begins
        return filled

    def rows(self, selection: slice) -> "Batch":
        """Return the batch of only these rows (views, nothing is copied)."""
        return Batch(
            self.step,
            self.tokens[selection],
            self.targets[selection],
            self.positions[selection],
            self.documents[selection],
            self.token_bytes,
            self.sources[selection],
            {name: lists[selection] for name, lists in self.columns.items()},
            self.token_joins,
        )


class Reweighted(NamedTuple):
    """An entry of a schedule log: from a step on, the corpora have other weights than were planned."""

    step: int
    weights: tuple[float, ...]


class BatchSource(Protocol):
    """Gives any batch of a training run, and the held-out rows."""

    @property
    def sequence_length(self) -> int:
        """Tokens in a row, at most."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What each corpus is called; a batch's `sources` are numbers of these."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids; each token is below it."""
        ...

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the rank's share of the batch of a step, counted from 0."""
        ...

    def require(self, steps: int, world: int = 1) -> None:
        """Raise `InputError` if so many steps cannot be served to so many ranks."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the few integers and digests that fix every batch; plain JSON, the same at every step."""
        ...

    @property
    def log(self) -> tuple[Reweighted, ...]:
        """Changes of the mixture that a controller made, in order."""
        ...

    def reweigh(self, step: int, weights: Sequence[float]) -> None:
        """Give the corpora other weights from a step on; batches before it stay what they were."""
        ...

    def replay(self, log: Sequence[Reweighted]) -> None:
        """Take this log for one's own."""
        ...

    @property
    def quarantined(self) -> Sequence[tuple[int, int, int, str]]:
        """Step, corpus, window and reason, for each window that is replaced because it is damaged."""
        ...

    def mend(self, quarantined: Iterable[Any]) -> None:
        """Replace these windows too."""
        ...

    def contents(self) -> tuple[str, ...]:
        """Return the content ids of the tokens that rows are made of, in order; none where they have none."""
        ...

    def heldout(self, columns: Sequence[str] = ()) -> Iterator[Batch]:
        """Yield batches of the held-out split: each row once, in a fixed order, batches perhaps shorter.

        They have at least these columns beside tokens. The first ones are a fair share of each corpus, as a run may
        measure so many alone.
        """
        ...
