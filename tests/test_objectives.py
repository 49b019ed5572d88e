"""Laws of every registered objective, and what the causal one asks."""

import numpy as np
import pytest

from headrace.pipeline.errors import RecipeError
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import Question, make_objective, objectives, register
from tests.tiny_stream import TinyStream


@pytest.fixture
def batch() -> Batch:
    return TinyStream().batch(4)


NAMES = sorted(objectives())


def ask(name: str, batch: Batch, seed: int = 5) -> Question:
    return make_objective(name, {}).ask(batch, seed)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_a_pure_function_of_the_batch(name: str, batch: Batch) -> None:
    before = {key: value.copy() for key, value in vars(batch).items() if isinstance(value, np.ndarray)}
    for one, two in zip(ask(name, batch), ask(name, TinyStream().batch(4)), strict=True):
        np.testing.assert_array_equal(one, two)
    for key, value in before.items():
        np.testing.assert_array_equal(getattr(batch, key), value)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_gives_arrays_that_a_model_can_take(name: str, batch: Batch) -> None:
    objective, asked = make_objective(name, {}), ask(name, batch)
    for array, dtype in zip(asked[:5], (np.int32, np.int32, np.float32, np.int32, np.int32), strict=True):
        assert (array.shape, array.dtype) == (batch.tokens.shape, dtype)
    for ids in asked[:2]:
        assert ((ids >= 0) & (ids < TinyStream().vocab_size + objective.num_signs)).all()
    assert (asked.weights >= 0).all()
    assert asked.weights.any()
    assert (asked.weights[asked.documents < 0] == 0).all()
    assert (asked.visible is not None) == (objective.sight == "prefix")


@pytest.mark.parametrize("name", NAMES)
def test_positions_begin_anew_with_each_piece(name: str, batch: Batch) -> None:
    asked = ask(name, batch)
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
