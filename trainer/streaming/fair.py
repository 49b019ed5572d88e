"""Which source serves which sample: weighted fair queueing over positions, as arithmetic.

Row `j` of a source begins where `clock(j)` of its positions have been served. With a price for each position, inverse
to the source's weight, that is the row's *time*: `(clock(j) - clock of the phase's first row + credit) * price`.
Samples are the rows of all sources in the order of their times, of equal ones by the number of the source (start-time
fair queueing, Goyal et al. 1996). So at any moment each source has served its share of positions up to one row,
whatever rows hold.

Weights hold for a *phase*. One ends where other weights are given, and a source goes into the next with its *credit*:
the positions that it has served beyond its share so far, or below 0 those that it lacks. So shares hold over all
changes together, and weights that are given again change nothing. A phase also ends where a source has been served as
often as it may be; then credits begin at 0. Where no source is left to serve, samples end. Times are integers, and a
credit is a whole number of them over the price that they were counted with, so the order is the same on every machine.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

PRICE = 1 << 24
"""Of a position of the source with the largest weight."""
LIGHTEST = 1 << 36
"""The largest weight over the least that a price can say; a lighter one counts as that."""
_FAR = 1 << 62


class Clock(Protocol):
    """A source as an endless line of rows."""

    def clock(self, row: int) -> int:
        """Return how many positions come before a row."""
        ...

    def starts(self, first: int, count: int) -> Int64s:
        """Return the positions before each of `count` rows, counted from the first of them."""
        ...

    def rank(self, position: int) -> int:
        """Return how many rows begin at a position or before it."""
        ...

    def rank_bounds(self, position: int) -> tuple[int, int]:
        """Return numbers between which `rank` is, without looking into windows."""
        ...


class Change(NamedTuple):
    """From a sample on, the sources have these weights; 0 serves nothing."""

    sample: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Phase:
    """Samples from `first` on: how many rows each source had served before, its clock then, and its price (0: none).

    `credits` are in positions, and `begins` are the times of the first rows that follow from them.
    """

    first: int
    rows: tuple[int, ...]
    clocks: tuple[int, ...]
    prices: tuple[int, ...]
    credits: tuple[Fraction, ...]
    begins: tuple[int, ...]

    @property
    def active(self) -> list[int]:
        """The sources that serve."""
        return [number for number, price in enumerate(self.prices) if price]


def prices_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Return what a position of each source costs, at most `PRICE * LIGHTEST`; 0 where the weight is 0."""
    largest = max(weights)
    return tuple(max(1, round(PRICE * min(largest / weight, LIGHTEST))) if weight else 0 for weight in weights)


class FairOrder:
    """The samples of some sources under changes of weights.

    Args:
        sources: their clocks.
        changes: weights, the first from sample 0 on, ascending.
        limits: how many rows each may serve in all, None for no end.
        before: the order under other changes, whose phases count where they are the same.
    """

    def __init__(
        self,
        sources: Sequence[Clock],
        changes: Sequence[Change],
        limits: Sequence[int | None] | None = None,
        before: "FairOrder | None" = None,
    ) -> None:
        self._sources, self._changes = tuple(sources), tuple(changes)
        self._limits = tuple(limits or [None] * len(sources))
        self._changed_at = [change.sample for change in self._changes]
        none = (0,) * len(sources)
        known = before.phases_under(self._changes) if before is not None else []
        self.phases = known or [self._phase(0, none, none)]
        """Those that were asked for so far."""
        self._firsts = [phase.first for phase in self.phases]
        self._all_known = False

    def phases_under(self, changes: Sequence[Change]) -> list[Phase]:
        """Return the phases known so far that stay what they are under other changes."""
        same = 0
        for ours, theirs in zip(self._changes, changes, strict=False):
            if ours != theirs:
                break
            same += 1
        if same == len(self._changes) == len(changes):
            return list(self.phases)
        differs = min(change.sample for some in (self._changes, changes) for change in some[same : same + 1])
        return self.phases[: bisect_left(self._firsts, differs)]

    @property
    def end(self) -> int | None:
        """The number of samples, or None where there is no end."""
        self._number(_FAR)
        last = self.phases[-1]
        return None if last.active else last.first

    def _weights(self, sample: int) -> tuple[float, ...]:
        return self._changes[bisect_right(self._changed_at, sample) - 1].weights

    def _phase(self, first: int, rows: tuple[int, ...], clocks: tuple[int, ...], after: Phase | None = None) -> Phase:
        """Return the phase that begins at a sample: with the credits of the one before, or without any.

        A source that has no row left is out where credits begin anew; until then its next row counts as to come.
        """
        kept = (0,) * len(rows) if after is None else after.prices
        weights = tuple(
            0.0 if limit is not None and served >= limit and not price else weight
            for weight, served, limit, price in zip(self._weights(first), rows, self._limits, kept, strict=True)
        )
        prices = prices_of(weights) if any(weights) else (0,) * len(weights)
        credit = (Fraction(0),) * len(rows) if after is None else _credits(after, clocks)
        begins = tuple(floor(own * price) for own, price in zip(credit, prices, strict=True))
        return Phase(first, rows, clocks, prices, credit, begins)

    def _number(self, sample: int) -> int:
        """Return the number of a sample's phase; one after the end is in the last, which serves nothing."""
        while not self._all_known and self.phases[-1].first <= sample:
            after = self._next_phase(self.phases[-1])
            if after is None:
                self._all_known = True
            else:
                self.phases.append(after)
                self._firsts.append(after.first)
        return bisect_right(self._firsts, sample) - 1

    def _next_phase(self, phase: Phase) -> Phase | None:
        """Return the phase that ends this one, or None."""
        if not phase.active:
            return None
        later = bisect_right(self._changed_at, phase.first)
        changes = self._changed_at[later : later + 1]
        ends = [self._limit_time(phase, number) for number in phase.active if self._limits[number] is not None]
        reached = self._count(phase, min(ends) - 1) if ends else None
        changed = bool(changes) and (reached is None or changes[0] - phase.first < reached)
        if changed:
            rows = self._rows_at(phase, changes[0] - phase.first)
        elif reached is not None:
            rows = self._rows_at(phase, reached)
        else:
            return None
        first = phase.first + sum(rows) - sum(phase.rows)
        clocks = tuple(self._sources[k].clock(row) for k, row in enumerate(rows))
        return self._phase(first, rows, clocks, phase if changed else None)

    def _time_of(self, phase: Phase, number: int, row: int) -> int:
        """Return when a source's row is served; both are of the phase."""
        served = self._sources[number].clock(row) - phase.clocks[number]
        return phase.begins[number] + served * phase.prices[number]

    def _limit_time(self, phase: Phase, number: int) -> int:
        limit = self._limits[number]
        assert limit is not None
        return self._time_of(phase, number, limit)

    def _rank(self, phase: Phase, number: int, time: int) -> int:
        """Return how many rows a source has served when all rows of a time and before are."""
        if time < phase.begins[number] or not phase.prices[number]:
            return phase.rows[number]
        return self._sources[number].rank(_position(phase, number, time))

    def _count(self, phase: Phase, time: int) -> int:
        return sum(self._rank(phase, number, time) - phase.rows[number] for number in phase.active)

    def _bounds(self, phase: Phase, time: int) -> tuple[int, int]:
        low = high = 0
        for number in phase.active:
            if time >= phase.begins[number]:
                some = self._sources[number].rank_bounds(_position(phase, number, time))
                low, high = low + max(0, some[0] - phase.rows[number]), high + some[1] - phase.rows[number]
        return low, high

    def _time(self, phase: Phase, sample: int) -> int:
        """Return the time of a phase's sample, both counted from the phase's beginning."""
        begin, more = min(phase.begins[number] for number in phase.active), PRICE
        while self._bounds(phase, begin + more)[0] <= sample:
            more *= 2
        beyond = begin + more
        before = _first_true(lambda time: self._bounds(phase, time)[1] > sample, begin, beyond)
        beyond = _first_true(lambda time: self._bounds(phase, time)[0] > sample, before, beyond)
        return _first_true(lambda time: self._count(phase, time) > sample, before, beyond)

    def _rows_at(self, phase: Phase, sample: int) -> tuple[int, ...]:
        """Return how many rows each source has served before a phase's sample."""
        active = phase.active
        if len(active) == 1:
            return tuple(row + sample * (k == active[0]) for k, row in enumerate(phase.rows))
        time = self._time(phase, sample)
        rows = [self._rank(phase, number, time - 1) for number in range(len(self._sources))]
        left = sample - (sum(rows) - sum(phase.rows))
        for number in active:
            if left and self._rank(phase, number, time) > rows[number]:
                rows[number], left = rows[number] + 1, left - 1
        return tuple(rows)

    def rows_before(self, sample: int) -> tuple[int, ...]:
        """Return how many rows each source serves before a sample."""
        phase = self.phases[self._number(sample)]
        return self._rows_at(phase, sample - phase.first) if phase.active else phase.rows

    def sample_of(self, source: int, row: int) -> int | None:
        """Return which sample a row of a source is, or None where it is served by none."""
        while not self._all_known and self.phases[-1].rows[source] <= row:
            self._number(self.phases[-1].first)
        number = bisect_right(self.phases, row, key=lambda phase: phase.rows[source]) - 1
        phase = self.phases[number]
        if not phase.prices[source]:
            return None
        time = self._time_of(phase, source, row)
        before = self._count(phase, time - 1)
        ties = sum(self._rank(phase, k, time) - self._rank(phase, k, time - 1) for k in phase.active if k < source)
        return phase.first + before + ties

    def next_samples(self, sample: int, rows: tuple[int, ...], count: int) -> NDArray[np.int16]:
        """Return the sources of `count` samples from one on, fewer at the end.

        Args:
            sample: the first.
            rows: how many rows each source serves before it.
            count: how many samples.
        """
        pieces = [np.zeros(0, np.int16)]
        while count:
            number = self._number(sample)
            phase, later = self.phases[number], self._firsts[number + 1 : number + 2]
            if not phase.active:
                break
            taken = min(count, later[0] - sample) if later else count
            pieces.append(self._within(phase, rows, taken))
            served = np.bincount(pieces[-1], minlength=len(rows)).tolist()
            rows = tuple(row + more for row, more in zip(rows, served, strict=True))
            sample, count = sample + len(pieces[-1]), count - len(pieces[-1])
        return np.concatenate(pieces)

    def _within(self, phase: Phase, rows: tuple[int, ...], count: int) -> NDArray[np.int16]:
        """Return the sources of the next samples of a phase, one at least; fewer where the others are far away."""
        active = phase.active
        if len(active) == 1:
            return np.full(count, active[0], np.int16)
        now = {k: self._time_of(phase, k, rows[k]) for k in active}
        begin = min(now.values())
        share = {k: 1 / phase.prices[k] for k in active}
        wanted = {k: int(count * share[k] / sum(share.values()) * 1.02) + 8 for k in active}
        while True:
            found = {k: self._times(k, rows[k], wanted[k], phase.prices[k], now[k] - begin) for k in active}
            times = np.concatenate(list(found.values()))
            sources = np.repeat(np.array(active, np.int16), [len(own) for own in found.values()])
            order = np.lexsort((sources, times))[:count]
            last = int(times[order[-1]]) if len(order) == count else _FAR
            short = [k for k in active if len(found[k]) == wanted[k] and int(found[k][-1]) < last]
            if not short:
                return sources[order]
            wanted |= {k: 2 * wanted[k] for k in short}

    def _times(self, number: int, first: int, count: int, price: int, offset: int) -> Int64s:
        """Return the times of the next rows of a source, those alone that are not far away."""
        if offset >= _FAR:
            return np.zeros(0, np.int64)
        starts = self._sources[number].starts(first, count)
        return starts[starts <= (_FAR - offset) // price] * price + offset


def _position(phase: Phase, number: int, time: int) -> int:
    """Return the position of a source that a time falls on."""
    return phase.clocks[number] + (time - phase.begins[number]) // phase.prices[number]


def _credits(phase: Phase, clocks: Sequence[int]) -> tuple[Fraction, ...]:
    """Return how many positions each source is ahead of its share when a phase ends with these clocks.

    What all have served in the phase takes the time `passed`, in which each was due `passed / price` positions.
    """
    prices = phase.prices
    served = [now - then for now, then in zip(clocks, phase.clocks, strict=True)]
    passed = int(sum(served) / sum(Fraction(1, prices[number]) for number in phase.active))
    return tuple(
        Fraction(begin + own * price - passed, price) if price else credit
        for begin, own, price, credit in zip(phase.begins, served, prices, phase.credits, strict=True)
    )


def _first_true(found: Callable[[int], bool], low: int, high: int) -> int:
    """Return the smallest number in [low, high] for which a monotone question is true; for `high` it is."""
    while low < high:
        middle = (low + high) // 2
        if found(middle):
            high = middle
        else:
            low = middle + 1
    return low
