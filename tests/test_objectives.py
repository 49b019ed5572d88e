"""Laws of every registered objective; what each asks, put together again to its text; what is drawn, by statistics."""

import math
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.errors import InputError, RecipeError
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.checkpoint import open_checkpoint
from headrace.trainer.evaluation.heldout import evaluate
from headrace.trainer.learner import Learner
from headrace.trainer.metrics import read_metrics
from headrace.trainer.objectives.contract import Question, make_objective, objectives, register
from headrace.trainer.objectives.denoising import noise_counts, random_ends
from headrace.trainer.objectives.masking import Masking, maskable
from headrace.trainer.objectives.pieces import pieces_of, share_room
from headrace.trainer.parallel import World
from headrace.trainer.stretch_loss import stretch_losses
from headrace.trainer.train import train
from tests.commands import headrace
from tests.tiny_stream import TinyStream, tiny_run

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in objectives()},
    "masked, all by the sign": ("masked", {"to_random": 0.0, "to_same": 0.0}),
    "masked, spans": ("masked", {"unit": "span"}),
    "masked, less and less": ("masked", {"share": 0.4, "last_share": 0.2, "share_steps": 8}),
    "masked_next, half causal": ("masked_next", {"masked_rows": 0.5, "weigh": "targets", "unit": "span"}),
    "span_corruption, dense": ("span_corruption", {"density": 0.5, "mean_span": 1.5, "sentinels": 20}),
    "span_corruption, long": ("span_corruption", {"density": 0.9, "mean_span": 64.0}),
    "ul2, one of it": ("ul2", {"denoisers": [{"mode": "S", "density": 0.5}]}),
    "prefix, most": ("prefix", {"shortest": 0.5, "longest": 0.9}),
    "fill_in_the_middle, always": ("fill_in_the_middle", {"rate": 1.0}),
}
NAMES = sorted(VARIANTS)
VOCAB = 5000
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def batch() -> Batch:
    return TinyStream().batch(4)


def make(variant: str) -> Any:
    name, options = VARIANTS[variant]
    return make_objective(name, options)


def ask(variant: str, batch: Batch, seed: int = 5) -> Question:
    question: Question = make(variant).ask(batch, seed)
    return question


def rows_of(*rows: Sequence[int], length: int = 64, behind: bool = True, seed: int = 0, step: int = 3) -> Batch:
    """Return rows of pieces of these lengths; with `behind` their last targets are known. Every sixth is not asked."""
    random = np.random.default_rng(seed)
    shape = (len(rows), length)
    tokens, targets, positions = np.zeros(shape, np.int32), np.full(shape, IGNORE, np.int32), np.zeros(shape, np.int32)
    documents = np.full(shape, -1, np.int32)
    for row, lengths in enumerate(rows):
        at = 0
        for number, size in enumerate(lengths):
            text, piece = random.integers(VOCAB, size=size + 1), slice(at, at + size)
            tokens[row, piece], targets[row, piece] = text[:-1], text[1:]
            targets[row, piece][:-1][random.random(size - 1) < 1 / 6] = IGNORE
            if not behind:
                targets[row, at + size - 1] = IGNORE
            documents[row, piece], positions[row, piece] = number, np.arange(size)
            at += size
    joins = random.random((VOCAB, 2)) < 0.8
    sources, lengths_of = np.zeros(len(rows), np.int16), np.full(VOCAB, 3, np.int64)
    return Batch(step, tokens, targets, positions, documents, lengths_of, sources, token_joins=joins)


BATCHES: dict[str, Callable[[], Batch]] = {
    "tiny stream": lambda: TinyStream().batch(4),
    "full rows": lambda: rows_of([64], [30, 34], [10] * 6 + [4]),
    "room enough": lambda: rows_of([40], [20, 9], [5, 4, 3]),
    "short pieces": lambda: rows_of([1] * 64, [2] * 32, [1, 2, 3] * 9, [1], [2, 1], [63, 1], [61, 1, 2]),
    "nothing behind": lambda: rows_of([64], [1] * 20 + [2] * 20, [30, 1, 33], behind=False),
}


# Laws of all


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_a_pure_function_of_the_batch(name: str, batch: Batch) -> None:
    before = {key: value.copy() for key, value in vars(batch).items() if isinstance(value, np.ndarray)}
    for one, two in zip(ask(name, batch), ask(name, TinyStream().batch(4)), strict=True):
        np.testing.assert_array_equal(one, two)
    for key, value in before.items():
        np.testing.assert_array_equal(getattr(batch, key), value)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_gives_arrays_that_a_model_can_take(name: str, batch: Batch) -> None:
    objective, asked = make(name), ask(name, batch)
    check_arrays(asked, batch, objective.num_signs)
    assert asked.weights.any()
    assert (asked.visible is not None) == (objective.sight == "prefix")


@pytest.mark.parametrize("name", NAMES)
def test_positions_begin_anew_with_each_piece(name: str, batch: Batch) -> None:
    check_positions(ask(name, batch))


def check_arrays(asked: Question, batch: Batch, num_signs: int) -> None:
    for array, dtype in zip(asked[:5], (np.int32, np.int32, np.float32, np.int32, np.int32), strict=True):
        assert (array.shape, array.dtype) == (batch.tokens.shape, dtype)
    for ids in asked[:2]:
        assert ((ids >= 0) & (ids < len(batch.token_bytes) + num_signs)).all()
    assert (asked.weights >= 0).all()
    assert (asked.weights[asked.documents < 0] == 0).all()
    if asked.visible is not None:
        assert (asked.visible.shape, asked.visible.dtype) == (batch.tokens.shape, np.bool_)


def check_positions(asked: Question) -> None:
    begins = np.ones(asked.documents.shape, bool)
    begins[:, 1:] = asked.documents[:, 1:] != asked.documents[:, :-1]
    inside = (asked.documents >= 0) & ~begins
    assert (asked.positions[begins & (asked.documents >= 0)] == 0).all()
    np.testing.assert_array_equal(asked.positions[inside], asked.positions[:, :-1][inside[:, 1:]] + 1)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_does_not_know_how_rows_are_shared(name: str) -> None:
    whole = ask(name, TinyStream().batch(2))
    for rank in range(2):
        for mine, all_rows in zip(ask(name, TinyStream().batch(2, rank, 2)), whole, strict=True):
            np.testing.assert_array_equal(mine, None if all_rows is None else all_rows[rank::2])


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_any_pieces_keep_the_laws(name: str, which: str) -> None:
    batch, objective = BATCHES[which](), make(name)
    asked = ask(name, batch)
    check_arrays(asked, batch, objective.num_signs)
    check_positions(asked)
    padding = asked.documents < 0
    assert asked.visible is None or not asked.visible[padding].any()
    if asked.left_out is not None:
        assert not asked.inputs[padding].any()
        assert not asked.targets[padding].any()
    else:
        np.testing.assert_array_equal(asked.inputs[padding], batch.tokens[padding])
        np.testing.assert_array_equal(asked.documents, batch.documents)


def test_causal_asks_for_each_target_once(batch: Batch) -> None:
    asked = ask("causal", batch)
    np.testing.assert_array_equal(asked.inputs, batch.tokens)
    np.testing.assert_array_equal(asked.weights == 1, batch.targets != IGNORE)
    np.testing.assert_array_equal(asked.targets[asked.weights == 1], batch.targets[batch.targets != IGNORE])
    assert asked.num_bytes(batch.token_bytes) == batch.num_bytes.sum()


def test_two_objectives_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="causal"):
        register(type("Other", (), {"name": "causal"}))


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(RecipeError, match="'causal' has no option 'shares'"):
        make_objective("causal", {"shares": 1})


# Round trips: what was asked, put together again


Pieces = dict[tuple[int, int], list[int]]
"""Tokens of a piece, by row and number."""


def originals(batch: Batch) -> Pieces:
    return {
        (row, number): piece.tokens.tolist() for row in range(len(batch)) for number, piece in pieces_of(batch, row)
    }


def rebuilt(variant: str, asked: Question, vocab: int = VOCAB) -> Pieces:
    """Return the text of each piece that is asked about, read from inputs, targets and what is visible."""
    read = {"span_corruption": from_spans, "ul2": from_denoisers, "fill_in_the_middle": from_parts}[
        VARIANTS[variant][0]
    ]
    found = {}
    for row, documents in enumerate(asked.documents):
        for number in np.unique(documents[documents >= 0]).tolist():
            at = np.flatnonzero(documents == number)
            ids = [*asked.inputs[row, at].tolist(), int(asked.targets[row, at[-1]])]
            np.testing.assert_array_equal(asked.targets[row, at], ids[1:])
            assert at[-1] - at[0] + 1 == len(at)
            num_visible = 0 if asked.visible is None else int(asked.visible[row, at].sum())
            assert asked.visible is None or asked.visible[row, at[:num_visible]].all()
            assert (asked.weights[row, at[: max(0, num_visible - 1)]] == 0).all()
            found[row, number] = read(ids, num_visible, vocab)
    return found


def from_spans(ids: list[int], num_visible: int, first: int) -> list[int]:
    """Put back what stands behind each sentinel; the last sentinel is the one behind those of the prefix."""
    spans: dict[int, list[int]] = {}
    for token in ids[num_visible:]:
        if token >= first:
            spans[token] = []
        else:
            spans[max(spans)].append(token)
    sentinels = [token for token in ids[:num_visible] if token >= first]
    assert [*sentinels, first + len(sentinels)] == list(spans) == list(range(first, first + len(spans)))
    assert all(spans[sentinel] for sentinel in sentinels)
    assert spans[first + len(sentinels)] == []
    return [piece for token in ids[:num_visible] for piece in (spans[token] if token >= first else [token])]


def from_denoisers(ids: list[int], num_visible: int, vocab: int) -> list[int]:
    mode = ids[0] - vocab
    assert mode in (0, 1, 2)
    assert num_visible >= 2
    return ids[1:] if mode == 1 else from_spans(ids[1:], num_visible - 1, vocab + 3)


def from_parts(ids: list[int], num_visible: int, vocab: int) -> list[int]:
    prefix, suffix, middle, end = range(vocab, vocab + 4)
    if end not in ids:
        assert max(ids) < prefix
        return ids
    assert Counter(token for token in ids if token >= prefix) == Counter((prefix, suffix, middle, end))
    at = {sign: ids.index(sign) for sign in (prefix, suffix, middle, end)}
    assert (at[prefix], at[end]) == (1, len(ids) - 1)
    assert at[prefix] < at[suffix] < at[middle]
    before, behind, last = ids[2 : at[suffix]], ids[at[suffix] + 1 : at[middle]], ids[at[middle] + 1 : -1]
    if at[suffix] == 2:  # the prefix is empty, or it stands before the middle: only the text tells which
        return ids[:1] + last + behind
    return ids[:1] + before + last + behind


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", [name for name in NAMES if VARIANTS[name][0] in ("span_corruption", "ul2")])
def test_a_piece_is_rebuilt_from_what_replaced_it(name: str, which: str) -> None:
    check_rebuilt(name, BATCHES[which](), begins_alike=False)


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", [name for name in NAMES if VARIANTS[name][0] == "fill_in_the_middle"])
def test_a_piece_is_rebuilt_from_its_parts(name: str, which: str) -> None:
    check_rebuilt(name, BATCHES[which](), begins_alike=True)


def check_rebuilt(name: str, batch: Batch, begins_alike: bool) -> None:
    asked, expected = ask(name, batch), originals(batch)
    found, left_out = rebuilt(name, asked, len(batch.token_bytes)), np.zeros(len(batch), np.int64)
    assert asked.left_out is not None
    for key, tokens in expected.items():
        mine = found.get(key, [])
        starts = [0] if begins_alike else range(len(tokens) - len(mine) + 1)
        assert any(tokens[start : start + len(mine)] == mine for start in starts)
        left_out[key[0]] += len(tokens) - len(mine) if len(tokens) > 1 else 0
    np.testing.assert_array_equal(asked.left_out, left_out)
    assert found.keys() <= expected.keys()


@pytest.mark.parametrize("name", ["span_corruption", "ul2", "fill_in_the_middle"])
def test_nothing_is_left_out_where_there_is_room(name: str) -> None:
    batch = rows_of([40], [20, 9], [5, 4, 3])
    asked = ask(name, batch)
    assert asked.left_out is not None
    assert not asked.left_out.any()
    assert rebuilt(name, asked) == originals(batch)


@pytest.mark.parametrize("name", ["span_corruption", "ul2", "fill_in_the_middle"])
def test_a_full_row_leaves_out_no_more_than_its_signs_need(name: str) -> None:
    batch = rows_of([64], [32, 32], [20, 20, 24])
    asked = ask(name, batch)
    num_signs, num_used = (asked.inputs >= VOCAB).sum(axis=1), (asked.documents >= 0).sum(axis=1)
    assert asked.left_out is not None
    assert (asked.left_out <= num_signs + 2 * 3).all()  # a token more may need two more signs, in each piece
    assert (num_used >= 64 - 3 * 3).all()


@pytest.mark.parametrize("name", ["span_corruption", "fill_in_the_middle, always"])
def test_what_the_stream_does_not_ask_for_is_not_asked(name: str) -> None:
    batch = rows_of([50], [20, 10], [1, 2, 3], length=80)
    asked, wanted = ask(name, batch), batch.targets[batch.targets != IGNORE]
    got = asked.targets[(asked.weights > 0) & (asked.targets < VOCAB)]
    missing = Counter(got.tolist()) - Counter(wanted.tolist())
    assert not missing
    if name.startswith("fill"):
        assert sorted(got) == sorted(wanted)
        assert set(asked.targets[(asked.weights > 0) & (asked.targets >= VOCAB)].tolist()) == {VOCAB + 3}
    silent = rows_of([50], [20, 10])
    silent.targets[:] = IGNORE
    assert not ask(name, silent).weights.any()


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", [name for name in NAMES if VARIANTS[name][0] == "masked"])
def test_masked_tokens_are_asked_in_their_places(name: str, which: str) -> None:
    batch = BATCHES[which]()
    asked, hidden = ask(name, batch), ask(name, batch).weights > 0
    np.testing.assert_array_equal(asked.targets, batch.tokens)
    np.testing.assert_array_equal(asked.inputs[~hidden], batch.tokens[~hidden])
    assert not (hidden & ~np.stack([maskable(batch, row) for row in range(len(batch))])).any()


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", [name for name in NAMES if VARIANTS[name][0] == "masked_next"])
def test_masked_tokens_are_asked_one_place_before(name: str, which: str) -> None:
    batch = BATCHES[which]()
    asked, known = ask(name, batch), batch.targets != IGNORE
    np.testing.assert_array_equal(asked.targets[known], batch.targets[known])
    assert asked.visible is not None
    for row in range(len(batch)):
        is_masked = bool(asked.visible[row].any())
        np.testing.assert_array_equal(asked.visible[row], (batch.documents[row] >= 0) & is_masked)
        hidden = asked.inputs[row] != batch.tokens[row]
        if is_masked:
            assert (asked.weights[row, np.flatnonzero(hidden) - 1] > 0).all()
            assert (known[row] | (asked.weights[row] == 0)).all()
        else:
            assert not hidden.any()
            np.testing.assert_array_equal(asked.weights[row], known[row])


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("name", [name for name in NAMES if VARIANTS[name][0] == "prefix"])
def test_what_is_behind_a_prefix_is_asked(name: str, which: str) -> None:
    batch = BATCHES[which]()
    asked = ask(name, batch)
    np.testing.assert_array_equal(asked.inputs, batch.tokens)
    assert asked.visible is not None
    for row in range(len(batch)):
        for number, piece in pieces_of(batch, row):
            at = np.flatnonzero(batch.documents[row] == number)
            length = int(asked.visible[row, at].sum())
            assert 1 <= length <= max(1, len(piece) - 1)
            assert asked.visible[row, at[:length]].all()
            np.testing.assert_array_equal(
                asked.weights[row, at[: len(piece) - 1]] > 0, piece.asked[1:] & (np.arange(1, len(piece)) >= length)
            )


# Statistics of what is drawn, within five standard deviations


def likely(count: int, number: int, probability: float) -> bool:
    return abs(count - number * probability) <= 5 * math.sqrt(number * probability * (1 - probability)) + 1e-9


LARGE = rows_of(*[[1024]] * 8, *[[300, 24, 700]] * 8, length=1024, seed=1)


def masks(**options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of all rows end to end what can be masked, what is, and what stands there."""
    asked = make_objective("masked", options).ask(LARGE, 1)
    can = np.stack([maskable(LARGE, row) for row in range(len(LARGE))])
    return can.ravel(), asked.weights.ravel() > 0, asked.inputs.ravel()


@pytest.mark.parametrize("share", [0.15, 0.3, 0.4])
def test_the_share_of_masked_tokens_is_as_asked(share: float) -> None:
    can, hidden, _ = masks(share=share)
    assert likely(hidden.sum(), can.sum(), share)


@pytest.mark.parametrize(("to_random", "to_same"), [(0.1, 0.1), (0.0, 0.0), (0.5, 0.2), (0.0, 1.0)])
@pytest.mark.parametrize("unit", ["token", "span"])
def test_masked_tokens_are_replaced_as_asked(to_random: float, to_same: float, unit: str) -> None:
    _, hidden, inputs = masks(to_random=to_random, to_same=to_same, unit=unit, mean_span=1.01)
    number, by_sign = hidden.sum(), (inputs[hidden] == VOCAB).sum()
    same = (inputs[hidden] == LARGE.tokens.ravel()[hidden]).sum()
    assert likely(by_sign, number, 1 - to_random - to_same)
    assert likely(same, number, to_same + to_random / VOCAB)
    random = inputs[hidden & (inputs != VOCAB) & (inputs != LARGE.tokens.ravel())]
    assert len(random) == 0 or abs(random.mean() / VOCAB - 0.5) < 5 / math.sqrt(12 * len(random))


def test_words_are_masked_as_a_whole() -> None:
    can, hidden, inputs = masks(unit="word")
    joins = LARGE.token_joins
    assert joins is not None
    begins = np.ones(LARGE.tokens.shape, bool)
    begins[:, 1:] = ~(joins[LARGE.tokens[:, 1:], 0] & joins[LARGE.tokens[:, :-1], 1])
    begins[:, 1:] |= LARGE.documents[:, 1:] != LARGE.documents[:, :-1]
    word = np.cumsum(begins.ravel()) - 1
    masked, maskable_in = np.bincount(word, hidden), np.bincount(word, can)
    assert set(np.unique(masked[masked > 0] / maskable_in[masked > 0])) == {1.0}
    assert likely((masked > 0).sum(), (maskable_in > 0).sum(), 0.3)
    by_sign = np.bincount(word[hidden], inputs[hidden] == VOCAB, len(masked))
    assert set(np.unique(by_sign[masked > 0] / masked[masked > 0])) == {0.0, 1.0}


@pytest.mark.parametrize("mean", [2.0, 5.0])
def test_spans_have_geometric_lengths(mean: float) -> None:
    batch = rows_of(*[[4096]] * 24, length=4096, seed=2)
    batch.targets[:] = np.where(batch.targets == IGNORE, 0, batch.targets)
    hidden = make_objective("masked", {"unit": "span", "mean_span": mean, "share": 0.02}).ask(batch, 0).weights > 0
    lengths = np.array([len(run) for row in hidden for run in "".join("x" if one else " " for one in row).split()])
    expected = mean / (1 - 0.02)  # spans that touch are one
    assert abs(lengths.mean() - expected) < 5 * mean / math.sqrt(len(lengths))
    assert likely((lengths == 1).sum(), len(lengths), 0.98 / mean)


def test_the_share_goes_to_its_last() -> None:
    objective = make("masked, less and less")
    assert [objective.share_at(step) for step in (0, 4, 8, 100)] == pytest.approx([0.4, 0.3, 0.2, 0.2])


def test_rows_are_masked_as_asked_and_weigh_alike() -> None:
    batch = rows_of(*[[64]] * 2000, seed=3)
    asked = make_objective("masked_next", {"masked_rows": 0.7, "share": 0.25}).ask(batch, 1)
    assert asked.visible is not None
    masked = asked.visible.any(axis=1)
    assert likely(masked.sum(), 2000, 0.7)
    known = batch.targets != IGNORE
    assert likely((asked.weights[masked] > 0).sum(), known[masked].sum(), 0.25)
    assert asked.weights[masked].sum() / known[masked].sum() == pytest.approx(1.0, abs=0.02)
    assert (asked.weights[~masked] == known[~masked]).all()
    assert asked.num_bytes(batch.token_bytes) == pytest.approx(3 * asked.weights.sum(), rel=1e-5)


def test_numbers_of_spans_are_those_of_t5() -> None:
    for length in range(2, 600):
        for density, mean in ((0.15, 3.0), (0.15, 8.0), (0.5, 3.0), (0.5, 64.0)):
            noise = min(max(int(np.round(length * density)), 1), length - 1)
            spans = max(int(np.round(noise / mean)), 1)
            assert noise_counts(length, density, mean) == (noise, spans)
    assert noise_counts(10, 0.9, 1.0) == (9, 1)


def test_all_ways_to_cut_are_equally_likely() -> None:
    random = np.random.default_rng(0)
    counts = Counter(tuple(random_ends(6, 3, random).tolist()) for _ in range(5000))
    assert len(counts) == math.comb(5, 2)
    assert all(likely(count, 5000, 1 / 10) for count in counts.values())
    assert all(0 < one < two < three == 6 for one, two, three in counts)
    assert random_ends(4, 4, random).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("density", "mean_span"), [(0.15, 3.0), (0.5, 8.0)])
def test_corrupted_spans_are_as_many_and_as_long_as_asked(density: float, mean_span: float) -> None:
    batch = rows_of(*[[600]] * 20, length=1024)
    asked = make_objective("span_corruption", {"density": density, "mean_span": mean_span}).ask(batch, 0)
    assert asked.visible is not None
    for row in range(20):
        continuation = asked.targets[row, asked.visible[row].sum() - 1 : (asked.documents[row] >= 0).sum()]
        num_sentinels = int((continuation >= VOCAB).sum())
        assert len(continuation) - num_sentinels == round(601 * density)
        assert num_sentinels - 1 == round(round(601 * density) / mean_span)


def test_denoisers_are_drawn_as_in_the_paper() -> None:
    batch = rows_of(*[[30, 30]] * 1500, length=128)
    first = ask("ul2", batch).inputs[ask("ul2", batch).positions == 0]
    modes = Counter((first[first >= VOCAB] - VOCAB).tolist())
    assert sum(modes.values()) == 3000
    assert all(likely(modes[mode], 3000, share / 7) for mode, share in enumerate((2, 1, 4)))
    weighted = make_objective(
        "ul2", {"denoisers": [{"mode": "S", "density": 0.25, "weight": 3.0}, {"mode": "R", "density": 0.15}]}
    )
    signs = weighted.ask(batch, 0).inputs
    assert likely((signs == VOCAB + 1).sum(), 3000, 3 / 4)


def test_middles_are_moved_as_often_and_as_far_as_asked() -> None:
    batch = rows_of(*[[9]] * 4000, length=16)
    asked = make_objective("fill_in_the_middle", {"rate": 0.6, "suffix_first": 0.3}).ask(batch, 1)
    moved = (asked.inputs == VOCAB).any(axis=1)
    assert likely(moved.sum(), 4000, 0.6)
    of_suffix, of_middle = (np.argmax(asked.inputs[moved] == VOCAB + sign, axis=1) for sign in (1, 2))
    # With an empty prefix both orders look alike; a cut is one of 10 places, the first of two is 0 with 19 in 100.
    assert likely((of_suffix == 2).sum(), moved.sum(), 0.3 + 0.7 * 0.19)
    psm = of_suffix > 2
    suffixes = (of_middle - of_suffix - 1)[psm]
    # A suffix is what is behind the larger cut; here the smaller one is not 0.
    larger = [max(one, two) for one in range(10) for two in range(10) if min(one, two) > 0]
    assert abs(suffixes.mean() - (9 - np.mean(larger))) < 5 * np.std(larger) / math.sqrt(len(suffixes))


def test_borders_of_prefixes_are_drawn_evenly() -> None:
    batch = rows_of(*[[9]] * 4000, length=16)
    visible = ask("prefix", batch).visible
    assert visible is not None
    counts = Counter(visible.sum(axis=1).tolist())
    assert sorted(counts) == list(range(1, 10))
    assert all(likely(count, 4000, 1 / 9) for count in counts.values())


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 200))
def test_a_room_is_shared_up_to_a_limit_for_all(wanted: list[int], room: int) -> None:
    given_ = share_room(wanted, room)
    assert all(0 <= got <= want for got, want in zip(given_, wanted, strict=True))
    assert sum(given_) == min(room, sum(wanted))
    short = [got for got, want in zip(given_, wanted, strict=True) if got < want]
    assert not short or max(given_) - min(short) <= 1


# Training, and what a person is told


def test_words_that_are_not_known_are_told(batch: Batch) -> None:
    with pytest.raises(RecipeError, match="unit = 'word': this stream does not say where words begin"):
        make_objective("masked", {"unit": "word"}).ask(batch, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_trains(name: str) -> None:
    kind, options = VARIANTS[name]
    run = tiny_run(steps=60, run=f'objective = "{kind}"', optimizer='schedule = "constant"')
    learner = Learner.build(run.model_copy(update={"objective": options}), 64, ALONE)
    losses = [learner.advance(TinyStream()).loss for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) - 0.15
    measured = evaluate(learner, TinyStream().heldout())
    assert measured is not None
    assert measured.loss < losses[0]


@pytest.mark.parametrize(("name", "is_told"), [("span_corruption", True), ("causal", False), ("masked", False)])
def test_the_log_says_what_was_left_out(name: str, is_told: bool, tmp_path: Path) -> None:
    train(tiny_run(steps=2, run=f'objective = "{name}"'), TinyStream(), tmp_path)
    for step, record in enumerate(read_metrics(tmp_path / "metrics.jsonl")):
        assert ("tokens_left_out" in record) == is_told
        left_out = ask(name, TinyStream().batch(step), seed=3).left_out
        assert record.get("tokens_left_out") == (None if left_out is None else left_out.sum())


@pytest.mark.parametrize("name", objectives())
def test_the_page_lists_every_objective_with_its_options(name: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "trainer.md").read_text(encoding="utf-8")
    (row,) = (line.split("|") for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    assert row[2].strip() == f"`{make(name).sight}`"
    of_masked = {field.name for field in fields(Masking)} if "those of `masked`" in row[3] else set()
    for field in fields(make(name)):
        assert f"`{field.name}` (" in row[3] or field.name in of_masked
        if isinstance(field.default, int | float) and field.name not in of_masked:
            assert f"`{field.name}` ({field.default})" in row[3]


def test_the_page_s_example_is_a_run_file() -> None:
    page = (Path(__file__).parents[1] / "docs" / "trainer.md").read_text(encoding="utf-8")
    example = tomllib.loads(page.split("```toml\n")[1].split("```")[0])
    assert make_objective(example["run"]["objective"], example["objective"]).num_signs == 303


def test_losses_of_moved_tokens_are_not_told_by_document(tmp_path: Path) -> None:
    run = tiny_run(steps=1, run='objective = "fill_in_the_middle"')
    report = train(run, TinyStream(), tmp_path)
    assert report.checkpoint is not None
    with pytest.raises(InputError, match="the objective 'fill_in_the_middle' moves tokens"):
        stretch_losses(run, TinyStream(), open_checkpoint(report.checkpoint), 0)


def test_too_few_sentinels_are_told() -> None:
    batch = rows_of([300], length=1024)
    with pytest.raises(RecipeError, match=r"sentinels = 20: rows of 1024 .* have up to 47 spans; 48 sentinels"):
        make_objective("span_corruption", {"sentinels": 20}).ask(batch, 0)
    with pytest.raises(RecipeError, match=r"sentinels = 20: .*density = 0\.5"):
        make_objective("ul2", {"sentinels": 20}).ask(batch, 0)
    make_objective("span_corruption", {"sentinels": 48}).ask(rows_of([1024], length=1024), 0)


@pytest.mark.parametrize("name", ["span_corruption", "ul2"])
def test_too_few_sentinels_for_longer_rows_are_told_before_the_first_step(name: str, tmp_path: Path) -> None:
    class Growing(TinyStream):
        def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
            return TinyStream(sequence_length=16).batch(step, rank, world)

    options = {
        "span_corruption": "density = 0.5\nmean_span = 1.0\nsentinels = 7",
        "ul2": 'denoisers = [{mode = "X", density = 0.5, mean_span = 1.0}]\nsentinels = 7',
    }
    run = tiny_run(steps=3, run=f"objective = '{name}'", objective=options[name])
    steps: list[Any] = []
    with pytest.raises(RecipeError, match=r"sentinels = 7: rows of 32 .* sentinels would be enough"):
        train(run, Growing(), tmp_path, on_metrics=steps.append)
    assert steps == []


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("masked", "share = 0.0", "share = 0.0 must be above 0 and at most 1"),
        ("masked", "share = '0.3'", "option 'share' = '0.3'"),
        ("masked", "last_share = 1.5\nshare_steps = 3", "last_share = 1.5 must be"),
        ("masked", "last_share = 0.5", "share_steps = 0 must be at least 1 with last_share"),
        ("masked", "unit = 'wrod'", "option 'unit' = 'wrod'"),
        ("masked", "mean_span = 0.5", "mean_span = 0.5 must be at least 1"),
        ("masked", "mean_span = inf", "mean_span = inf must be at least 1"),
        ("masked", "to_same = nan", "to_same = nan must be"),
        ("masked", "to_random = 0.6\nto_same = 0.6", "to_random = 0.6 and to_same = 0.6 must be"),
        ("masked_next", "masked_rows = 1.1", "masked_rows = 1.1 must lie in [0, 1]"),
        ("masked_next", "share = 2.0", "share = 2.0 must be"),
        ("span_corruption", "density = 1.0", "density = 1.0 must lie between 0 and 1"),
        ("span_corruption", "mean_span = 0.0", "mean_span = 0.0 must be"),
        ("span_corruption", "sentinels = 1", "sentinels = 1 must be at least 2"),
        ("ul2", "denoisers = []", "denoisers must be at least one"),
        ("ul2", "denoisers = [{mode = 'R', density = 2.0}]", "density = 2.0 must lie between"),
        ("ul2", "denoisers = [{mode = 'Q', density = 0.2}]", "[0].mode: Input should be 'R', 'S' or 'X'"),
        ("ul2", "denoisers = [{mode = 'R', density = 0.2, span = 3.0}]", "[0].span: Unexpected keyword"),
        ("ul2", "denoisers = [{mode = 'R', density = 0.2, weight = 0.0}]", "weight = 0.0 must be above 0"),
        ("prefix", "shortest = 0.6\nlongest = 0.5", "shortest = 0.6 and longest = 0.5 must rise"),
        ("fill_in_the_middle", "rate = -0.1", "rate = -0.1 must lie in [0, 1]"),
        ("fill_in_the_middle", "suffix_first = 3.0", "suffix_first = 3.0 must lie in [0, 1]"),
        ("fill_in_the_middle", "spm = 0.5", "has no option 'spm'"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(name: str, options: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        f'[run]\nname = "x"\nsteps = 1\nobjective = "{name}"\n'
        '[data]\ncorpora = [{tokens = "tokens/manifest.json"}]\nsequence_length = 32\nglobal_batch = 8\n'
        f'[model]\nsize = "1m"\n[objective]\n{options}\n'
    )
    ran = headrace("train", path, "--out", tmp_path / "out")
    assert ran.status == 1
    assert f"{path}: objective" in ran.err
    assert said in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()
