"""Held-out likelihood: sums by document and domain, whichever rows, ranks and batches they come in."""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from headrace.pipeline.errors import InputError, RecipeError
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.evaluation.estimates import bootstrapped, mean_of, perplexity_of, ratio_of, share_of
from headrace.trainer.evaluation.heldout import Evaluation, columns_for, evaluate, evaluate_source
from headrace.trainer.learner import Learner
from headrace.trainer.metrics import read_metrics
from headrace.trainer.objectives.contract import Question
from headrace.trainer.parallel import World
from headrace.trainer.streaming.turns import by_turns
from headrace.trainer.train import train
from tests.tiny_stream import TinyStream, tiny_run

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner.build(tiny_run(), 64, ALONE)


def measured(learner: Learner, domain: str = "corpus", **options: Any) -> Evaluation:
    found = evaluate_source(learner, TinyStream(**options), domain=domain)
    assert found is not None
    return found


# ---------------------------------------------------------------------------------------------------------- estimates


def test_the_interval_of_a_ratio_is_the_bootstrap_s() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(5, 200, 400).astype(float)
    sums = sizes * (3 + random.normal(0, 0.4, 400)) + random.normal(0, 10, 400)
    found = ratio_of(sums, sizes)
    drawn = bootstrapped(lambda rows: float(sums[rows].sum() / sizes[rows].sum()), len(sizes))
    assert found.value == drawn.value == pytest.approx(sums.sum() / sizes.sum())
    assert found.stderr == pytest.approx(drawn.stderr, rel=0.1)
    assert (found.low, found.high) == (pytest.approx(drawn.low, abs=0.01), pytest.approx(drawn.high, abs=0.01))


def test_intervals_hold_what_they_promise() -> None:
    """Of a hundred samples of documents about 95 have the true ratio within."""
    held = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        sizes = random.integers(10, 100, 60).astype(float)
        found = ratio_of(2.5 * sizes + random.normal(0, 1, 60) * sizes, sizes)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 2.5 <= found.high
    assert 0.90 < held / 300 < 0.98


def test_a_mean_has_the_sample_s_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    found = mean_of(values)
    assert (found.value, found.n) == (0.6, 5)
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))


def test_a_share_has_wilson_s_interval() -> None:
    """Values of R's `prop.test(..., correct = FALSE)`."""
    found = share_of([1.0] * 6 + [0.0] * 4)
    assert (found.low, found.high) == (pytest.approx(0.3126738, abs=1e-6), pytest.approx(0.8318197, abs=1e-6))
    assert found.stderr == mean_of([1.0] * 6 + [0.0] * 4).stderr
    none = share_of([0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(0.2775328, abs=1e-6))


def test_one_unit_has_no_interval_and_nothing_no_ratio() -> None:
    assert ratio_of([3.0], [2.0]).stderr is None
    assert bootstrapped(lambda rows: 1.0, 1).low is None
    with pytest.raises(ValueError, match="nothing"):
        mean_of([])


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    loss = ratio_of([2.0, 6.0, 3.0], [1.0, 2.0, 1.5])
    found = perplexity_of(loss)
    assert loss.low is not None
    assert found.value == pytest.approx(math.exp(loss.value))
    assert found.low == pytest.approx(math.exp(loss.low))
    assert perplexity_of(ratio_of([5000.0, 5000.0], [1.0, 1.0])).value < math.inf


# ---------------------------------------------------------------------------------------------------------- documents


def test_sums_are_kept_by_document(learner: Learner) -> None:
    found = measured(learner)
    expected: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for batch in TinyStream().heldout(("doc_id",)):
        question = learner.objective.ask(batch, 0)
        nll = learner.negative_log_likelihood(batch, question, slice(None)).detach().double().numpy()
        for (row, place), target in np.ndenumerate(batch.targets):
            if target != IGNORE:
                sums = expected[batch.columns["doc_id"][row][batch.documents[row, place]]]
                for index, value in enumerate((nll[row, place], 1, batch.token_bytes[target])):
                    sums[index] += value
    np.testing.assert_allclose(sorted(found.documents.tolist()), sorted(expected.values()), rtol=1e-6)
    assert found.loss_estimate().n == len(expected)
    assert found.loss_estimate().value == pytest.approx(found.loss)
    assert found.bits_estimate().value == pytest.approx(found.bits_per_byte)


def test_pieces_of_one_document_are_one_unit(learner: Learner) -> None:
    batches = list(TinyStream().heldout(("doc_id",)))
    same = [replace(b, columns={"doc_id": [["a"] * len(row) for row in b.columns["doc_id"]]}) for b in batches]
    found = evaluate(learner, same)
    assert found is not None
    assert found.loss == pytest.approx(measured(learner).loss)
    assert (len(found.documents), found.loss_estimate().stderr) == (1, None)


def test_domains_add_up_to_the_whole(learner: Learner) -> None:
    whole = measured(learner, "metadata.place")
    parts = whole.by_domain()
    assert set(parts) == {"0", "1"}
    assert sum(part.nll for part in parts.values()) == pytest.approx(whole.nll)
    assert sum(part.num_targets for part in parts.values()) == whole.num_targets
    assert sum(len(part.documents) for part in parts.values()) == len(whole.documents)
    record = whole.record()
    assert record["eval_loss/1"] == pytest.approx(parts["1"].loss)
    assert record["bits_per_byte/0"] == pytest.approx(parts["0"].bits_per_byte)
    assert set(measured(learner).record()) == {"eval_loss", "bits_per_byte", "eval_loss_stderr"}


def test_ranks_together_measure_what_one_does(learner: Learner) -> None:
    parts: list[list[float]] = []

    @dataclass(frozen=True)
    class Half(World):
        def sum(self, values: Any) -> list[float]:
            parts.append(list(values))
            return list(values)

    for rank in range(2):
        half = replace(learner, world=Half(rank, 2, torch.device("cpu")))
        assert evaluate_source(half, TinyStream(), domain="metadata.place") is not None
    whole = measured(learner, "metadata.place")
    together = np.sum(parts, axis=0).reshape(-1, 3)
    np.testing.assert_allclose(together[together[:, 1] > 0], whole.documents, rtol=1e-6)


@dataclass(frozen=True)
class Joined:
    """Moves the borders between documents."""

    name: ClassVar[str] = "joined"
    version: ClassVar[int] = 1
    sight: ClassVar[str] = "causal"
    num_signs: ClassVar[int] = 0

    def ask(self, batch: Batch, seed: int) -> Question:
        asked = (batch.targets != IGNORE).astype(np.float32)
        targets = np.maximum(batch.targets, 0)
        return Question(batch.tokens, targets, asked, batch.positions, np.zeros_like(batch.documents))


def test_where_pieces_cannot_be_told_apart_rows_stand_in(learner: Learner, caplog: pytest.LogCaptureFixture) -> None:
    moved = replace(learner, objective=Joined())  # type: ignore[arg-type]  # sight is a string here
    with caplog.at_level(logging.WARNING):
        found = measured(moved, "metadata.place")
    assert len(found.documents) == 11
    assert found.names == ("tiny",)
    assert caplog.text.count("cannot be told by document") == 1


@pytest.mark.parametrize("sizes", [(40, 4, 10), (3, 300), (0, 5, 5), (7,), (0,)])
def test_the_first_batches_are_a_fair_share_of_each_corpus(sizes: tuple[int, ...]) -> None:
    """At any moment no corpus has had more than one batch above the share of the one that has had least."""
    parts = [
        (size, iter([[number] * min(4, size - first) for first in range(0, size, 4)]))
        for number, size in enumerate(sizes)
    ]
    there = {number: size for number, size in enumerate(sizes) if size}
    batches = list(by_turns(parts))
    assert [batch[0] for batch in batches[: len(there)]] == list(there)
    rows = Counter[int]()
    for batch in batches:
        rows[batch[0]] += len(batch)
        least = min(rows[number] / size for number, size in there.items())
        assert all(rows[number] - least * size <= 4 for number, size in there.items())
    assert rows == there


@pytest.mark.parametrize("section", [{"run": 'objective = "fill_in_the_middle"'}, {"data": 'masks = "none"'}])
def test_all_batches_have_the_same_kind_of_units(section: dict[str, str]) -> None:
    """A batch whose rows are one piece each looks as if its documents could be told apart."""
    moved = Learner.build(tiny_run(**section), 64, ALONE)
    (batch, *_) = TinyStream().heldout(("doc_id", "source"))
    one = replace(
        batch,
        documents=np.zeros_like(batch.documents),
        positions=np.tile(np.arange(32, dtype=np.int32), (8, 1)),
        targets=np.maximum(batch.targets, 0),
        columns={name: [["same"]] * 8 for name in ("doc_id", "source")},
    )
    found = evaluate(moved, [one, batch], None, "source", ("tiny",))
    assert found is not None
    assert (len(found.documents), found.names) == (16, ("tiny",))


def test_fewer_batches_than_corpora_are_told(learner: Learner, caplog: pytest.LogCaptureFixture) -> None:
    for max_batches, told in ((None, 0), (2, 0), (1, 1)):
        evaluate_source(learner, TwoCorpora(), max_batches)
        assert caplog.text.count("max_batches = 1: not all of 2 corpora are measured") == told


# ------------------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class TwoCorpora(TinyStream):
    """Rows of two corpora in turn."""

    names: tuple[str, ...] = ("web", "books")

    def heldout(self, columns: Any = ()) -> Iterator[Batch]:
        for batch in super().heldout(columns):
            yield replace(batch, sources=np.arange(len(batch), dtype=np.int16) % 2)


def test_the_log_has_the_values_of_each_domain(tmp_path: Path) -> None:
    train(tiny_run(steps=2), TwoCorpora(), tmp_path)
    record = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert {"eval_loss/web", "eval_loss/books", "bits_per_byte/web", "bits_per_byte/books"} <= set(record)
    low, high = sorted((record["eval_loss/web"], record["eval_loss/books"]))
    assert low < record["eval_loss"] < high
    assert record["eval_loss_stderr"] > 0


@pytest.mark.parametrize("nll", [math.nan, math.inf])
def test_what_is_no_finite_number_is_in_no_log_and_null_in_a_report(nll: float) -> None:
    documents = np.array([[nll, 2.0, 8.0], [3.0, 2.0, 8.0], [1.0, 0.5, 8.0]])
    found = Evaluation(documents, np.array([0, 1, 1]), ("web", "books"))
    assert found.record() == {"eval_loss/books": 1.6, "bits_per_byte/books": pytest.approx(4 / math.log(2) / 16)}
    assert json.loads(json.dumps(found.report(), allow_nan=False))["loss"]["value"] is None


def test_a_domain_that_is_not_there_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    class Poor(TinyStream):
        def heldout(self, columns: Any = ()) -> Iterator[Batch]:
            raise InputError(f"no {columns[-1]} here")
            yield

    with pytest.raises(InputError, match=r"no metadata\.kind here"):
        train(tiny_run(eval='domain = "metadata.kind"'), Poor(), tmp_path)
    assert not (tmp_path / "run.json").exists()
    with pytest.raises(RecipeError, match=r"eval\.domain = 'knd': no 'knd' is beside tokens"):
        tiny_run(eval='domain = "knd"')
    assert columns_for("doc_id") == ("doc_id",)
