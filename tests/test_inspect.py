"""Inspect: the funnel adds up from step to step, and samples are the same whatever the order of things."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.errors import InputError, IntegrityError, StoreError
from headrace.pipeline.inspect import Report, inspect
from headrace.pipeline.schema import Manifest
from tests.small_store import RECIPE, build_small


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_small(tmp_path_factory.mktemp("inspect"))


@pytest.fixture(scope="module")
def report(built: Built) -> Report:
    return inspect(Path(built.path("tokens")))


def test_all_steps_are_there_each_after_what_it_was_made_from(built: Built, report: Report) -> None:
    assert {step.label for step in report.steps} == {step.label for step in built.lock.steps}
    seen: set[str] = set()
    for step in report.steps:
        assert {item.key for item in Manifest.load(Path(step.path)).inputs} <= seen
        seen.add(step.key)
    assert (report.steps[-1].label, report.name) == ("tokenize", "tokenize")


def test_the_funnel_adds_up(built: Built, report: Report) -> None:
    """What one step keeps is what the next does not pass over; the corpus is what the last verdict kept."""
    steps = {step.label: step for step in report.steps}
    documents = steps["read"].ledger.output
    left = documents
    for label in ("distinct verdicts", "rules quality", "minhash 4 verdicts"):
        ledger = steps[label].ledger
        assert ledger.input == documents
        assert ledger.kept + sum(ledger.dropped.values(), ledger.passed) == documents
        assert ledger.passed.records == documents.records - left.records
        left = ledger.kept
    assert steps["cut"].ledger.kept == left
    assert steps["cut"].ledger.output.bytes == left.bytes + sum(steps["cut"].ledger.edits.values())
    assert steps["tokenize"].ledger.input == steps["cut"].ledger.output
    assert sum(steps["read"].ledger.gaps.values()) == 26


def test_figures_are_those_of_the_records(built: Built, report: Report) -> None:
    for step in report.steps:
        manifest = Manifest.load(Path(step.path))
        folder = Path(step.path).parent
        assert step.stored_bytes == sum(path.stat().st_size for path in folder.glob("*-*"))
        assert (step.rows, step.content, step.tasks) == (manifest.rows, manifest.content, len(manifest.parts))
        assert step.seconds == manifest.provenance["seconds"]
        assert step.resources == manifest.resources
    tokens = built.manifests["tokens"]
    assert (report.rows, report.facts["tokens"]) == (tokens.rows, report.steps[-1].tokens)


def test_every_reason_has_samples_with_the_smallest_ids(built: Built, report: Report) -> None:
    reasons = {
        (step.label, reason)
        for step in report.steps
        for reason in (*step.ledger.dropped, *step.ledger.gaps)
        if (step.stage, reason) != ("cut", "verdict")
    }
    assert {(item.label, item.reason) for item in report.dropped} == reasons
    corpus = Manifest.load(Path(built.path("corpus")))
    folder = Path(built.path("corpus")).parent
    ids = [i for part in corpus.parts for i in pq.read_table(folder / part.files["corpus"].name)["doc_id"].to_pylist()]
    assert [sample.doc_id for sample in report.kept] == sorted(ids)[:3]
    assert all(sample.text for sample in report.kept)
    (duplicates,) = [item for item in report.dropped if item.reason == "near_duplicate"]
    found = [str(sample.doc_id) for sample in duplicates.samples]
    assert found == sorted(found)
    assert all(sample.evidence and sample.evidence["estimated_jaccard"] > 0.5 for sample in duplicates.samples)
    assert all(sample.text and sample.text.startswith("About") for sample in duplicates.samples)


def test_samples_do_not_depend_on_the_order_of_inputs(built: Built, report: Report, tmp_path: Path) -> None:
    """The other source first: parts and rows move, samples stay."""
    web, notes = RECIPE.index("[[sources]]"), RECIPE.rindex("[[sources]]")
    steps = RECIPE.index("[[steps]]")
    turned = RECIPE[:web] + RECIPE[notes:steps] + RECIPE[web:notes] + RECIPE[steps:]
    other = inspect(Path(build_small(tmp_path, turned).path("tokens")))
    assert other.kept == report.kept
    assert {(item.label, item.reason): item.samples for item in other.dropped} == {
        (item.label, item.reason): item.samples for item in report.dropped
    }


@pytest.mark.parametrize("count", [0, 1, 100])
def test_as_many_samples_as_were_asked_for(built: Built, count: int) -> None:
    report = inspect(Path(built.path("corpus")), count)
    assert len(report.kept) == min(count, built.corpus.rows)
    assert all(len(item.samples) <= count for item in report.dropped)
    (duplicates,) = [item for item in report.dropped if item.reason == "near_duplicate"]
    assert len(duplicates.samples) == min(count, 2)


@pytest.mark.parametrize("role", ["documents", "verdicts", "signals:c4", "findings:duplicates", "tokenizer", "encoded"])
def test_any_artifact_can_be_inspected(built: Built, role: str) -> None:
    report = inspect(Path(built.path(role)))
    assert report.steps[-1].key == built.manifests[role].key
    assert report.kept
    if role == "verdicts":
        kept = {sample.url for sample in inspect(Path(built.path(role)), 100).kept}
        assert "http://mirror.example.net/rye" not in kept


def test_an_artifact_is_meant_by_its_folder_and_by_its_parts(built: Built) -> None:
    manifest = Path(built.path("corpus"))
    assert inspect(manifest) == inspect(manifest.parent) == inspect(next(manifest.parent.glob("*.parquet")))


def test_what_nothing_is_left_of(tmp_path: Path) -> None:
    rules = RECIPE[RECIPE.index('[[steps]]\nkind = "rules"') : RECIPE.index('[[steps]]\nkind = "minhash"')]
    built = build_small(tmp_path, RECIPE.replace(rules, ""))
    (found,) = [item for item in inspect(Path(built.path("corpus"))).dropped if item.reason == "nothing_left"]
    assert [sample.url for sample in found.samples] == ["http://example.org/tiny"]


def test_what_cannot_be_inspected_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        inspect(tmp_path / "manifest.json")
    with pytest.raises(InputError, match=r"no manifest\.json beside it"):
        inspect(next(built.store.root.glob("tasks/cut/*/*/*.parquet")))
    copy = tmp_path / "manifest.json"
    copy.write_bytes(Path(built.path("corpus")).read_bytes())
    with pytest.raises(StoreError, match="lies in no store"):
        inspect(copy)


def test_damage_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    built = build_small(tmp_path)
    path = Path(built.path("corpus"))
    fields = json.loads(path.read_bytes())
    fields["rows"] += 1
    path.write_text(json.dumps(fields))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        inspect(path)
    Path(built.path("signals:c4")).unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        inspect(Path(built.path("verdicts")))
