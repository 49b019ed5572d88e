"""The stream: batch number s as pure arithmetic over a plan (law 3).

Sample n of a run belongs to a source (`streaming.fair`) and is a row of it (`streaming.source`), made of pieces of
documents (`pipeline.packing`). So the batch of a step depends on no rank, no worker and no history; the state of a
stream is the plan's digest, how many samples were seen, and the digest of its schedule log, which stays empty unless a
controller changes the mixture. `docs/stream.md` has the arithmetic on a page.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.trainer.batch import Batch, Reweighted
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.beside import Beside
from headrace.trainer.streaming.cache import WindowCache
from headrace.trainer.streaming.corpus import Corpus, Opener, Serving
from headrace.trainer.streaming.fair import Change, FairOrder
from headrace.trainer.streaming.mending import MendingTable, Quarantined
from headrace.trainer.streaming.plan import PlannedCorpus, StreamPlan, differing
from headrace.trainer.streaming.rows import RowArrays, gather_slots, load_kernels
from headrace.trainer.streaming.samples import BLOCK, Located, Samples, joined
from headrace.trainer.streaming.source import Source
from headrace.trainer.streaming.windows import Piece, TokenTable, Window

_logger = logging.getLogger(__name__)

_SLAB_STEPS, _SLAB_POSITIONS = 4, 1 << 17
"""How many steps are written together, at most: few calls, and arrays that a processor's cache holds."""


class _Slab(NamedTuple):
    """The batches of some steps from `first` on, for one rank."""

    first: int
    rank: int
    world: int
    batches: list[Batch]


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
        self._end_of_text = corpora[0].vocabulary.end_of_text
        self._columns = tuple(columns)
        self._width = 0 if plan.packing == "document" else plan.sequence_length
        self.tables = [self._table(corpus, "train") for corpus in corpora]
        for corpus, table in zip(corpora, self.tables, strict=True):
            table.replace = replace
            if not len(table):
                raise InputError(f"{corpus.name}: no document is left to train on (held out: {plan.heldout} in 10,000)")
        self._elsewhere = [number for number, corpus in enumerate(corpora) if corpus.reader is not None]
        self._reader = next((corpus.reader for corpus in corpora if corpus.reader is not None), None)
        self._make_sources()
        self.replay(log)

    def _make_sources(self) -> None:
        """Make what remembers rows and windows, as the tables are now."""
        self._cache = WindowCache(self.tables)
        self.sources = [Source(number, table, self.plan.seed) for number, table in enumerate(self.tables)]
        self._mended = self.quarantined

    def _table(self, corpus: Corpus, split: str, columns: Sequence[str] = ()) -> MendingTable:
        return corpus.table(split, beside=columns or self._columns, bare=not self._width)

    def _arrange(self) -> Samples:
        planned = [(step, weights) for step, weights in self.plan.weights]
        changes = dict(planned) | {entry.step: entry.weights for entry in self.log}
        arranged = [Change(self.plan.first_sample(step), changes[step]) for step in sorted(changes)]
        limits = [
            None if corpus.max_epochs is None else int(corpus.max_epochs * source.num_rows)
            for corpus, source in zip(self.plan.corpora, self.sources, strict=True)
        ]
        return Samples(FairOrder(self.sources, arranged, limits), self.sources)

    @property
    def sequence_length(self) -> int:
        """Positions in a row, at most."""
        return self.plan.sequence_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.corpora[0].vocabulary.size

    @property
    def num_steps(self) -> int | None:
        """Steps whose batches are whole, or None where there is no end."""
        end = self.samples.end
        return None if end is None else self.plan.step_of(end)

    def state(self) -> dict[str, Any]:
        """Return what fixes every batch: the plan, and the log of changes to its mixture."""
        entries = [[entry.step, list(entry.weights)] for entry in self.log]
        return {"plan": self.plan.identity, "schedule": {"digest": digest_json(entries), "length": len(entries)}}

    def contents(self) -> tuple[str, ...]:
        """Return the content ids of the corpora's tokens, in order."""
        return tuple(corpus.tokens for corpus in self.plan.corpora)

    def reweigh(self, step: int, weights: Sequence[float]) -> None:
        """Give the corpora other weights from a step on, until the plan's schedule or the next entry says otherwise.

        Batches of earlier steps stay what they were. The entry goes into the log, which a replay must be given.

        Raises:
            RecipeError: the step is not after the last entry's, or the weights cannot be.
        """
        entry = Reweighted(step, tuple(float(weight) for weight in weights))
        if self.log and step <= self.log[-1].step:
            raise RecipeError(f"the mixture was changed at step {self.log[-1].step}; a change at {step} is too late")
        if step < 0 or len(entry.weights) != len(self.corpora) or min(entry.weights) < 0 or not any(entry.weights):
            raise RecipeError(
                f"weights {list(weights)} from step {step}: give {len(self.corpora)}, none negative, one above 0"
            )
        self._set_log((*self.log, entry))

    def replay(self, log: Sequence[Reweighted]) -> None:
        """Take this log for one's own; see `reweigh` for errors."""
        self._set_log(())
        for entry in log:
            self.reweigh(*entry)

    @property
    def quarantined(self) -> list[Quarantined]:
        """The windows in whose place others are served since they were found to be damaged, by step."""
        found = [
            Quarantined(step, corpus, window, why)
            for corpus, table in enumerate(self.tables)
            for window, (step, why) in table.quarantined.items()
        ]
        return sorted(found)

    def mend(self, quarantined: Iterable[Quarantined]) -> None:
        """Serve other windows in place of these too, as a run did that found them to be damaged.

        What this stream found itself counts from here on as if it had always been known, as where a run resumes.
        """
        for step, corpus, window, why in quarantined:
            self.tables[corpus].quarantine(window, step, why)
        if self.quarantined != self._mended:
            self._make_sources()
            self._set_log(self.log)

    def _set_log(self, log: tuple[Reweighted, ...]) -> None:
        self.log, self._expected = log, -1
        self.samples = self._arrange()
        self._slab = _Slab(0, 0, 1, [])

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the rank's rows of the batch of a step.

        Raises:
            InputError: the global batch cannot be shared evenly among the ranks, there is no such rank, or the corpora
                may not be served so often.
            IntegrityError: what is stored is damaged.
        """
        slab = self._slab
        if not (slab.first <= step < slab.first + len(slab.batches) and slab.rank == rank and slab.world == world):
            slab = self._slab = self._make_slab(*self._steps_with(step), rank, world)
        return slab.batches[step - slab.first]

    def _steps_with(self, step: int) -> tuple[int, int]:
        """Return the first of the steps that are made together with one, and the one after the last."""
        begin, end, rows = self.plan.span(step)
        until = self.plan.prefix_until
        if until is not None:
            begin, end = (begin, min(end, until)) if step < until else (max(begin, until), end)
        count = max(1, min(_SLAB_STEPS, _SLAB_POSITIONS // (rows * self.sequence_length)))
        first = step - (step - begin) % count
        last = self.num_steps
        stop = min(first + count, end if last is None or step >= last else min(end, last))
        return first, stop

    def _make_slab(self, first: int, stop: int, rank: int, world: int) -> _Slab:
        """Make the batches of some steps, which have equally many rows: views of rows that are written together."""
        for table in self.tables:
            table.step = first
        begin, count = self._share(first, rank, world)
        if world == 1:
            located = self._find(begin, count * (stop - first))
        else:
            located = joined([self._find(*self._share(step, rank, world)) for step in range(first, stop)])
        arrays, beside = self._assemble(located, self.plan.without_prefix(first))
        self._read_ahead(begin)
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

    def _find(self, first: int, count: int) -> Located:
        """Locate samples."""
        number = first // BLOCK
        if number == 0 and self._expected < 0:
            self._fetch_ahead((k, next(self.sources[k].windows_from(0))[0]) for k in self._elsewhere)
            if self._elsewhere and self._width:
                load_kernels(self.plan.packing, self.corpora[0].vocabulary.token_bytes)
        return self.samples.find(first, count)

    def _read_ahead(self, first: int) -> None:
        """Have what a sample's block and the next one need read, once; the rows that are waited for come first."""
        number = first // BLOCK
        if number != self._expected:
            self._expected = number
            self._fetch_ahead(self.samples.upcoming(number, self._elsewhere))
            self._cache.expect([*self.samples.windows(number), *self.samples.windows(number + 1)])

    def _fetch_ahead(self, windows: Iterable[tuple[int, int]]) -> None:
        """Fetch what lies elsewhere of some windows, in this order, until so much is coming as may."""
        if self._reader is not None:
            self._reader.expect(one for source, window in windows for one in self.tables[source].ranges(window))

    def _batch(self, step: int, arrays: RowArrays, sources: Any, beside: Beside) -> Batch:
        length = self.plan.length(step)
        if length != self.sequence_length:
            arrays = arrays.cut(length, self._apart)
            sources = np.repeat(sources, self.sequence_length // length)
            beside = beside.cut(self.sequence_length, length) if self._columns else beside
        tokens, targets, positions, documents = arrays
        return Batch(step, tokens, targets, positions, documents, self._token_bytes, sources, beside.values)

    def _assemble(self, located: Located, bare: bool) -> tuple[RowArrays, Beside]:
        arrays = RowArrays.empty(len(located.rows), self._width)
        beside = Beside.empty(self._columns, len(located.rows))
        places, ends, rows = gather_slots(located.slots, located.rows, len(located.windows))
        begin = 0
        for slot, end in enumerate(ends.tolist()):
            if end > begin:
                window = self._cache.get(located.windows[slot])
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

    def samples_of(self, corpus: int, window: int, row: int, end: int) -> Iterator[int]:
        """Yield the samples below `end` that a row of a corpus's window is, one in each epoch."""
        source, order = self.sources[corpus], self.samples.order
        for epoch in range(-(-order.rows_before(end)[corpus] // source.num_rows)):
            sample = order.sample_of(corpus, source.row_of(epoch, window, row))
            if sample is not None and sample < end:
                yield sample

    def pieces(self, step: int) -> list[tuple[int, list[Piece]]]:
        """Return for each row of a step's batch, before it is cut, which corpus it is from and what it holds."""
        located = self._find(*self._share(step, 0, 1))
        found = []
        for source, slot, row in zip(located.sources, located.slots, located.rows, strict=True):
            window = self._cache.get(located.windows[slot])
            found.append((int(source), window.pieces(int(row))))
        return found

    def names(self) -> tuple[str, ...]:
        """Return what each corpus is called; one that is served twice has its number, too."""
        names = [corpus.name for corpus in self.corpora]
        return tuple(name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1))

    def heldout(self, columns: Sequence[str] = ()) -> Iterator[Batch]:
        """Yield the held-out rows of all corpora, each once, in order of storage, with more columns beside tokens.

        Raises:
            InputError: the corpora have no such column.
        """
        rows, columns = self.plan.batches[0][1], tuple(dict.fromkeys((*self._columns, *columns)))
        for source, corpus in enumerate(self.corpora):
            table = self._table(corpus, "heldout", columns)
            for number in range(len(table)):
                window = self._heldout_window(table, number)
                if window is None:
                    continue
                for first in range(0, int(table.num_rows[number]), rows):
                    mine = np.arange(first, min(first + rows, int(table.num_rows[number])))
                    arrays, beside = RowArrays.empty(len(mine), self._width), Beside.empty(columns, len(mine))
                    self._write(window, mine, np.arange(len(mine)), arrays, beside, bare=False)
                    sources = np.full(len(mine), source, np.int16)
                    tokens, targets, positions, documents = arrays
                    yield Batch(0, tokens, targets, positions, documents, self._token_bytes, sources, beside.values)

    def _heldout_window(self, table: TokenTable, number: int) -> Window | None:
        """Read a held-out window; where damaged ones may be replaced in training, such a one is left out and told."""
        try:
            return table.read(number)
        except IntegrityError as error:
            if not self.tables[0].replace:
                raise
            _logger.error("%s; its held-out documents are not measured", error)
            return None

    def state_dict(self, samples_seen: int) -> dict[str, Any]:
        """Return the state of a stream that has served so many samples, below 1 KB; `restore` reads it."""
        return self.state() | {"samples_seen": samples_seen, "summary": self.plan.summary()}

    def restore(self, state: dict[str, Any], log: Sequence[Reweighted] = ()) -> int:
        """Return how many samples were seen in a state of this plan; the log replaces this stream's.

        Raises:
            RecipeError: the state is of another plan (what differs is told), or of another log.
        """
        if state["plan"] != self.plan.identity:
            told = differing(self.plan.summary(), state["summary"])
            raise RecipeError(f"the state is of another plan: {told}")
        replayed = Stream(self.plan, self.corpora, log) if log else self
        if replayed.state()["schedule"] != state["schedule"]:
            raise RecipeError(
                f"the state has a schedule log of {state['schedule']['length']} entries, and the one given of "
                f"{len(replayed.log)} is not it; give the log that was written with the state"
            )
        self._set_log(replayed.log)
        return int(state["samples_seen"])


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
        prefix=plain,
        prefix_until=None if prefix is None else prefix.until_step,
        heldout=heldout,
        seed=seed,
    )
    return Stream(plan, corpora, log, replace=config.damaged == "replace", columns=config.columns)
