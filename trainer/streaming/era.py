"""What batches are made from while the same windows are replaced: tables, sources, samples, windows in memory.

A stream has one era, unless windows turn out to be damaged on the way: then another one from that step on. Each is as
if its windows had always been replaced, so none depends on the one before, nor on when the damage was found.
"""

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import Reweighted
from headrace.trainer.streaming.cache import WindowCache
from headrace.trainer.streaming.fair import Change, FairOrder
from headrace.trainer.streaming.mending import MendingTable
from headrace.trainer.streaming.plan import PlannedCorpus, StreamPlan
from headrace.trainer.streaming.samples import Samples
from headrace.trainer.streaming.source import Source


class Era:
    """The samples of a plan, with some windows replaced.

    Args:
        plan: the plan.
        tables: of each corpus.
        log: changes of the mixture that a controller made.
    """

    expected: int = -1
    """The block of samples whose windows were asked to be read ahead."""

    def __init__(self, plan: StreamPlan, tables: Sequence[MendingTable], log: Sequence[Reweighted]) -> None:
        self._plan, self.tables = plan, tuple(tables)
        self.cache = WindowCache(self.tables)
        self.sources = [Source(number, table, plan.seed) for number, table in enumerate(self.tables)]
        self._order: FairOrder | None = None
        self.arrange(log)

    def arrange(self, log: Sequence[Reweighted]) -> None:
        """Order the samples under this log."""
        planned = [(step, weights) for step, weights in self._plan.weights]
        changes = dict(planned) | {entry.step: entry.weights for entry in log}
        arranged = [Change(self._plan.first_sample(step), changes[step]) for step in sorted(changes)]
        limits = [
            _limit(corpus, source.num_rows) for corpus, source in zip(self._plan.corpora, self.sources, strict=True)
        ]
        self._order = FairOrder(self.sources, arranged, limits, self._order)
        self.samples, self.expected = Samples(self._order, self.sources), -1

    def windows_served(self, corpus: int, first: int, end: int) -> Collection[int]:
        """Return the windows of a corpus that samples from `first` up to `end` are rows of."""
        begin, stop = (self.samples.order.rows_before(sample)[corpus] for sample in (first, end))
        source = self.sources[corpus]
        if stop - begin >= source.num_rows:
            return range(len(self.tables[corpus]))
        return {stretch.window for stretch in source.stretches(begin, stop - begin)}

    def samples_of(self, corpus: int, window: int, row: int, first: int, end: int) -> Iterator[int]:
        """Yield the samples from `first` up to `end` that a row of a window is, one at most in each epoch."""
        source, order = self.sources[corpus], self.samples.order
        begin, stop = (order.rows_before(sample)[corpus] for sample in (first, end))
        for epoch in range(begin // source.num_rows, -(-stop // source.num_rows)):
            sample = order.sample_of(corpus, source.row_of(epoch, window, row))
            if sample is not None and first <= sample < end:
                yield sample


def _limit(corpus: PlannedCorpus, num_rows: int) -> int | None:
    """Return how many rows of a corpus may be served, or None."""
    if corpus.max_epochs is None:
        return None
    limit = row_limit(corpus.max_epochs, num_rows)
    if not limit:
        raise InputError(
            f"{corpus.name}: max_epochs = {corpus.max_epochs} of {num_rows} rows is less than a row; raise it, or "
            "leave the corpus out"
        )
    return limit


def row_limit(epochs: float, num_rows: int) -> int:
    """Return so many times a number of rows, rounded down, for the decimal number that `epochs` was written as."""
    return int(Fraction(repr(epochs)) * num_rows)
