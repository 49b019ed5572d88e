"""What a few steps of a run tell: a good learning rate, and where the time goes."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.errors import InputError, StoreError
from headrace.trainer.profiling import profile_run
from headrace.trainer.rate_test import Tried, find_rate
from headrace.trainer.train import train
from tests.tiny_stream import TinyStream, tiny_run


def test_a_rate_is_suggested_that_trains_better_than_others(tmp_path: Path) -> None:
    told: list[Tried] = []
    found = find_rate(tiny_run(), TinyStream(), steps=60, first=1e-5, last=3.0, on_step=told.append)
    assert tuple(told) == found.tried
    assert found.ended_by == "rising loss"
    assert found.suggestion is not None
    assert found.steepest is not None
    assert found.lowest is not None
    assert found.suggestion < found.lowest
    losses = []
    for number, rate in enumerate((found.suggestion / 30, found.suggestion, found.lowest * 3)):
        run = tiny_run(steps=40)
        changed = run.optimizer.model_copy(update={"learning_rate": rate})
        report = train(run.model_copy(update={"optimizer": changed}), TinyStream(), tmp_path / str(number))
        losses.append(report.eval_loss)
    assert min(losses) == losses[1]


def test_rates_rise_exponentially_and_the_mean_has_no_bias() -> None:
    found = find_rate(tiny_run(), TinyStream(), steps=12, first=1e-6, last=1e-4, smoothing=0.8)
    rates = [one.learning_rate for one in found.tried]
    assert rates == pytest.approx([1e-6 * 100 ** (n / 11) for n in range(12)])
    assert found.ended_by == "steps"
    losses = [one.loss for one in found.tried]
    for count in range(1, 13):
        weights = [0.8 ** (count - 1 - n) for n in range(count)]
        mean = sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights)
        assert found.tried[count - 1].smoothed == pytest.approx(mean)
    assert losses[0] == find_rate(tiny_run(), TinyStream(), steps=12, first=1e-3).tried[0].loss


def test_rates_that_do_nothing_suggest_nothing() -> None:
    found = find_rate(tiny_run(), TinyStream(), steps=12, first=10.0, last=1e4, smoothing=0.0)
    assert found.suggestion is None
    assert found.ended_by != "steps"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"steps": 5}, "steps = 5 are too few"),
        ({"first": 0.0}, "must be above 0"),
        ({"first": 1.0, "last": 0.1}, "above the first"),
        ({"smoothing": 1.0}, "smoothing = 1.0"),
    ],
)
def test_a_range_that_cannot_be_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        find_rate(tiny_run(), TinyStream(), **wrong)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_profile_tells_shares_and_writes_a_trace(name: str, tmp_path: Path) -> None:
    run = tiny_run(optimizer="microbatch = 4")
    run = run.model_copy(update={"run": run.run.model_copy(update={"peak_flops": 1e12})})
    found = profile_run(run, TinyStream(), tmp_path / "deep" / name, warmup=1, steps=2, operators=6)
    assert list(found.shares) == ["stream", "forward", "backward", "optimizer", "other"]
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) > 0
    assert found.tokens_per_second > 0
    assert found.mfu is not None
    assert 0 < found.mfu < 1
    assert found.peak_bytes > 1 << 20
    assert len(found.operators) == 6
    shares = [one.share for one in found.operators]
    assert shares == sorted(shares, reverse=True)
    assert any("mm" in one.name for one in found.operators)
    data = (tmp_path / "deep" / name).read_bytes()
    trace = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
    names = [event.get("name") for event in trace["traceEvents"]]
    for part in ("stream", "forward", "forward and backward", "optimizer"):
        assert names.count(part) in (2, 4, 6)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_a_profile_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trace.txt: a trace is a file .json or .json.gz"):
        profile_run(tiny_run(), TinyStream(), tmp_path / "trace.txt")
    with pytest.raises(InputError, match="steps = 0 at least 1"):
        profile_run(tiny_run(), TinyStream(), tmp_path / "trace.json", steps=0)
    (tmp_path / "file").write_text("")
    with pytest.raises((StoreError, OSError)):
        profile_run(tiny_run(), TinyStream(), tmp_path / "file" / "trace.json", steps=1)
