"""The best share of the documents: one threshold over all parts, found again when nothing changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.build import Built, build, plan
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.stages.threshold import threshold
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.verify import verify
from headrace.pipeline.walk import BuildOptions
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.making import article, page, write_warc

RECIPE = """
name = "best"

[[sources]]
name = "web"
extractor = "resiliparse"

[[steps]]
kind = "measure"
signals = ["gopher_quality"]

[[steps]]
kind = "rules"
name = "length"
rules = [{ column = "gopher_quality.num_words", max = 400 }]

[[steps]]
kind = "best"
column = "gopher_quality.num_words"
share = 0.25

[[steps]]
kind = "cut"

[sharding]
task_mebibytes = 1
"""


def recipe(*changes: tuple[str, str]) -> Recipe:
    text = RECIPE
    for old, new in changes:
        text = text.replace(old, new)
    return parse_toml(Recipe, text, "best.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three large files, so that there are three parts."""
    folder = tmp_path_factory.mktemp("best")
    for number in range(3):
        pages = [
            (f"https://example.org/{number}/{n}", page(f"Page {n}", article(100 * number + n, 1 + (7 * n) % 50)))
            for n in range(20)
        ]
        pages.append((f"https://example.org/{number}/filler", b"<html><!--" + b"x" * (2 << 20) + b"--></html>"))
        write_warc(folder / "crawl" / f"{number}.warc", pages, compress=False)
    return folder


def run(folder: Path, made: Recipe) -> Built:
    return build(made, Store.open(folder / "store"), make_engine(1), options(folder))


def options(folder: Path) -> BuildOptions:
    return BuildOptions({"web": str(folder / "crawl" / "*.warc")})


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    return run(folder, recipe())


def rows(built: Built, role: str) -> list[dict[str, Any]]:
    manifest, folder = built.manifests[role], Path(built.path(role)).parent
    return [
        row for part in manifest.parts for row in pq.read_table(folder / part.files[manifest.table].name).to_pylist()
    ]


def test_the_best_of_those_that_earlier_rules_kept_stay(built: Built) -> None:
    column = "gopher_quality.num_words"
    words = sorted(row[column] for row in rows(built, "signals:gopher_quality") if row[column] <= 400)
    (found,) = rows(built, "threshold")
    count = -(-len(words) // 4)
    assert len(built.manifests["documents"].parts) == 3
    assert found["documents"] == len(words)
    assert found["threshold"] == words[-count]
    kept = [row for row in rows(built, "verdicts") if row["kept"]]
    assert len(kept) == built.corpus.rows == found["reached"] == sum(value >= words[-count] for value in words)
    dropped = [row for row in rows(built, "verdicts") if row["kept"] is False]
    assert len(dropped) == len(words) - len(kept)
    assert {row["reason"] for row in dropped} == {"not_among_the_best"}


def test_what_was_found_is_explained_and_verified(folder: Path, built: Built) -> None:
    assert verify(folder / "store").ok
    dropped = next(row for row in rows(built, "verdicts") if row["kept"] is False)
    (fate,) = why(built.store, dropped["doc_id"])
    (judged,) = next(step for step in fate.steps if step.label == "best 3 verdicts").judged
    assert judged.rule["min"] == rows(built, "threshold")[0]["threshold"] > judged.value
    assert (fate.step, fate.reason) == ("best 3 verdicts", "not_among_the_best")
    ran = headrace("inspect", built.path("corpus"))
    assert ran.status == 0, ran.err
    assert "best 3 verdicts" in ran.out


def test_nothing_is_judged_again_where_the_threshold_stays(folder: Path, built: Built) -> None:
    assert all(step.cached == step.tasks for step in plan(recipe(), built.store, options(folder)))
    slightly = run(folder, recipe(("share = 0.25", "share = 0.2500001")))
    if rows(slightly, "threshold") == rows(built, "threshold"):
        assert slightly.manifests["verdicts"] == built.manifests["verdicts"]
    steps = {step.label: step for step in plan(recipe(("share = 0.25", "share = 0.5")), built.store, options(folder))}
    assert steps["measure gopher_quality"].cached == 3
    assert steps["best 3"].cached == 0


def test_parts_and_workers_change_nothing(folder: Path, built: Built, tmp_path: Path) -> None:
    other = build(
        recipe(("task_mebibytes = 1", "task_mebibytes = 256")), Store.open(tmp_path), make_engine(2), options(folder)
    )
    assert len(other.manifests["documents"].parts) < 3
    assert other.manifests["threshold"].content == built.manifests["threshold"].content
    assert other.corpus.content == built.corpus.content


def test_the_lowest_can_be_the_best_and_ties_can_go(folder: Path, built: Built) -> None:
    lowest = run(folder, recipe(("share = 0.25", 'share = 0.25\nbest = "lowest"\nreason = "too_long"')))
    (found,) = rows(lowest, "threshold")
    assert found["threshold"] < rows(built, "threshold")[0]["threshold"]
    assert lowest.corpus.rows == found["reached"]
    fewer = run(folder, recipe(("share = 0.25", 'share = 0.25\nties = "drop"')))
    assert fewer.corpus.rows < built.corpus.rows


def test_undefined_values_are_not_counted(folder: Path) -> None:
    column = "gopher_quality.mean_word_length"
    changes = (('num_words"\nshare', 'mean_word_length"\nshare'), ("max = 400", "max = 0"))
    nothing = run(folder, recipe(*changes))
    (found,) = rows(nothing, "threshold")
    assert (found["column"], found["threshold"], found["reached"]) == (column, None, 0)
    assert nothing.corpus.rows == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("share = 0.25", "share = 0.0", "share"),
        ("share = 0.25", "share = 1.5", "share"),
        ("share = 0.25", 'share = 0.25\nbest = "middle"', "best"),
        ('column = "gopher_quality.num_words"\nshare', 'column = "gopher_quality.num_word"\nshare', "did you mean"),
        (
            'column = "gopher_quality.num_words"\nshare',
            'column = "language.label"\nshare',
            "no step before it measures",
        ),
    ],
)
def test_steps_that_cannot_be(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(folder, recipe((old, new)))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.sampled_from([0.1, 0.3, 0.5, 0.07, 1.0, 1e-5]))
def test_the_threshold_is_that_of_a_sorted_list(values: list[int], share: float) -> None:
    from decimal import ROUND_CEILING, Decimal

    count = int((Decimal(str(share)) * len(values)).to_integral_value(ROUND_CEILING))
    array = np.array(values, dtype=np.float64)
    assert threshold(array, share, "highest") == sorted(values, reverse=True)[count - 1]
    assert threshold(array, share, "lowest") == sorted(values)[count - 1]
    assert np.count_nonzero(array >= threshold(array, share, "highest")) >= count
