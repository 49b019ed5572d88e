"""Whose turn it is, where several corpora are read once: all advance alike, so that a part of it is a part of each."""

from collections.abc import Iterator, Sequence, Sized
from typing import TypeVar

_Batch = TypeVar("_Batch", bound=Sized)


def by_turns(corpora: Sequence[tuple[int, Iterator[_Batch]]]) -> Iterator[_Batch]:
    """Yield the batches of corpora, each given with its number of rows.

    The next one is always of the corpus of whose rows the least share was yielded, the first of equal ones. So every
    corpus is reached before any has its second turn, and from then on each has its share up to one batch.
    """
    served = {number: 0 for number, (num_rows, _) in enumerate(corpora) if num_rows}
    while served:
        number = min(served, key=lambda one: served[one] / corpora[one][0])
        batch = next(corpora[number][1], None)
        if batch is None:
            del served[number]
        else:
            served[number] += len(batch)
            yield batch
