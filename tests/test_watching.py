"""What is seen of a run: the live view's curve and figures, shares and experts in the log, Weights & Biases."""

import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from headrace.live_training import LiveTraining, curve, duration
from headrace.pipeline.errors import RecipeError
from headrace.trainer.metrics import MetricsLog, read_metrics
from headrace.trainer.train import train
from tests.tiny_stream import TinyStream, tiny_run


def record_of(step: int, **more: float) -> dict[str, Any]:
    return {
        "step": step, "loss": 8 / step, "learning_rate": 1e-3, "tokens": 100 * step, "tokens_per_second": 50.0,
        "seconds": 2.0, **more,
    }  # fmt: skip


def test_a_curve_falls_from_its_highest_to_its_lowest() -> None:
    lines = curve([4.0, 3.0, 2.0, 1.0], width=4, height=2)
    assert lines == ["   4.000 █▃  ", "   1.000 ██▆▁"]


def test_a_long_curve_has_the_means_of_neighbours() -> None:
    lines = curve([1.0, 3.0] * 50, width=10, height=3)
    assert all(len(line) <= 9 + 10 for line in lines)
    assert lines[0].startswith("   2.000")
    assert lines[-1].startswith("   2.000")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
)
def test_times_are_told_in_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_the_view_tells_what_is_known() -> None:
    view, console = LiveTraining(10), Console(width=140, record=True, file=StringIO())
    console.print(view)
    view.add(record_of(1, eval_loss=3.0, bits_per_byte=1.25))
    view.add(record_of(2, mfu=0.5, **{"share/web": 0.75, "share/books": 0.25, "experts/max_load": 1.5}))
    console.print(view)
    text = console.export_text()
    for told in (
        "the first step is under way", "step 2 of 10", "1.2500 bits per byte", "200 (50 a second)", "50.0%",
        "web 75.0%, books 25.0%", "1.50 times its share", "16 s",
    ):  # fmt: skip
        assert told in text


def test_the_view_tells_that_a_step_was_left_out() -> None:
    view, console = LiveTraining(10), Console(width=140, record=True, file=StringIO())
    left_out = {name: value for name, value in record_of(1).items() if name != "loss"} | {"left_out": True}
    for record in (left_out, record_of(2), left_out | {"step": 3}):
        view.add(record)
        console.print(view)
    text = console.export_text()
    assert text.count("left out") == 2
    assert "step 1 of 10" in text
    assert "4.0000" in text
    assert "step 3 of 10" in text


def test_shares_of_corpora_and_loads_of_experts_are_in_the_log(tmp_path: Path) -> None:
    run = tiny_run(steps=2, model="num_experts = 4\n")
    train(run, TinyStream(names=("one", "other")), tmp_path)
    for record in read_metrics(tmp_path / "metrics.jsonl"):
        assert (record["share/one"], record["share/other"]) == (1.0, 0.0)
        assert record["experts/min_load"] <= 1 <= record["experts/max_load"]


class Board:
    """A run of Weights & Biases: it numbers what it is told, and drops what is told with an earlier number."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.axes: dict[str, str] = {}
        self.newest = 0
        self.exit_code: int | None = None

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log(self, record: dict[str, Any], step: int | None = None) -> None:
        number = self.newest + 1 if step is None else step
        if number >= self.newest:
            self.newest = number
            self.told.append(record)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Board]]:
    """What is asked of a stand-in for the package, and what it gave."""
    opened: list[tuple[dict[str, Any], Board]] = []

    def init(**given: Any) -> Board:
        opened.append((given, Board()))
        return opened[-1][1]

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    module.__spec__ = object()  # type: ignore[assignment]  # so that it is found
    monkeypatch.setitem(sys.modules, "wandb", module)
    return opened


def test_weights_and_biases_is_told_every_step(tmp_path: Path, boards: list[tuple[dict[str, Any], Board]]) -> None:
    report = train(tiny_run(steps=2, log='wandb = "curves"'), TinyStream(), tmp_path)
    ((given, board),) = boards
    assert given["project"] == "curves"
    assert given["id"] == report.plan[:32]
    assert board.told == read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in board.told] == [1, 2]
    assert board.axes == {"*": "step"}
    assert board.exit_code == 0


def test_weights_and_biases_has_the_steps_after_one_that_a_run_went_back_to(tmp_path: Path) -> None:
    board = Board()
    with MetricsLog(tmp_path, 0, lambda: board) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": 1.0})
        log.cut(1)
        for step in (2, 3):
            log.write({"step": step, "loss": 2.0})
    assert [(record["step"], record["loss"]) for record in board.told] == [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2)]


def test_weights_and_biases_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"log\.wandb"):
        train(tiny_run(steps=1, log='wandb = "curves"'), TinyStream(), tmp_path)
