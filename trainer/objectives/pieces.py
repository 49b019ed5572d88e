"""What objectives share that write other tokens than the stream's: pieces, and rows made of what they are turned into.

A *piece* is all that a row has of a document, the target behind its last token included. A *form* turns as many of its
tokens as there is room for into a sequence; of a sequence of n + 1 ids the first n are inputs, the last n targets.
Where the sequences of a row take more positions than it has, the longest of them are made shorter.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, row_generators

Bools = NDArray[np.bool_]
Int32s = NDArray[np.int32]


class Piece(NamedTuple):
    """Tokens of a document in a row, and which of them the stream asks for, never the first; both (n,)."""

    tokens: Int32s
    asked: Bools

    def __len__(self) -> int:
        return len(self.tokens)

    def begin(self, length: int) -> "Piece":
        """Return its first tokens."""
        return Piece(self.tokens[:length], self.asked[:length])

    def stretch(self, length: int, random: np.random.Generator) -> "Piece":
        """Return so many neighbouring tokens of it, drawn; the first may be one that is asked for."""
        start = int(random.integers(len(self.tokens) - length + 1))
        return Piece(self.tokens[start : start + length], self.asked[start : start + length])


class Written(NamedTuple):
    """A piece as it is asked about: ids, what each counts as a target, and how many at the begin all of them see."""

    ids: Int32s
    weights: Bools
    num_visible: int = 0


class Form(Protocol):
    """What a piece is turned into."""

    def num_positions(self, num_tokens: int) -> int:
        """Return the positions that so many tokens take; more tokens never take fewer. Too few to ask take none."""
        ...

    def write(self, piece: Piece, num_tokens: int, random: np.random.Generator) -> Written:
        """Turn so many tokens of a piece into a sequence."""
        ...


Choose = Callable[[np.random.Generator], Form]


def rewrite(batch: Batch, seed: int, choose: Choose, *, prefix: bool) -> Question:
    """Return what is asked when each piece has the form chosen for it; `prefix` says whether some of it is visible."""
    shape = batch.tokens.shape
    ids, positions = np.zeros((2, *shape), np.int32), np.zeros(shape, np.int32)
    documents, weights = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    visible, left_out = np.zeros(shape, np.bool_), np.zeros(shape[0], np.int64)
    for row, random in enumerate(row_generators(batch, seed)):
        at = 0
        pieces = list(pieces_of(batch, row))
        forms = [choose(random) for _ in pieces]
        wanted = [form.num_positions(len(piece)) for form, (_, piece) in zip(forms, pieces, strict=True)]
        rooms = share_room(wanted, shape[1])
        for form, (number, piece), want, room in zip(forms, pieces, wanted, rooms, strict=True):
            length = len(piece) if room == want else most_tokens(form, len(piece), room)
            left_out[row] += len(piece) - length if want else 0
            if form.num_positions(length) == 0:
                continue
            written = form.write(piece, length, random)
            end = at + len(written.ids) - 1
            ids[0, row, at:end], ids[1, row, at:end] = written.ids[:-1], written.ids[1:]
            weights[row, at:end], documents[row, at:end] = written.weights[1:], number
            positions[row, at:end] = np.arange(end - at)
            visible[row, at : at + written.num_visible] = True
            at = end
    return Question(ids[0], ids[1], weights, positions, documents, visible if prefix else None, left_out)


def pieces_of(batch: Batch, row: int) -> Iterator[tuple[int, Piece]]:
    """Yield the pieces of a row with their numbers, in order; padding is none."""
    tokens, targets, documents = batch.tokens[row], batch.targets[row], batch.documents[row]
    edges = [0, *(np.flatnonzero(documents[1:] != documents[:-1]) + 1).tolist(), len(documents)]
    for begin, end in pairwise(edges):
        if end > begin and documents[begin] >= 0:
            behind = targets[end - 1 : end] if targets[end - 1] != IGNORE else targets[:0]
            asked = np.concatenate(([False], targets[begin : end - 1] != IGNORE, behind != IGNORE))
            yield int(documents[begin]), Piece(np.concatenate((tokens[begin:end], behind)), asked)


def share_room(wanted: Sequence[int], room: int) -> list[int]:
    """Return how many positions each gets of a room: what it wants, where need be up to a limit for all."""
    if sum(wanted) <= room:
        return list(wanted)
    left, given = room, [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        given[index] = min(wanted[index], left // (len(wanted) - place))
        left -= given[index]
    return given


def most_tokens(form: Form, num_tokens: int, room: int) -> int:
    """Return how many of so many tokens a form can write in a room; none where too few are left to ask."""
    most = bisect_right(range(num_tokens + 1), room, key=form.num_positions) - 1
    return most if form.num_positions(most) else 0
