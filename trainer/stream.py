"""The stream: batch number s as pure arithmetic over a plan (law 3).

Sample n of a run belongs to a source (`streaming.fair`) and is a row of it (`streaming.source`), made of pieces of
documents (`pipeline.packing`). So the batch of a step depends on no rank, no worker and no history; the state of a
stream is the plan's digest, how many samples were seen, and the digest of its schedule log, which stays empty unless a
controller changes the mixture. `docs/stream.md` has the arithmetic on a page.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.trainer.batch import Batch, Reweighted
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.beside import Beside
from headrace.trainer.streaming.corpus import Corpus, Opener, Serving
from headrace.trainer.streaming.era import Era
from headrace.trainer.streaming.mending import DamagedWindowError, MendingTable, Quarantined
from headrace.trainer.streaming.plan import ARITHMETIC, PlannedCorpus, StreamPlan, differing
from headrace.trainer.streaming.rows import RowArrays, gather_slots, load_kernels
from headrace.trainer.streaming.samples import BLOCK, Located, Samples, joined
from headrace.trainer.streaming.source import Source
from headrace.trainer.streaming.turns import by_turns
from headrace.trainer.streaming.windows import Piece, TokenTable, Window

_logger = logging.getLogger(__name__)

_SLAB_STEPS, _SLAB_POSITIONS = 4, 1 << 17
"""How many steps are written together, at most: few calls, and arrays that a processor's cache holds."""
_ERAS = 2
"""How many eras are kept open."""
_NAMED = 12
"""How many replaced windows a state names itself."""

Place = tuple[int, int]
"""A window: the corpus's number and its own."""
_Made = TypeVar("_Made")


class _Slab(NamedTuple):
    """The batches of some steps from `first` on, for one rank."""

    first: int
    rank: int
    world: int
    batches: list[Batch]


_NO_SLAB = _Slab(0, 0, 1, [])


class Stream:
    """Gives any batch of a plan, and its held-out rows (`trainer.batch.BatchSource`).

    Args:
        plan: what to serve.
        corpora: its corpora, opened, in order.
        log: changes of the mixture that a controller made, in order.
        replace: whether other windows stand in for those that turn out to be damaged.
        columns: what batches have beside tokens.
    """

    log: tuple[Reweighted, ...]
    """Changes of the mixture that a controller made, in order."""

    def __init__(
        self,
        plan: StreamPlan,
        corpora: Sequence[Corpus],
        log: Sequence[Reweighted] = (),
        *,
        replace: bool = False,
        columns: Sequence[str] = (),
    ) -> None:
        self.plan, self.corpora = plan, tuple(corpora)
        self._token_bytes = corpora[0].vocabulary.byte_lengths()
        self._token_joins = corpora[0].vocabulary.word_joins()
        self._end_of_text = corpora[0].vocabulary.end_of_text
        self._columns = tuple(columns)
        self._width = 0 if plan.packing == "document" else plan.sequence_length
        self.tables = [self._table(corpus, "train") for corpus in corpora]
        for number, (corpus, table) in enumerate(zip(corpora, self.tables, strict=True)):
            table.corpus = number
            if not len(table):
                raise InputError(f"{corpus.name}: no document is left to train on (held out: {plan.heldout} in 10,000)")
        self._elsewhere = [number for number, corpus in enumerate(corpora) if corpus.reader is not None]
        self._reader = next((corpus.reader for corpus in corpora if corpus.reader is not None), None)
        self.replaces = replace
        self._quarantined: dict[Place, tuple[int, str]] = {}
        self._eras: dict[frozenset[Place], Era] = {}
        self.replay(log)
        self._era(self._gone())

    def _table(self, corpus: Corpus, split: str, columns: Sequence[str] = ()) -> MendingTable:
        return corpus.table(split, beside=columns or self._columns, bare=not self._width)

    def _era(self, gone: frozenset[Place]) -> Era:
        """Return what batches are made from where these windows are replaced."""
        era = self._eras.pop(gone, None)
        if era is None:
            tables = [
                table.without([window for corpus, window in gone if corpus == number])
                for number, table in enumerate(self.tables)
            ]
            era = Era(self.plan, tables, self.log)
        self._eras[gone] = era
        if len(self._eras) > _ERAS:
            del self._eras[next(iter(self._eras))]
        return era

    def _gone(self, step: int | None = None) -> frozenset[Place]:
        """Return the windows that are replaced at a step; without one, all that ever are."""
        return frozenset(place for place, (since, _) in self._quarantined.items() if step is None or since <= step)

    def eras(self, steps: int) -> Iterator[tuple[int, int, Era]]:
        """Yield what the batches of the first steps are made from: from a step on, up to another."""
        edges = sorted({0, steps, *(entry.step for entry in self.quarantined if entry.step < steps)})
        for begin, end in itertools.pairwise(edges):
            yield begin, end, self._era(self._gone(begin))

    def _mending(self, step: int, make: Callable[[Era], _Made]) -> _Made:
        """Return what is made for a step; where windows turn out to be damaged, it is made anew without them."""
        while True:
            try:
                return make(self._era(self._gone(step)))
            except DamagedWindowError as error:
                if not self.replaces:
                    raise
                _logger.error(
                    "%s; other documents are served in place of window %d of corpus %d from step %d on",
                    *(error, error.window, error.corpus, step),
                )
                self.mend([Quarantined(step, error.corpus, error.window, str(error))])

    @property
    def sources(self) -> Sequence[Source]:
        """The corpora as lines of rows, with all windows replaced that were found to be damaged."""
        return self._era(self._gone()).sources

    @property
    def samples(self) -> Samples:
        """The order of all rows, with all windows replaced that were found to be damaged."""
        return self._era(self._gone()).samples

    @property
    def sequence_length(self) -> int:
        """Positions in a row, at most."""
        return self.plan.sequence_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.corpora[0].vocabulary.size

    @property
    def names(self) -> tuple[str, ...]:
        """What each corpus is called; one that is served twice has its number, too."""
        names = [corpus.name for corpus in self.corpora]
        return tuple(name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1))

    @property
    def num_steps(self) -> int | None:
        """Steps whose batches are whole, or None where there is no end."""
        gone = self._gone()
        while True:
            try:
                end = self._era(gone).samples.end
                return None if end is None else self.plan.step_of(end)
            except DamagedWindowError as error:
                if not self.replaces:
                    raise
                gone |= {(error.corpus, error.window)}  # it is noted when a batch needs it

    def require(self, steps: int, world: int = 1) -> None:
        """Raise `InputError` if so many steps cannot be served to so many ranks, as the mixture is now."""
        for first, rows in self.plan.batches:
            if first < steps and rows % world:
                raise InputError(
                    f"global_batch is {rows} from step {first} on, which {world} processes cannot share evenly"
                )
        last = self.num_steps
        if last is not None and last < steps:
            raise InputError(
                f"the corpora are used up after {last} steps of {steps}: their max_epochs allow no more; raise them in "
                f"[data], or set steps = {last} in [run]"
            )

    def state(self) -> dict[str, Any]:
        """Return what fixes every batch: the plan, and the log of changes to its mixture."""
        changing = {"arithmetic": ARITHMETIC} if len(self.plan.weights) > 1 else {}
        return {"plan": self.plan.identity, "schedule": _log_state(self.log), **changing}

    def contents(self) -> tuple[str, ...]:
        """Return the content ids of the corpora's tokens, in order."""
        return tuple(corpus.tokens for corpus in self.plan.corpora)

    def reweigh(self, step: int, weights: Sequence[float]) -> None:
        """Give the corpora other weights from a step on, until the plan's schedule or the next entry says otherwise.

        Batches of earlier steps stay what they were. The entry goes into the log, which a replay must be given.

        Raises:
            RecipeError: the step is not after the last entry's, or the weights cannot be.
        """
        self._set_log(self._extended(self.log, [Reweighted(step, tuple(weights))]))

    def replay(self, log: Sequence[Reweighted]) -> None:
        """Take this log for one's own; see `reweigh` for errors."""
        self._set_log(self._extended((), log))

    def _extended(self, log: tuple[Reweighted, ...], more: Sequence[Reweighted]) -> tuple[Reweighted, ...]:
        """Return a log with more entries at its end; see `reweigh` for errors."""
        entries, last = [], log[-1].step if log else None
        for step, given in more:
            weights = tuple(float(weight) for weight in given)
            if last is not None and step <= last:
                raise RecipeError(f"the mixture was changed at step {last}; a change at {step} is too late")
            can_be = all(0 <= weight < math.inf for weight in weights) and any(weights)
            if step < 0 or len(weights) != len(self.corpora) or not can_be:
                raise RecipeError(
                    f"weights {list(weights)} from step {step}: give {len(self.corpora)}, all finite, none negative, "
                    "one above 0"
                )
            entries.append(Reweighted(step, weights))
            last = step
        return (*log, *entries)

    @property
    def quarantined(self) -> list[Quarantined]:
        """The windows in whose place others are served since they were found to be damaged, by step."""
        return sorted(
            Quarantined(step, corpus, window, why) for (corpus, window), (step, why) in self._quarantined.items()
        )

    def mend(self, quarantined: Iterable[Quarantined]) -> None:
        """Serve other windows in place of these too, each from its step on, as a run did that found them damaged."""
        for step, corpus, window, why in quarantined:
            since, known = self._quarantined.get((corpus, window), (step, why))
            self._quarantined[corpus, window] = min(step, since), known
        self._slab = _NO_SLAB

    def _set_log(self, log: tuple[Reweighted, ...]) -> None:
        self.log, self._slab = log, _NO_SLAB
        for era in self._eras.values():
            era.arrange(log)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the rank's rows of the batch of a step.

        Raises:
            InputError: the global batch cannot be shared evenly among the ranks, there is no such rank, or the corpora
                may not be served so often.
            IntegrityError: what is stored is damaged.
        """
        slab = self._slab
        if not (slab.first <= step < slab.first + len(slab.batches) and slab.rank == rank and slab.world == world):
            slab = self._mending(step, lambda era: self._make_slab(era, *self._steps_from(step), rank, world))
            self._slab = slab
        return slab.batches[step - slab.first]

    def _steps_from(self, step: int) -> tuple[int, int]:
        """Return a step, and the one after the last of those that are made together with it."""
        begin, end, rows = self.plan.span(step)
        until = self.plan.prefix_until
        if until is not None:
            begin, end = (begin, min(end, until)) if step < until else (max(begin, until), end)
        count = max(1, min(_SLAB_STEPS, _SLAB_POSITIONS // (rows * self.sequence_length)))
        last = self.num_steps
        ends = [step - (step - begin) % count + count, end, *(() if last is None or step >= last else (last,))]
        return step, min(ends + [entry.step for entry in self.quarantined if entry.step > step])

    def _make_slab(self, era: Era, first: int, stop: int, rank: int, world: int) -> _Slab:
        """Make the batches of some steps, which have equally many rows: views of rows that are written together."""
        begin, count = self._share(first, rank, world)
        if world == 1:
            located = self._find(era, begin, count * (stop - first))
        else:
            located = joined([self._find(era, *self._share(step, rank, world)) for step in range(first, stop)])
        arrays, beside = self._assemble(era, located, self.plan.without_prefix(first))
        self._read_ahead(era, begin)
        batches = []
        for number, step in enumerate(range(first, stop)):
            rows = slice(number * count, (number + 1) * count)
            batches.append(self._batch(step, arrays.part(rows), located.sources[rows], beside.part(rows)))
        return _Slab(first, rank, world, batches)

    def _share(self, step: int, rank: int, world: int) -> tuple[int, int]:
        """Return the first sample of a rank in a step, and how many it has."""
        rows = self.plan.rows(step)
        if rows % world:
            raise InputError(f"global_batch is {rows} at step {step}, which {world} processes cannot share evenly")
        if not 0 <= rank < world:
            raise InputError(f"there is no process {rank} of {world}; they count from 0")
        return self.plan.first_sample(step) + rank * (rows // world), rows // world

    def _find(self, era: Era, first: int, count: int) -> Located:
        """Locate samples."""
        number = first // BLOCK
        if number == 0 and era.expected < 0:
            self._fetch_ahead(era, ((k, next(era.sources[k].windows_from(0))[0]) for k in self._elsewhere))
            if self._elsewhere and self._width:
                load_kernels(self.plan.packing, self.corpora[0].vocabulary.token_bytes)
        return era.samples.find(first, count)

    def _read_ahead(self, era: Era, first: int) -> None:
        """Have what a sample's block and the next one need read, once; the rows that are waited for come first."""
        number = first // BLOCK
        if number != era.expected:
            era.expected = number
            self._fetch_ahead(era, era.samples.upcoming(number, self._elsewhere))
            era.cache.expect([*era.samples.windows(number), *era.samples.windows(number + 1)])

    def _fetch_ahead(self, era: Era, windows: Iterable[tuple[int, int]]) -> None:
        """Fetch what lies elsewhere of some windows, in this order, until so much is coming as may."""
        if self._reader is not None:
            self._reader.expect(one for source, window in windows for one in era.tables[source].ranges(window))

    def _batch(self, step: int, arrays: RowArrays, sources: Any, beside: Beside) -> Batch:
        length = self.plan.length(step)
        if length != self.sequence_length:
            arrays = arrays.cut(length, self._apart)
            sources = np.repeat(sources, self.sequence_length // length)
            beside = beside.cut(self.sequence_length, length) if self._columns else beside
        return self._made(step, arrays, sources, beside)

    def _made(self, step: int, arrays: RowArrays, sources: Any, beside: Beside) -> Batch:
        tokens, targets, positions, documents = arrays
        lengths, joins = self._token_bytes, self._token_joins
        return Batch(step, tokens, targets, positions, documents, lengths, sources, beside.values, joins)

    def _assemble(self, era: Era, located: Located, bare: bool) -> tuple[RowArrays, Beside]:
        arrays = RowArrays.empty(len(located.rows), self._width)
        beside = Beside.empty(self._columns, len(located.rows))
        places, ends, rows = gather_slots(located.slots, located.rows, len(located.windows))
        begin = 0
        for slot, end in enumerate(ends.tolist()):
            if end > begin:
                window = era.cache.get(located.windows[slot])
                self._write(window, rows[begin:end], places[begin:end], arrays, beside, bare=bare)
            begin = end
        return arrays, beside

    def _write(self, window: Window, rows: Any, places: Any, arrays: RowArrays, beside: Beside, *, bare: bool) -> None:
        """Write rows of a window to places."""
        if self._width:
            arrays.write(window, rows, places, self._end_of_text, apart=self._apart, bare=bare)
        if beside.values:
            beside.write(window, rows, places, bare=bare)

    @property
    def _apart(self) -> bool:
        return self.plan.masks == "documents"

    def pieces(self, step: int) -> list[tuple[int, list[Piece]]]:
        """Return for each row of a step's batch, before it is cut, which corpus it is from and what it holds."""
        return self._mending(step, lambda era: self._pieces(era, step))

    def _pieces(self, era: Era, step: int) -> list[tuple[int, list[Piece]]]:
        located = self._find(era, *self._share(step, 0, 1))
        found = []
        for source, slot, row in zip(located.sources, located.slots, located.rows, strict=True):
            window = era.cache.get(located.windows[slot])
            found.append((int(source), window.pieces(int(row))))
        return found

    def heldout(self, columns: Sequence[str] = ()) -> Iterator[Batch]:
        """Yield the held-out rows of all corpora, each once, with more columns beside tokens.

        Those of a corpus are in order of storage, and corpora take turns, so that the first batches are a fair share of
        each (`streaming.turns`).

        Raises:
            InputError: the corpora have no such column.
        """
        columns = tuple(dict.fromkeys((*self._columns, *columns)))
        tables = [self._table(corpus, "heldout", columns) for corpus in self.corpora]
        batches = [self._heldout_of(source, table, columns) for source, table in enumerate(tables)]
        yield from by_turns([(int(table.num_rows.sum()), found) for table, found in zip(tables, batches, strict=True)])

    def _heldout_of(self, source: int, table: TokenTable, columns: Sequence[str]) -> Iterator[Batch]:
        rows = self.plan.batches[0][1]
        for number in range(len(table)):
            window = self._heldout_window(table, number)
            if window is None:
                continue
            for first in range(0, int(table.num_rows[number]), rows):
                mine = np.arange(first, min(first + rows, int(table.num_rows[number])))
                arrays, beside = RowArrays.empty(len(mine), self._width), Beside.empty(columns, len(mine))
                self._write(window, mine, np.arange(len(mine)), arrays, beside, bare=False)
                yield self._made(0, arrays, np.full(len(mine), source, np.int16), beside)

    def _heldout_window(self, table: TokenTable, number: int) -> Window | None:
        """Read a held-out window; where damaged ones may be replaced in training, such a one is left out and told."""
        try:
            return table.read(number)
        except IntegrityError as error:
            if not self.replaces:
                raise
            _logger.error("%s; its held-out documents are not measured", error)
            return None

    def state_dict(self, samples_seen: int) -> dict[str, Any]:
        """Return the state of a stream that has served so many samples, below 1 KB; `restore` reads it."""
        replaced = _before(self.quarantined, self.plan.step_of(samples_seen))
        named = {"quarantined": _damage_state(replaced)} if replaced else {}
        return self.state() | {"samples_seen": samples_seen, "summary": self.plan.summary(), **named}

    def restore(
        self, state: dict[str, Any], log: Sequence[Reweighted] = (), quarantined: Sequence[Quarantined] = ()
    ) -> int:
        """Return how many samples were seen in a state of this plan; log and replaced windows become this stream's.

        Without a log this stream's own counts, as far as the state knows it. Without replaced windows, those that the
        state names, or this stream's own.

        Raises:
            RecipeError: the state is of another plan (what differs is told), of another log, or of other replaced
                windows; or its position is none.
        """
        if state["plan"] != self.plan.identity:
            told = differing(self.plan.summary(), state["summary"])
            raise RecipeError(f"the state is of another plan: {told}")
        seen = state["samples_seen"]
        if not self.plan.is_before_a_step(seen):
            raise RecipeError(
                f"the state's samples_seen is {seen!r}, which is no number of samples before a step of its plan; give "
                "a state as it was saved"
            )
        known = tuple(log) or self.log[: state["schedule"]["length"]]
        _require_log(known, state["schedule"])
        replaced = self._replaced_in(state, quarantined)
        self.replay(known)
        self._quarantined = {}
        self.mend(replaced)
        return int(seen)

    def _replaced_in(self, state: dict[str, Any], given: Sequence[Quarantined]) -> Sequence[Quarantined]:
        """Return the replaced windows of a state; see `restore`."""
        told, step = state.get("quarantined", {"length": 0}), self.plan.step_of(state["samples_seen"])
        why = "as a state says"
        named = [Quarantined(since, corpus, window, why) for since, corpus, window in told.get("windows", [])]
        for known in [given] if given else [named, self.quarantined]:
            before = _before(known, step)
            if len(before) == told["length"] and (not before or _damage_state(before)["digest"] == told["digest"]):
                return known
        raise RecipeError(
            f"the state has {told['length']} replaced windows, and the {len(_before(given, step))} given before step "
            f"{step} are not those; give the list that was written with the state"
        )


def _log_state(log: Sequence[Reweighted]) -> dict[str, Any]:
    """Return what names a schedule log in a state."""
    entries = [[entry.step, list(entry.weights)] for entry in log]
    named = {"digest": digest_json(entries), "length": len(entries)}
    return named | ({"arithmetic": ARITHMETIC} if entries else {})


def _require_log(log: Sequence[Reweighted], state: Mapping[str, Any]) -> None:
    """Raise `RecipeError` if a state was saved with another log, or with shares counted in another way."""
    if state["length"] and state.get("arithmetic") != ARITHMETIC:
        raise RecipeError(
            f"the state has a schedule log of {state['length']} entries from a version that counted shares anew at "
            "each change of weights, so its batches cannot be made again; begin the run anew"
        )
    if _log_state(log) != state:
        raise RecipeError(
            f"the state has a schedule log of {state['length']} entries, and the one given of {len(log)} is not it; "
            "give the log that was written with the state"
        )


def _before(quarantined: Sequence[Quarantined], step: int) -> list[Quarantined]:
    """Return the windows that are replaced in steps before one."""
    return sorted(entry for entry in quarantined if entry.step < step)


def _damage_state(quarantined: Sequence[Quarantined]) -> dict[str, Any]:
    """Return what names replaced windows in a state, and themselves where they are few."""
    windows = [list(entry[:3]) for entry in quarantined]
    named = {"digest": digest_json(windows), "length": len(windows)}
    return named | ({"windows": windows} if len(windows) <= _NAMED else {})


def open_stream(config: DataConfig, seed: int, log: Sequence[Reweighted] = ()) -> Stream:
    """Resolve the data of a run file: open corpora, make missing stream indexes, fix the plan.

    Raises:
        InputError: a manifest is absent or of another stage, or the corpora have different tokenizers.
    """
    heldout = round(config.heldout * HELDOUT_UNIT)
    prefix = config.prefix
    plain = None if prefix is None else Prefix(**prefix.model_dump(exclude={"until_step"}))
    serving = Serving(config.sequence_length, config.packing, heldout, config.repetition, plain)
    opener = Opener(serving, config.remote)
    opened = [opener.open(item.tokens) for item in config.corpora]
    corpora = [
        replace(corpus, name=item.name or corpus.name) for item, corpus in zip(config.corpora, opened, strict=True)
    ]
    planned = tuple(
        PlannedCorpus(
            name=corpus.name,
            tokens=corpus.tokens.content,
            index=corpus.index.content,
            tokenizer=corpus.tokenizer.content,
            path=corpus.place,
            max_epochs=item.max_epochs,
        )
        for item, corpus in zip(config.corpora, corpora, strict=True)
    )
    if len({corpus.tokenizer for corpus in planned}) > 1:
        names = ", ".join(f"{corpus.name}: {corpus.tokenizer[:12]}" for corpus in planned)
        raise InputError(f"the corpora of a run must share one tokenizer ({names}); tokenize them with the same one")
    sizes = [corpus.table("train").total("num_positions") for corpus in corpora]
    weights = {0: config.weights(sizes)} | {item.from_step: tuple(item.weights) for item in config.schedule}
    plan = StreamPlan(
        corpora=planned,
        sequence_length=config.sequence_length,
        packing=config.packing,
        masks=config.masks,
        batches=tuple((item.from_step, item.rows) for item in config.global_batch),
        weights=tuple(sorted(weights.items())),
        lengths=tuple((item.from_step, item.length) for item in config.lengths),
        repetition=config.repetition,
        prefix=plain,
        prefix_until=None if prefix is None else prefix.until_step,
        heldout=heldout,
        seed=seed,
    )
    return Stream(plan, corpora, log, replace=config.damaged == "replace", columns=config.columns)
