"""Coverage: a proof, from lengths alone, that a stream serves each document of an epoch exactly as often as planned.

For every window: the pieces of each served document tile its line without gap or overlap. For the first, middle and
last epoch of the run: its order of windows, and of rows within each, is a permutation. For the samples, in blocks all
over the run: each source goes on where it stopped, and what ranks take is the batch. Together each position is served
once for each planned serving of its document. With `damaged = "replace"` that is said of windows that are not damaged.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.pipeline.errors import IntegrityError
from headrace.trainer.stream import Stream
from headrace.trainer.streaming.mending import DamagedWindowError, Quarantined
from headrace.trainer.streaming.samples import BLOCK
from headrace.trainer.streaming.windows import Layout

_log = logging.getLogger(__name__)

WORLDS = (1, 2, 3, 4, 8)
_BLOCKS = 64
TOTALS = ("num_served", "num_positions", "num_rows", "num_split")


@dataclass(frozen=True)
class Coverage:
    """What a corpus gives in an epoch, and what it has given when the run ends.

    Attributes:
        servings: documents served in an epoch, each as often as it is repeated.
        positions: of those servings, one more than tokens for each.
        padded: positions of rows that nothing fills; `padded_share` of all.
        split: servings in more than one piece.
        epochs: how often the run has been through the corpus.
        share: positions served in the run, of all; `weight` what the first weights ask for.
        replaced: windows that are damaged, in whose place others are served.
    """

    name: str
    servings: int
    positions: int
    rows: int
    padded: int
    padded_share: float
    split: int
    dropped: int
    epochs: float
    share: float
    weight: float
    replaced: int


def check_coverage(stream: Stream, steps: int) -> list[Coverage]:
    """Check a stream over so many steps; return what each corpus gives.

    Raises:
        IntegrityError: something is served more or less often than planned.
        InputError: the corpora are used up before.
    """
    stream.require(steps)
    for number in range(len(stream.corpora)):
        _check_layouts(stream, number)
    samples = stream.plan.first_sample(steps)
    served = stream.samples.order.rows_before(samples)
    for number, rows in enumerate(served):
        _check_epochs(stream, number, -(-rows // stream.sources[number].num_rows))
    _check_blocks(stream, samples)
    for step in {0, steps // 2, steps - 1}:
        _check_ranks(stream, step)
    return list(_summary(stream, served))


def _check_layouts(stream: Stream, number: int) -> None:
    """Check each window of a corpus; one that is damaged is replaced from the first step on, where the run asks so."""
    name, table = stream.corpora[number].name, stream.tables[number]
    for window in range(len(table)):
        try:
            _check_layout(name, table.layout(window))
        except DamagedWindowError as error:
            if not stream.replaces:
                raise
            _log.warning("%s; other documents are served in place of window %d of %s", error, window, name)
            stream.mend([Quarantined(0, number, window, str(error))])


def _check_layout(name: str, layout: Layout) -> None:
    packed = layout.packed
    order = np.lexsort((packed.start, packed.document))
    document, start = packed.document[order], packed.start[order]
    end = start + packed.length[order]
    begins = np.append(True, document[1:] != document[:-1])[: len(document)]
    ends = np.append(begins[1:], True)[: len(document)]
    tiled = (start[begins] == 0).all() and (start[~begins] == end[:-1][~begins[1:]]).all()
    whole = np.array_equal(document[begins], np.arange(len(layout.num_tokens)))
    if not (tiled and whole and np.array_equal(end[ends], layout.num_tokens + 1)):
        raise IntegrityError(f"{name}: the pieces of a window do not make up its documents")


def _check_epochs(stream: Stream, number: int, epochs: int) -> None:
    """Check that the rows of some epochs are each row of each window once; at most the first, middle and last."""
    for epoch in sorted({0, epochs // 2, max(0, epochs - 1)}):
        source = stream.sources[number]
        counts = [np.zeros(rows, np.int64) for rows in stream.tables[number].num_rows.tolist()]
        for stretch in source.stretches(epoch * source.num_rows, source.num_rows):
            counts[stretch.window][stretch.rows] += 1
        if not all((count == 1).all() for count in counts):
            raise IntegrityError(f"{stream.corpora[number].name}: epoch {epoch} does not serve each row once")


def _check_blocks(stream: Stream, samples: int) -> None:
    blocks = -(-samples // BLOCK)
    for block in sorted({number * blocks // min(blocks, _BLOCKS) for number in range(min(blocks, _BLOCKS))}):
        first, end = block * BLOCK, min((block + 1) * BLOCK, samples)
        sources = stream.samples.find(first, end - first).sources
        counts = np.bincount(sources, minlength=len(stream.corpora))
        before, after = (stream.samples.order.rows_before(sample) for sample in (first, end))
        if [b + int(c) for b, c in zip(before, counts, strict=True)] != list(after):
            raise IntegrityError(f"samples {first} to {end} leave rows out, or serve some twice")


def _check_ranks(stream: Stream, step: int) -> None:
    whole = stream.batch(step)
    for world in (world for world in WORLDS if stream.plan.rows(step) % world == 0):
        shares = [stream.batch(step, rank, world) for rank in range(world)]
        for name in ("tokens", "targets", "positions", "documents"):
            if not np.array_equal(np.concatenate([getattr(share, name) for share in shares]), getattr(whole, name)):
                raise IntegrityError(f"the shares of {world} ranks are not the batch of step {step}")
        for name, rows in whole.columns.items():
            if [row for share in shares for row in share.columns[name]] != list(rows):
                raise IntegrityError(f"the shares of {world} ranks have not the columns of the batch of step {step}")


def _summary(stream: Stream, served: tuple[int, ...]) -> Iterator[Coverage]:
    positions = [source.clock(rows) for source, rows in zip(stream.sources, served, strict=True)]
    weights = stream.plan.weights[0][1]
    for number, corpus in enumerate(stream.corpora):
        totals = {name: stream.tables[number].total(name) for name in TOTALS}
        whole = stream.plan.packing == "document"
        room = totals["num_positions"] if whole else totals["num_rows"] * stream.sequence_length
        yield Coverage(
            name=corpus.name,
            servings=totals["num_served"],
            positions=totals["num_positions"],
            rows=totals["num_rows"],
            padded=room - totals["num_positions"],
            padded_share=1 - totals["num_positions"] / room,
            split=totals["num_split"],
            dropped=0,
            epochs=served[number] / totals["num_rows"],
            share=positions[number] / sum(positions),
            weight=weights[number] / sum(weights),
            replaced=sum(entry.corpus == number for entry in stream.quarantined),
        )
