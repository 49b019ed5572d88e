"""One harness for every packing, mixture and window: coverage, any step first, any world, restore at every step."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.pipeline.packing import PACKINGS, Packed, Packing, pack
from headrace.pipeline.serving import Repetition, served
from headrace.pipeline.stages.stream_index import StreamIndex
from headrace.pipeline.store import Store
from headrace.trainer.batch import IGNORE, Batch, Reweighted
from headrace.trainer.checkpoint import latest_checkpoint
from headrace.trainer.coverage import check_coverage
from headrace.trainer.dataset import Stream as Dataset
from headrace.trainer.iterate import Batches
from headrace.trainer.relocate import open_recorded
from headrace.trainer.run_config import parse_run
from headrace.trainer.run_record import History, read_history, read_run
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.era import row_limit
from headrace.trainer.streaming.fair import Change, Clock, FairOrder, Phase, prices_of
from headrace.trainer.streaming.source import Source
from headrace.trainer.train import train

SIZE = 16


# ------------------------------------------------------------------------------------------------------- packing


ROWS_OF_TOKENS = sorted(set(PACKINGS) - {"document"})


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 20), st.sampled_from(ROWS_OF_TOKENS))
def test_packings_serve_each_position_once(lengths: list[int], size: int, packing: Packing) -> None:
    packed = pack(packing, np.array(lengths, np.int64), size)
    assert (packed.fills() <= size).all()
    assert (packed.fills() > 0).all()
    served_of: Counter[tuple[int, int]] = Counter()
    for document, start, length in zip(*packed[1:], strict=True):
        served_of.update((int(document), int(start) + step) for step in range(length))
    assert served_of == Counter({(number, place): 1 for number, n in enumerate(lengths) for place in range(n)})


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 20))
def test_best_fit_is_best_fit_decreasing(lengths: list[int], size: int) -> None:
    """The rows are those of the plainest statement of the rule."""
    packed = pack("best_fit", np.array(lengths, np.int64), size)
    pieces = [(min(size, n - begin), number, begin) for number, n in enumerate(lengths) for begin in range(0, n, size)]
    pieces.sort(key=lambda piece: -piece[0])
    rows: list[list[tuple[int, int, int]]] = []
    changed: list[int] = []
    for clock, piece in enumerate(pieces):
        rooms = [size - sum(length for length, _, _ in row) for row in rows]
        fitting = [number for number, room in enumerate(rooms) if room >= piece[0]]
        if fitting:
            row = min(fitting, key=lambda number: (rooms[number], -changed[number]))
            rows[row].append(piece)
            changed[row] = clock
        else:
            rows.append([piece])
            changed.append(clock)
    assert _rows(packed) == [[(number, begin, length) for length, number, begin in row] for row in rows]
    whole = [number for number, n in enumerate(lengths) if n <= size]
    assert all(np.count_nonzero(packed.document == number) == 1 for number in whole)


def _rows(packed: Packed) -> list[list[tuple[int, int, int]]]:
    pieces = list(zip(packed.document.tolist(), packed.start.tolist(), packed.length.tolist(), strict=True))
    return [pieces[first:end] for first, end in zip(packed.first, packed.first[1:], strict=False)]


def test_the_page_s_example_of_packing() -> None:
    assert pack("best_fit", np.array([4, 11, 5, 3]), 8).fills().tolist() == [8, 8, 7]


def test_windows_pack_nearly_as_well_as_an_epoch() -> None:
    """Within 0.1 point of best-fit decreasing over all documents, in positions padded."""
    lengths = np.random.default_rng(0).lognormal(6.7, 0.8, 65_536).astype(np.int64) + 1
    padded = []
    for window in (8192, len(lengths)):
        rows = sum(pack("best_fit", lengths[at : at + window], 1024).num_rows for at in range(0, len(lengths), window))
        padded.append(1 - lengths.sum() / (1024 * rows))
    assert padded[0] - padded[1] < 0.001


def test_repetition_serves_copies_far_apart() -> None:
    import pyarrow as pa

    repetition = Repetition(counts=((2, 2), (5, 3), (9, 0)))
    times = repetition.times(pa.chunked_array([[1, 2, None], [5, 9, 4]]))
    assert times.tolist() == [1, 2, 1, 3, 0, 2]
    assert served(np.ones(6, dtype=bool), times).tolist() == [0, 1, 2, 3, 5, 1, 3, 5, 3]


# ------------------------------------------------------------------------------------------------------- mixture


class _Rows:
    """Windows of rows with given fills."""

    def __init__(self, fills: Sequence[Any]) -> None:
        self._fills = [np.array(window, np.int64) for window in fills]
        self.num_rows = np.array([len(window) for window in self._fills])
        self.num_positions = np.array([window.sum() for window in self._fills])

    def fills(self, number: int) -> Any:
        return self._fills[number]


def _one_by_one(
    sources: Sequence[Clock], changes: Sequence[Change], limits: Sequence[int | None], count: int
) -> list[int]:
    """Serve samples as the rule says, with a cursor."""
    numbers = range(len(sources))
    rows, found = [0 for _ in numbers], []

    def begin(before: Sequence[int] = ()) -> tuple[tuple[int, ...], list[int]]:
        weights = [change.weights for change in changes if change.sample <= len(found)][-1]
        out = [limits[k] is not None and rows[k] >= (limits[k] or 0) and not any(before[k : k + 1]) for k in numbers]
        left = [0.0 if out[k] else weights[k] for k in numbers]
        prices = prices_of(left) if any(left) else tuple(0 for _ in numbers)
        return prices, [sources[k].clock(rows[k]) for k in numbers]

    def changed(credit: list[Fraction]) -> list[Fraction]:
        served_of = [sources[k].clock(rows[k]) - clocks[k] for k in numbers]
        whole = sum((Fraction(1, price) for price in prices if price), Fraction(0))
        passed = int(sum(served_of) / whole) if whole else 0
        return [
            Fraction(begins[k] + served_of[k] * prices[k] - passed, prices[k]) if prices[k] else credit[k]
            for k in numbers
        ]

    prices, clocks = begin()
    credit, begins = [Fraction(0) for _ in numbers], [0 for _ in numbers]
    while len(found) < count:
        changing = bool(found) and any(change.sample == len(found) for change in changes)
        for change in (False, True)[: 1 + changing]:
            if change:
                credit = changed(credit)
                prices, clocks = begin(prices)
                begins = [floor(credit[k] * prices[k]) for k in numbers]
            times = {k: (sources[k].clock(rows[k]) - clocks[k]) * prices[k] + begins[k] for k in numbers if prices[k]}
            ended = [times[k] for k in times if limits[k] is not None and rows[k] >= (limits[k] or 0)]
            if ended and min(times.values()) >= min(ended):
                prices, clocks = begin()
                credit, begins = [Fraction(0) for _ in numbers], [0 for _ in numbers]
                times = {k: 0 for k in numbers if prices[k]}
                break
        if not times:
            return found
        found.append(min(times, key=lambda k: (times[k], k)))
        rows[found[-1]] += 1
    return found


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[Source], list[Change], list[int | None]]:
    count = draw(st.integers(1, 4))
    fill = st.integers(1, draw(st.integers(1, 40)))
    sources = [
        Source(k, _Rows(draw(st.lists(st.lists(fill, min_size=1, max_size=20), min_size=1, max_size=4))), 3)
        for k in range(count)
    ]
    weight = st.floats(0.001, 10) | st.just(0.0)
    weights = st.lists(weight, min_size=count, max_size=count).filter(any).map(tuple)
    steps = [0, *sorted(draw(st.sets(st.integers(1, 150), max_size=2)))]
    limits = draw(st.lists(st.none() | st.integers(1, 80), min_size=count, max_size=count))
    return sources, [Change(step, draw(weights)) for step in steps], limits


@given(mixtures(), st.integers(0, 200))
def test_the_order_is_that_of_a_cursor(mixture: Any, first: int) -> None:
    sources, changes, limits = mixture
    expected = _one_by_one(sources, changes, limits, 260)
    order = FairOrder(sources, changes, limits)
    assert order.next_samples(0, (0,) * len(sources), 260).tolist() == expected
    anew = FairOrder(sources, changes, limits)
    rows = anew.rows_before(min(first, len(expected)))
    assert list(rows) == [expected[:first].count(k) for k in range(len(sources))]
    assert anew.next_samples(first, rows, min(50, max(0, len(expected) - first))).tolist() == expected[first:][:50]
    assert order.end is None or order.end >= 260 or order.end == len(expected)


def test_the_page_s_examples_of_a_mixture() -> None:
    sources = [Source(k, _Rows([[4] * 50]), 0) for k in range(2)]
    found = FairOrder(sources, [Change(0, (3.0, 1.0))]).next_samples(0, (0, 0), 10)
    assert found.tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    changed = FairOrder(sources, [Change(0, (3.0, 1.0)), Change(2, (1.0, 1.0))]).next_samples(0, (0, 0), 10)
    assert changed.tolist() == [0, 1, 0, 0, 1, 0, 1, 0, 1, 0]


@given(mixtures(), st.sets(st.integers(1, 200), max_size=40))
def test_weights_that_are_repeated_change_nothing(mixture: Any, again: set[int]) -> None:
    sources, changes, limits = mixture
    plain = FairOrder(sources, changes, limits).next_samples(0, (0,) * len(sources), 260)
    given_again = {sample: [c for c in changes if c.sample <= sample][-1].weights for sample in again}
    some = [Change(sample, weights) for sample, weights in given_again.items()]
    more = sorted({change.sample: change for change in [*some, *changes]}.values())
    assert np.array_equal(FairOrder(sources, more, limits).next_samples(0, (0,) * len(sources), 260), plain)


@pytest.mark.parametrize("every", [1, 3, 8, 50])
def test_shares_hold_over_all_changes(every: int) -> None:
    """Up to the same few rows, however often weights change; those that are 0 for a while lose nothing."""
    random = np.random.default_rng(every)
    fills = [random.integers(1, 40, 200) for _ in range(4)]
    sources = [Source(k, _Rows([own]), 3) for k, own in enumerate(fills)]
    choices = [(0.97, 0.01, 0.01, 0.01), (0.5, 0.0, 0.25, 0.25), (0.9, 0.1, 0.0, 0.0), (0.0, 0.0, 1.0, 0.2)]
    samples = 1000
    changes = [Change(at, choices[int(random.integers(4))]) for at in range(0, samples, every)]
    order = FairOrder(sources, changes)
    due, before = np.zeros(4), np.zeros(4)
    for change in changes:
        now = [sources[k].clock(row) for k, row in enumerate(order.rows_before(min(samples, change.sample + every)))]
        due += (np.sum(now) - before.sum()) * np.array(change.weights) / sum(change.weights)
        before = np.array(now, float)
        assert (np.abs(before - due) <= 3 * 40).all()


# -------------------------------------------------------------------------------------------------------- stream


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three corpora: many documents in several parts, few short ones, long ones."""
    store = Store.open(tmp_path_factory.mktemp("stream") / "store")
    random = np.random.default_rng(5)
    lengths = [random.integers(0, 40, 300), random.integers(1, 6, 40), random.integers(30, 200, 25)]
    return [
        str(make_tokens(store, some, number, parts=3 - number, vocabulary=600)) for number, some in enumerate(lengths)
    ]


def config(tokens: Sequence[str], **changes: Any) -> DataConfig:
    fields = {"corpora": [{"tokens": path} for path in tokens], "sequence_length": SIZE, "global_batch": 24}
    return DataConfig.model_validate(fields | {"heldout": 0.01} | changes)


PLANS: Mapping[str, dict[str, Any]] = {
    "concat": {},
    "best_fit": {"packing": "best_fit"},
    "pad": {"packing": "pad", "masks": "none"},
    "curriculum": {
        "packing": "best_fit",
        "lengths": [{"from_step": 0, "length": 4}, {"from_step": 5, "length": 16}],
        "global_batch": [{"from_step": 0, "rows": 8}, {"from_step": 3, "rows": 24}, {"from_step": 20, "rows": 48}],
        "schedule": [{"from_step": 4, "weights": [0.0, 1.0, 3.0]}, {"from_step": 9, "weights": [2.0, 1.0, 1.0]}],
    },
    "temperature": {"temperature": 3.0, "packing": "best_fit"},
    "prefix": {"packing": "best_fit", "prefix": {"template": "{domain} {source}\n", "share": 0.5, "until_step": 6}},
}


def capped(tokens: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"tokens": path, "weight": weight, "max_epochs": 1.5} for path, weight in zip(tokens, (1, 2, 4), strict=True)
    ]


@pytest.fixture(params=[*PLANS, "capped"])
def plan(request: pytest.FixtureRequest, tokens: list[str]) -> DataConfig:
    if request.param == "capped":
        return config(tokens, corpora=capped(tokens), packing="best_fit")
    return config(tokens, **PLANS[request.param])


def same(left: Batch, right: Batch) -> bool:
    names = ("step", "tokens", "targets", "positions", "documents", "sources", "num_bytes")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


def test_every_step_can_be_restored(plan: DataConfig) -> None:
    """The harness: a stream that is restored at a step gives the batches that the uninterrupted one gives."""
    whole = list(_first(Batches(plan, seed=2), 24))
    source = Batches(plan, seed=2)
    states = [source.state_dict(), *(source.state_dict() for _ in _first(source, 24))]
    for step in range(len(whole)):
        state = json.loads(json.dumps(states[step]))
        assert len(json.dumps(state)) < 1024
        again = Batches(plan, seed=2).load_state_dict(state)
        for expected, found in zip(whole[step : step + 3], again, strict=False):
            assert same(expected, found), step


def _first(batches: Batches, count: int) -> Iterator[Batch]:
    for number, batch in enumerate(batches, 1):
        yield batch
        if number == count:
            return


@pytest.mark.parametrize("world", [2, 3, 4, 8])
def test_worlds_share_the_one_batch(plan: DataConfig, world: int) -> None:
    whole = open_stream(plan, seed=2)
    ranks = [open_stream(plan, seed=2) for _ in range(world)]
    for step in (0, 1, 4, 5, 11):
        if whole.plan.rows(step) % world:
            with pytest.raises(InputError, match="cannot share evenly"):
                ranks[0].batch(step, 0, world)
            continue
        shares = [stream.batch(step, rank, world) for rank, stream in enumerate(ranks)]
        for name in ("tokens", "targets", "positions", "documents", "sources"):
            together = np.concatenate([getattr(share, name) for share in shares])
            assert np.array_equal(together, getattr(whole.batch(step), name))


def test_each_epoch_serves_each_document_as_planned(tokens: list[str]) -> None:
    for packing in ROWS_OF_TOKENS:
        stream = open_stream(config(tokens[:1], packing=packing, global_batch=1), seed=1)
        table = stream.tables[0]
        rows, positions = table.total("num_rows"), table.total("num_positions")
        for epoch in range(2):
            found: Counter[tuple[str, int]] = Counter()
            for step in range(epoch * rows, (epoch + 1) * rows):
                for _, pieces in stream.pieces(step):
                    found.update((p.doc_id, p.start + place) for p in pieces for place in range(p.length))
            assert set(found.values()) == {1}
            assert len(found) == positions


def test_shares_are_in_tokens_whatever_rows_hold(tokens: list[str]) -> None:
    """Each source has its share of the tokens, up to one row, in every packing and at every step."""
    weights = (5.0, 1.0, 2.0)
    corpora = [{"tokens": path, "weight": weight} for path, weight in zip(tokens, weights, strict=True)]
    for packing in ROWS_OF_TOKENS:
        stream = open_stream(config(tokens, corpora=corpora, packing=packing, global_batch=32), seed=4)
        served_of = np.zeros(3)
        for step in range(40):
            batch = stream.batch(step)
            counts = (batch.targets != IGNORE).sum(axis=1)
            served_of += np.bincount(batch.sources, weights=counts, minlength=3)
            expected = served_of.sum() * np.array(weights) / sum(weights)
            assert (np.abs(served_of - expected) <= SIZE).all()


AS_EVER: Mapping[str, tuple[dict[str, Any], str]] = {
    "concat": ({}, "b5f0e12e1b635f1c"),
    "best_fit": ({"packing": "best_fit"}, "155f8868697f2976"),
    "pad": ({"packing": "pad", "masks": "none"}, "a570c22e1fb0e3f8"),
    "temperature": (PLANS["temperature"], "30d82040f7086ae7"),
    "prefix": (PLANS["prefix"], "2cadafe227f7f4ee"),
    "capped": ({"packing": "best_fit"}, "798dfcade1064f80"),
}
"""Plans whose weights do not change, and the digest of 40 batches of each."""


@pytest.mark.parametrize("name", AS_EVER)
def test_plans_without_changes_of_weights_stay_what_they_were(tokens: list[str], name: str) -> None:
    changes, digest = AS_EVER[name]
    if name not in ("temperature", "capped"):
        changes = {"corpora": [{"tokens": path, "weight": 5 - 2 * k} for k, path in enumerate(tokens)]} | changes
    if name == "capped":
        changes = changes | {"corpora": capped(tokens)}
    stream = open_stream(config(tokens, **changes), seed=4)
    hasher = sha256()
    for step in range(min(40, stream.num_steps or 40)):
        batch = stream.batch(step)
        for array in (batch.tokens, batch.targets, batch.positions, batch.documents, batch.sources):
            hasher.update(array.tobytes())
    assert hasher.hexdigest()[:16] == digest


def test_curricula_cut_rows_and_grow_batches(tokens: list[str]) -> None:
    stream = open_stream(config(tokens, **PLANS["curriculum"]), seed=2)
    shapes = [stream.batch(step).tokens.shape for step in (0, 3, 5, 20)]
    assert shapes == [(32, 4), (96, 4), (24, 16), (48, 16)]
    whole = open_stream(config(tokens, **PLANS["curriculum"] | {"lengths": []}), seed=2)
    cut, uncut = stream.batch(4), whole.batch(4)
    assert np.array_equal(cut.tokens.reshape(-1, SIZE), uncut.tokens)
    assert np.array_equal(cut.targets.reshape(-1, SIZE), uncut.targets)
    for row in range(len(cut)):
        inside = cut.documents[row] >= 0
        begins = np.append(True, cut.documents[row, 1:] != cut.documents[row, :-1])
        assert (cut.positions[row][begins & inside] == 0).all()
        assert np.array_equal(np.unique(cut.documents[row][inside]), np.arange(begins[inside].sum()))
        steps = np.diff(cut.positions[row])[~begins[1:] & inside[1:]]
        assert (steps == 1).all()


def test_a_stream_that_is_used_up_ends(tokens: list[str]) -> None:
    stream = open_stream(config(tokens, corpora=capped(tokens), packing="best_fit"), seed=2)
    assert stream.num_steps is not None
    batches = list(Batches(config(tokens, corpora=capped(tokens), packing="best_fit"), seed=2))
    assert len(batches) == stream.num_steps
    served_of = np.bincount(np.concatenate([batch.sources for batch in batches]), minlength=3)
    limits = [int(1.5 * table.total("num_rows")) for table in stream.tables]
    assert sum(limits) - sum(served_of) < 24
    with pytest.raises(InputError, match="used up after"):
        stream.batch(stream.num_steps)


def test_padding_and_borders(tokens: list[str]) -> None:
    for packing in ROWS_OF_TOKENS:
        batch = open_stream(config(tokens, packing=packing), seed=0).batch(3)
        padded = batch.documents < 0
        assert (batch.targets[padded] == IGNORE).all()
        assert (batch.tokens[padded] == 0).all()
        assert (batch.targets[~padded] >= 0).all()
        assert (np.diff(padded.astype(int), axis=1) >= 0).all()
        lengths = batch.cumulative_lengths(24 * SIZE + 1)
        assert lengths.shape == (24 * SIZE + 1,)
        assert np.array_equal(np.unique(lengths), np.unique(batch.cumulative_lengths()))
        flat = batch.documents.ravel()
        for begin, end in itertools.pairwise(lengths):
            assert len(set(flat[begin:end])) <= 1
        with pytest.raises(ValueError, match="do not fit"):
            batch.cumulative_lengths(3)


def test_masks_can_be_left_out(tokens: list[str]) -> None:
    with_masks, without = (open_stream(config(tokens, masks=masks), 0).batch(1) for masks in ("documents", "none"))
    assert np.array_equal(with_masks.tokens, without.tokens)
    assert set(np.unique(without.documents)) <= {-1, 0}
    assert np.array_equal(without.positions[without.documents[:, -1] == 0][0], np.arange(SIZE))


def test_weights_can_be_changed_on_the_way(tokens: list[str]) -> None:
    plain, changed = (Batches(config(tokens), seed=6) for _ in range(2))
    before = list(_first(plain, 12))
    changed.reweigh(7, [0.0, 0.0, 1.0])
    after = list(_first(changed, 12))
    assert all(same(*pair) for pair in zip(before[:7], after[:7], strict=True))
    assert all((batch.sources == 2).all() for batch in after[7:])
    state, log = changed.state_dict(), changed.log
    assert state["schedule"]["length"] == 1
    again = Batches(config(tokens), seed=6)
    with pytest.raises(RecipeError, match="schedule log of 1 entries"):
        again.load_state_dict(state)
    again.load_state_dict(state, [Reweighted(*entry) for entry in json.loads(json.dumps(log))])
    assert same(next(iter(again)), next(iter(changed)))
    with pytest.raises(RecipeError, match="too late"):
        changed.reweigh(7, [1.0, 1.0, 1.0])
    with pytest.raises(RecipeError, match="give 3, all finite, none negative"):
        changed.reweigh(9, [1.0])


def test_what_changed_under_another_arithmetic_is_refused(tokens: list[str]) -> None:
    """Before, credits were not carried: a plan that changes weights is another, and so is what has a log."""
    plan = open_stream(config(tokens, **PLANS["curriculum"]), seed=6).plan
    assert plan.resolved()["arithmetic"] == 2
    assert "arithmetic" not in open_stream(config(tokens), seed=6).plan.resolved()
    source = Batches(config(tokens, **PLANS["curriculum"]), seed=6)
    old = source.state_dict()
    del old["summary"]["arithmetic"]
    with pytest.raises(RecipeError, match="arithmetic is 2, was None"):
        source.load_state_dict(old | {"plan": "0" * 64})
    changed = Batches(config(tokens), seed=6)
    changed.reweigh(3, [1.0, 2.0, 0.0])
    state = changed.state_dict()
    assert state["schedule"].pop("arithmetic") == 2
    with pytest.raises(RecipeError, match="counted shares anew at each"):
        Batches(config(tokens), seed=6).load_state_dict(state, changed.log)
    saved = {"step": 9, "schedule": [[3, [1.0, 2.0, 0.0]]], "quarantined": []}
    with pytest.raises(RecipeError, match=r"step 9 .*'arithmetic' says 1 where this version has 2"):
        History.of(saved)
    assert History.of(saved | {"arithmetic": 2}).schedule == changed.log


@pytest.mark.parametrize("light", [1e-11, 1e-12, 1e-300, 5e-324])
def test_a_weight_of_nearly_nothing_serves_nearly_nothing(tokens: list[str], light: float) -> None:
    """As a softmax gives it; one lighter than any price can say is as one that is 2^-36 of the largest."""
    for heavy in (1.0, 1e305):
        stream = open_stream(config(tokens[:2]), seed=6)
        stream.reweigh(3, [heavy, light])
        stream.reweigh(6, [light, heavy])
        assert {int(source) for step in (4, 5) for source in stream.batch(step).sources} == {0}
        assert 0 not in {int(source) for step in range(8, 12) for source in stream.batch(step).sources}
        assert stream.samples.order.sample_of(0, stream.samples.order.rows_before(24 * 40)[0]) is not None
    corpora = [{"tokens": tokens[0], "weight": 1.0}, {"tokens": tokens[1], "weight": light}]
    planned = open_stream(config(tokens, corpora=corpora), seed=6)
    assert np.count_nonzero(planned.batch(0).sources) == 1
    assert not planned.batch(4000).sources.any()


def test_a_change_of_weights_keeps_what_is_known_of_the_order(tokens: list[str]) -> None:
    """Each phase is made once, however many changes there are; one that comes first makes them anew."""
    stream = open_stream(config(tokens), seed=6)
    made: list[int] = []
    known: list[Phase] = []
    for step in range(1, 40):
        stream.reweigh(step, [1.0 + step % 3, 1.0, 2.0])
        stream.batch(step)
        order = stream.samples.order
        made.append(sum(all(phase is not one for one in known) for phase in order.phases))
        known = order.phases
    assert max(made[1:]) == 1
    anew = open_stream(config(tokens), seed=6)
    anew.replay(stream.log)
    assert all(same(anew.batch(step), stream.batch(step)) for step in range(40))
    assert anew.samples.order.phases[:30] == stream.samples.order.phases[:30]
    anew.replay(stream.log[3:])
    other = open_stream(config(tokens), seed=6)
    other.replay(stream.log[3:])
    assert all(same(anew.batch(step), other.batch(step)) for step in range(30, 44))


@pytest.mark.parametrize("weights", [[float("nan"), 1.0], [1.0, float("nan")], [float("inf"), 1.0]])
def test_weights_that_are_no_numbers_are_refused(tokens: list[str], weights: list[float]) -> None:
    stream = open_stream(config(tokens[:2]), seed=6)
    with pytest.raises(RecipeError, match="give 2, all finite, none negative, one above 0"):
        stream.reweigh(3, weights)
    assert not stream.log
    assert stream.batch(5)


def test_a_temperature_that_no_weight_can_say_is_refused(tokens: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"\[data\] temperature = 0.01: .* above what a weight can be; raise it"):
        open_stream(config(tokens, temperature=0.01), seed=6)
    epochs = [{"tokens": path, "epochs": 1e308} for path in tokens]
    with pytest.raises(RecipeError, match=r"\[data\] epochs: .* above what a weight can be; lower them"):
        open_stream(config(tokens, corpora=epochs), seed=6)


def test_a_live_stream_goes_back_to_before_its_weights_changed(tokens: list[str]) -> None:
    source = Batches(config(tokens), seed=6)
    list(_first(source, 2))
    state = source.state_dict()
    expected = list(_first(source, 4))
    source.load_state_dict(state).reweigh(3, [0.0, 0.0, 1.0])
    again = source.load_state_dict(state)
    assert again.log == ()
    assert all(same(*pair) for pair in zip(expected, _first(again, 4), strict=True))


def test_a_state_of_another_plan_is_refused_and_what_differs_told(tokens: list[str]) -> None:
    state = Batches(config(tokens), seed=6).state_dict()
    with pytest.raises(RecipeError, match=r"seed is 7, was 6$"):
        Batches(config(tokens), seed=7).load_state_dict(state)
    with pytest.raises(RecipeError, match=r"packing is 'best_fit', was 'concat'"):
        Batches(config(tokens, packing="best_fit"), seed=6).load_state_dict(state)
    with pytest.raises(RecipeError, match=r"corpora is .*, was "):
        Batches(config(tokens[:2]), seed=6).load_state_dict(state)


def test_repetition_counts_the_cluster_s_size(tokens: list[str]) -> None:
    with pytest.raises(InputError, match="no column of numbers beside tokens"):
        open_stream(config(tokens, repetition={"column": "cluster", "counts": [[2, 2]]}), 0)
    repetition = {"column": "num_tokens", "counts": [[20, 3], [30, 0]]}
    stream = open_stream(config(tokens[:1], repetition=repetition, global_batch=1), 0)
    found: Counter[str] = Counter()
    lengths: dict[str, int] = {}
    for step in range(stream.tables[0].total("num_rows")):
        for _, pieces in stream.pieces(step):
            found.update(piece.doc_id for piece in pieces if piece.start == 0)
            for piece in pieces:
                lengths[piece.doc_id] = max(lengths.get(piece.doc_id, 0), piece.start + piece.length - 1)
    assert {(lengths[doc_id] >= 20, times) for doc_id, times in found.items()} == {(False, 1), (True, 3)}
    assert max(lengths.values()) < 30


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated", "ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loaders_give_the_steps_in_order(tokens: list[str], workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    plain = [batch.tokens for batch in _first(Batches(config(tokens), seed=3), 11)]
    loader = StatefulDataLoader(Dataset(config(tokens), seed=3), batch_size=None, num_workers=workers)
    states, found = [], []
    for batch in loader:
        found.append(batch["tokens"].numpy().copy())
        states.append(loader.state_dict())
        if len(found) == 7:
            break
    assert all(np.array_equal(*pair) for pair in zip(plain, found, strict=False))
    again = StatefulDataLoader(Dataset(config(tokens), seed=3), batch_size=None, num_workers=workers)
    again.load_state_dict(states[4])
    for expected, batch in zip(plain[5:9], again, strict=False):
        assert np.array_equal(expected, batch["tokens"].numpy())


def test_the_position_goes_to_any_number_of_workers(tokens: list[str]) -> None:
    from torch.utils.data import DataLoader

    source = Dataset(config(tokens), seed=3)
    steps = iter(source)
    for _ in range(5):
        next(steps)
    state = source.state_dict()
    expected = next(steps)["tokens"]
    for workers in (0, 2):
        restored = Dataset(config(tokens), seed=3).load_state_dict(state)
        loader = DataLoader(restored, batch_size=None, num_workers=workers)
        assert np.array_equal(next(iter(loader))["tokens"], expected)


def test_an_index_that_does_not_fit_is_told(tokens: list[str]) -> None:
    with pytest.raises(ValueError, match="does not divide"):
        config(tokens, lengths=[{"from_step": 0, "length": 5}])
    with pytest.raises(ValueError, match="must ascend"):
        config(tokens, global_batch=[{"from_step": 0, "rows": 2}, {"from_step": 0, "rows": 4}])
    with pytest.raises(ValueError, match="2 weights are given for 3 corpora"):
        config(tokens, schedule=[{"from_step": 3, "weights": [1.0, 2.0]}])
    assert StreamIndex(sequence_length=4).packing == "concat"
    assert isinstance(open_stream(config(tokens), 0), Stream)


def test_a_row_is_found_again(plan: DataConfig) -> None:
    """`sample_of` is the inverse of the order, in every phase."""
    stream = open_stream(plan, seed=2)
    end = min(400, stream.samples.end or 400)
    sources = stream.samples.find(0, end).sources
    rows = [0, 0, 0]
    for sample, source in enumerate(sources.tolist()):
        assert stream.samples.order.sample_of(source, rows[source]) == sample
        rows[source] += 1


def test_coverage_is_proved_and_a_gap_found(plan: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_stream(plan, seed=2)
    steps = min(30, stream.num_steps or 30)
    found = check_coverage(stream, steps)
    assert sum(one.share for one in found) == pytest.approx(1)
    assert all(one.rows * SIZE == one.positions + one.padded for one in found)
    layout = stream.tables[0].layout(0)
    packed = layout.packed._replace(length=layout.packed.length - (np.arange(len(layout.packed.length)) == 3))
    monkeypatch.setattr(stream.tables[0], "layout", lambda number: replace(layout, packed=packed))
    with pytest.raises(IntegrityError, match="do not make up its documents"):
        check_coverage(stream, steps)


def test_a_plan_names_its_repetition(tokens: list[str]) -> None:
    """Two of them can lead to windows of as many rows and positions, of other documents."""
    one, other = ({"column": "num_tokens", "counts": [[least, 2]]} for least in (2000, 3000))
    state = Batches(config(tokens, repetition=one), seed=6).state_dict()
    assert len(json.dumps(state)) < 1024
    with pytest.raises(RecipeError, match=r"repetition is '[0-9a-f]{16}', was '[0-9a-f]{16}'$"):
        Batches(config(tokens, repetition=other), seed=6).load_state_dict(state)
    assert "repetition" not in open_stream(config(tokens), seed=6).plan.resolved()


def test_a_loop_ends_where_the_mixture_as_it_is_now_does(tokens: list[str]) -> None:
    capped_last = [{"tokens": tokens[0]}, {"tokens": tokens[1], "max_epochs": 4}]
    sooner = Batches(config(tokens, corpora=capped_last, global_batch=4), seed=6)
    steps = []
    for batch in sooner:
        steps.append(batch.step)
        if batch.step == 2:
            sooner.reweigh(3, [0.0, 1.0])
    assert len(steps) == sooner.stream.num_steps > 3
    never = Batches(config(tokens, corpora=[{"tokens": tokens[0], "weight": 0.0}, capped_last[1]], global_batch=4), 6)
    end = never.stream.num_steps
    assert end is not None
    for batch in never:
        if batch.step == 2:
            never.reweigh(3, [1.0, 1.0])
        if batch.step == end + 5:
            break
    assert batch.step == end + 5


@pytest.mark.parametrize("seen", [-24, 3, 24.0, "24", True, None, 10**30])
def test_a_state_between_no_two_steps_is_refused(tokens: list[str], seen: Any) -> None:
    source = Batches(config(tokens), seed=6)
    with pytest.raises(RecipeError, match=r"samples_seen is .*, which is no number of samples before a step"):
        source.load_state_dict(source.state_dict() | {"samples_seen": seen})
    assert source.load_state_dict(source.state_dict() | {"samples_seen": 48}).state_dict()["samples_seen"] == 48


def test_parts_of_a_row_that_is_one_piece_are_one_piece(tokens: list[str]) -> None:
    """Padding in the place of prefixes does not tear a row without masks, cut or not."""
    fields = {"masks": "none", "prefix": {"template": "{source}", "until_step": 0}}
    whole = open_stream(config(tokens, **fields), seed=6).batch(0)
    cut = open_stream(config(tokens, lengths=[{"from_step": 0, "length": 8}], **fields), seed=6).batch(0)
    assert ((whole.documents[:, 1:-1] < 0) & (whole.documents[:, 2:] == 0)).any()
    assert np.array_equal(cut.documents, whole.documents.reshape(-1, 8))
    for documents, positions in zip(cut.documents, cut.positions, strict=True):
        assert (np.diff(positions[documents == 0]) >= 1).all()


def test_limits_of_epochs_are_exact(tokens: list[str]) -> None:
    assert row_limit(1.15, 340) == 391
    assert all(row_limit(hundredths / 100, 300) == 3 * hundredths for hundredths in range(1, 400))
    stream = open_stream(config(tokens, corpora=[{"tokens": tokens[0], "max_epochs": 1.15}]), seed=6)
    assert stream.samples.end == 115 * stream.sources[0].num_rows // 100
    with pytest.raises(InputError, match=r"max_epochs = 0.001 of [0-9]+ rows is less than a row"):
        open_stream(config(tokens, corpora=[{"tokens": tokens[0], "max_epochs": 0.001}]), seed=6)


def test_prefixes_stand_before_a_share_of_documents_until_the_cool_down(tokens: list[str]) -> None:
    """With them each document is its prefix, no target, and itself; without them it is as if there were none."""
    prefix = {"template": "{url}", "share": 0.5}
    with_prefix = open_stream(config(tokens[:1], prefix=prefix, global_batch=1), 3)
    bare = open_stream(config(tokens[:1], prefix=prefix | {"until_step": 0}, global_batch=1), 3)
    plain = open_stream(config(tokens[:1], global_batch=1), 3)
    table, vocabulary = with_prefix.tables[0], with_prefix.corpora[0].vocabulary
    texts = _documents(plain)
    assert _documents(bare) == texts
    told = _documents(with_prefix)
    lengths = {}
    for number in range(len(table)):
        window = table.read(number)
        lengths |= {window.doc_id(k): int(window.lines[k, 3]) for k in range(len(window.lines))}
    assert 0.4 < np.mean([length > 0 for length in lengths.values()]) < 0.6
    assert table.total("num_positions") == plain.tables[0].total("num_positions") + sum(lengths.values())
    for doc_id, (inputs, targets) in told.items():
        length = lengths[doc_id]
        assert inputs[0] == vocabulary.end_of_text
        assert targets[:length] == [IGNORE] * length
        assert (inputs[1 + length :], targets[length:]) == (texts[doc_id][0][1:], texts[doc_id][1])
    held = [batch.tokens.tobytes() for batch in with_prefix.heldout()]
    assert held == [batch.tokens.tobytes() for batch in plain.heldout()]


def _documents(stream: Stream) -> dict[str, tuple[list[int], list[int]]]:
    """Return inputs and targets of each document of an epoch, put together from its pieces; padding is left out."""
    found: dict[str, dict[int, tuple[list[int], list[int]]]] = {}
    for step in range(stream.tables[0].total("num_rows")):
        batch = stream.batch(step)
        for _, pieces in stream.pieces(step):
            for piece in pieces:
                place = slice(piece.offset, piece.offset + piece.length)
                inside = batch.documents[0, place] >= 0
                arrays = (batch.tokens[0, place][inside].tolist(), batch.targets[0, place][inside].tolist())
                found.setdefault(piece.doc_id, {})[piece.start] = arrays
                expected = np.arange(inside.sum())
                assert np.array_equal(batch.positions[0, place][inside], expected)
    return {
        doc_id: (
            [token for start in sorted(parts) for token in parts[start][0]],
            [token for start in sorted(parts) for token in parts[start][1]],
        )
        for doc_id, parts in found.items()
    }


def test_fields_of_prefixes_are_checked(tokens: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\{title\} is no field of a prefix; there are url, domain, source"):
        config(tokens, prefix={"template": "{title}"})
    with pytest.raises(ValueError, match=r"is no field of a prefix"):
        config(tokens, prefix={"template": "{url!r:>10}"})


RUN = """
[run]
name = "mixed"
steps = 9
seed = 3
bf16 = false
[data]
corpora = [CORPORA]
sequence_length = 16
global_batch = 8
[model]
num_layers = 1
width = 16
num_heads = 2
[checkpoint]
every = 4
keep = 9
"""


def test_a_controller_s_changes_are_in_checkpoints(tokens: list[str], tmp_path: Path) -> None:
    """A run that is stopped after its mixture was changed goes on as if it had not been, and is traced as it was."""
    run = parse_run(RUN.replace("CORPORA", ", ".join(f'{{ tokens = "{path}" }}' for path in tokens)))
    changes = {2: [0.0, 0.0, 1.0], 6: [1.0, 2.0, 0.0]}

    def controller(record: Mapping[str, Any]) -> Sequence[float] | None:
        return changes.get(record["step"])

    whole = train(run, open_stream(run.data, 3), tmp_path / "whole", controller=controller)
    assert [list(entry) for entry in read_history(tmp_path / "whole").schedule] == [[2, (0, 0, 1)], [6, (1, 2, 0)]]

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, open_stream(run.data, 3), tmp_path / "stopped", on_metrics=stop, controller=controller)
    resumed = train(run, open_stream(run.data, 3), tmp_path / "stopped", resume=True, controller=controller)
    assert resumed.resumed_from == 4
    assert resumed.weights == whole.weights
    stream = open_recorded(read_run(tmp_path / "whole"), history=read_history(tmp_path / "whole"))
    assert {int(source) for step in range(2, 6) for source in stream.batch(step).sources} == {2}
    assert 2 not in {int(source) for step in range(6, 9) for source in stream.batch(step).sources}


def test_a_run_longer_than_its_corpora_is_told_before_its_first_step(tokens: list[str], tmp_path: Path) -> None:
    corpora = f'{{ tokens = "{tokens[0]}", max_epochs = 1 }}'
    run = parse_run(RUN.replace("CORPORA", corpora).replace("steps = 9", "steps = 90"))
    last = open_stream(run.data, 3).num_steps
    with pytest.raises(InputError, match=f"used up after {last} steps of 90: .* or set steps = {last} in"):
        train(run, open_stream(run.data, 3), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=f"used up after {last} steps of 90"):
        check_coverage(open_stream(run.data, 3), 90)
    growing = open_stream(config(tokens, global_batch=[{"from_step": 0, "rows": 8}, {"from_step": 50, "rows": 12}]), 3)
    with pytest.raises(InputError, match="global_batch is 12 from step 50 on, which 8 processes"):
        growing.require(90, 8)


def test_a_run_whose_controller_used_its_corpora_up_keeps_its_steps(tokens: list[str], tmp_path: Path) -> None:
    corpora = f'{{ tokens = "{tokens[0]}" }}, {{ tokens = "{tokens[1]}", max_epochs = 1.5 }}'
    run = parse_run(RUN.replace("CORPORA", corpora).replace("steps = 9", "steps = 90"))

    def controller(record: Mapping[str, Any]) -> Sequence[float] | None:
        return [0.0, 1.0] if record["step"] == 2 else None

    with pytest.raises(InputError, match="used up after"):
        train(run, open_stream(run.data, 3), tmp_path / "run", controller=controller)
    steps = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert 2 < steps < 90
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").step == steps  # type: ignore[union-attr]
