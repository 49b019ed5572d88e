"""The benchmark of changed thresholds makes artifacts like those of a build, and its questions have answers."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.funnel import ask_rules
from headrace.pipeline.verify import verify


@pytest.fixture(scope="module")
def redecide() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield import_module("benchmarks.redecide")


def test_its_store_is_a_store(redecide: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redecide, "PART_DOCUMENTS", 200)
    store, upstream = redecide.make_store(tmp_path / "store", 500)
    assert [part.files["verdicts"].rows for part in upstream["verdicts"].parts] == [200, 200, 100]
    timed = redecide.time_decisions(store, upstream, 1)
    assert len(timed.seconds) == len(redecide.THRESHOLDS)
    assert len(redecide.time_questions_of_best(store, upstream).seconds) == len(redecide.THRESHOLDS)
    assert verify(store.root).ok
    for path in store.root.glob("artifacts/rules/*"):
        answer = ask_rules(path)
        assert answer.documents == 500
        assert all(rule.fails for rule in answer.funnel.rules if rule.column != "gopher_repetition.num_chars")
        if answer.name == "best 2 verdicts":
            changed = ask_rules(path, ["fineweb.short_line_ratio <= 0.6"]).changed
            assert [one.before == one.after for one in changed.thresholds] == [False]
            assert 10 <= answer.funnel.kept < 50
        else:
            assert 100 < answer.funnel.kept < 400


def test_it_prints_what_it_measured(redecide: Any, capsys: pytest.CaptureFixture[str]) -> None:
    redecide.main(["--documents", "300", "--workers", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["required"] for row in rows] == [3.0, None, None]
    assert all(row["ours"] > 0 and row["unit"] == "seconds" for row in rows)
