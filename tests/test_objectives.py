"""Laws of every registered objective, and what the causal one asks."""

import numpy as np
import pytest

from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import objectives, register
from tests.tiny_stream import TinyStream


@pytest.fixture
def batch() -> Batch:
    return TinyStream().batch(4)


@pytest.mark.parametrize("name", objectives())
def test_an_objective_is_a_pure_function_of_the_batch(name: str, batch: Batch) -> None:
    before = {key: value.copy() for key, value in vars(batch).items() if isinstance(value, np.ndarray)}
    first, second = objectives()[name](batch), objectives()[name](TinyStream().batch(4))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    for key, value in before.items():
        np.testing.assert_array_equal(getattr(batch, key), value)


@pytest.mark.parametrize("name", objectives())
def test_an_objective_gives_arrays_that_a_model_can_take(name: str, batch: Batch) -> None:
    inputs, targets, weights = objectives()[name](batch)
    assert inputs.shape == targets.shape == weights.shape == batch.tokens.shape
    assert (inputs.dtype, targets.dtype, weights.dtype) == (np.int32, np.int32, np.float32)
    assert ((targets >= 0) & (targets < TinyStream().vocab_size)).all()
    assert (weights >= 0).all()
    assert (weights[batch.documents < 0] == 0).all()


@pytest.mark.parametrize("name", objectives())
def test_an_objective_does_not_know_how_rows_are_shared(name: str) -> None:
    whole = objectives()[name](TinyStream().batch(2))
    for rank in range(2):
        part = objectives()[name](TinyStream().batch(2, rank, 2))
        for mine, all_rows in zip(part, whole, strict=True):
            np.testing.assert_array_equal(mine, all_rows[rank::2])


def test_causal_asks_for_each_target_once(batch: Batch) -> None:
    inputs, targets, weights = objectives()["causal"](batch)
    np.testing.assert_array_equal(inputs, batch.tokens)
    np.testing.assert_array_equal(weights == 1, batch.targets != IGNORE)
    np.testing.assert_array_equal(targets[weights == 1], batch.targets[batch.targets != IGNORE])


def test_two_objectives_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="causal"):
        register("causal")(lambda batch: objectives()["causal"](batch))
