"""Classifiers by name: a recipe says what it is called, a key says which bytes it is, and retraining measures again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.models import ModelFileError
from headrace.filters.signals.classifier import Classifier
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.schema import Commit, Manifest, NamedArtifact
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.store import Store
from headrace.pipeline.verify import verify
from headrace.pipeline.views import make_signal
from tests.commands import Ran, headrace
from tests.making import article, make_crawl

RECIPE = """
name = "judged"

[[sources]]
name = "web"
reader = "warc"
extractor = "resiliparse"

[[steps]]
kind = "measure"
signals = [
    "gopher_quality",
    { name = "classifier", as = "quality", options = { artifact = "quality" } },
]

[[steps]]
kind = "rules"
name = "good"
rules = [{ column = "quality.score", min = 0.0001 }]

[[steps]]
kind = "best"
column = "quality.score"
share = 0.5

[[steps]]
kind = "cut"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a crawl, and texts to learn from: articles against shouting, and other articles against counting."""
    make_crawl(tmp_path / "crawl", num_files=2)
    for seed in range(60):
        (tmp_path / f"good-{seed}.txt").write_text(article(seed, 6))
        (tmp_path / f"loud-{seed}.txt").write_text("Buy now! CHEAP, click! " * 5 + str(seed))
        (tmp_path / f"dull-{seed}.txt").write_text("One two three four the and of, " * 5 + str(seed))
    return tmp_path


def train(folder: Path, negative: str = "loud", name: str = "quality", store: str = "store") -> Any:
    ran = headrace(
        *("classifier", "train", "--positive", folder / "good-*.txt", "--negative", folder / f"{negative}-*.txt"),
        *("--name", name, "--store", folder / store, "--normalize", "words", "--heldout", 0.2),
        *("--epochs", 5, "--dim", 4, "--buckets", 1000, "--json"),
    )
    assert ran.status == 0, ran.err
    return ran.json


def run(folder: Path, *more: object, command: str = "build", store: str = "store", text: str = RECIPE) -> Ran:
    (folder / "judged.toml").write_text(text)
    words = [command, folder / "judged.toml", "--store", folder / store, "--source", f"web={folder}/crawl/*.warc.gz"]
    return headrace(*words, *(["--workers", 1] if command == "build" else []), *more, "--json")


def built(folder: Path, **more: Any) -> Any:
    ran = run(folder, **more)
    assert ran.status == 0, ran.err
    return ran.json


def measured(folder: Path, store: str = "store") -> dict[str, Manifest]:
    """Return what the classifier measured in a store, by the digest of its model."""
    found = [Manifest.load(path) for path in Store.open(folder / store).manifests("measure")]
    return {item.resources["model"]: item for item in found if item.name == "measure quality"}


def scores(folder: Path, manifest: Manifest, store: str = "store") -> list[float]:
    opened = Store.open(folder / store)
    paths = [opened.part_path(manifest, part) for part in range(len(manifest.parts))]
    return [value for path in paths for value in pq.read_table(path)["quality.score"].to_pylist()]


def test_from_training_to_rules_and_again_after_training_on_other_texts(folder: Path) -> None:
    first = train(folder)
    before = built(folder)
    (old,) = measured(folder).values()
    by_path = Classifier(first["manifest"])
    opened = Store.open(folder / "store")
    documents = Manifest.load(next(opened.manifests("read")))
    rows = [
        row
        for part in range(len(documents.parts))
        for row in pq.read_table(opened.part_path(documents, part)).to_pylist()
    ]
    expected = by_path.measure(TextBatch([row["text"] for row in rows], [""] * len(rows)))["score"]
    assert scores(folder, old) == expected
    asked = headrace("rules", before["manifest"], "--set", "quality.score >= 0.9999", "--json").json
    assert [one["column"] for one in asked["funnel"]["rules"]] == ["quality.score", "quality.score"]
    shutil.copy(before["lock"], folder / "before.lock.toml")
    assert run(folder, command="plan").json["complete"]

    second = train(folder, "dull")
    assert second["sha256"] != first["sha256"]
    (step,) = [step for step in run(folder, command="plan").json["steps"] if step["step"] == "measure quality"]
    assert (step["cached"], step["tasks"]) == (0, 1)
    assert step["why"].startswith("config: options.artifact")
    after = built(folder)
    new = measured(folder)[second["sha256"]]
    assert set(measured(folder)) == {first["sha256"], second["sha256"]}
    assert scores(folder, new) != scores(folder, old)
    gopher = [path for path in opened.manifests("measure") if Manifest.load(path).name == "measure gopher_quality"]
    assert len(gopher) == 1, "other signals are not measured again"
    assert after["manifest"] != before["manifest"]

    assert verify(folder / "store").ok
    for corpus, model in ((before, first), (after, second)):
        told = headrace("inspect", corpus["manifest"])
        assert told.status == 0, told.err
        assert f"classifier ({model['manifest']})" in told.out
        assert not [line for line in told.out.splitlines() if line.startswith("quality ")], "it is no step of documents"
        assert verify(Path(corpus["manifest"])).ok
    doc_id = rows[0]["doc_id"]
    for lock, values in ((["--lock", folder / "before.lock.toml"], old), ([], new)):
        (fate,) = headrace("why", doc_id, "--store", folder / "store", *lock, "--json").json["documents"]
        told_by = {item["column"]: item["value"] for one in fate["steps"] for item in one["measured"]}
        assert told_by["quality.score"] == scores(folder, values)[0]

    assert train(folder)["manifest"] == first["manifest"], "found, not trained again"
    assert built(folder)["manifest"] == before["manifest"], "and the name stands for it again"


def test_neither_the_name_nor_the_place_is_in_a_key(folder: Path) -> None:
    trained = train(folder)
    here = built(folder)
    shutil.copytree(folder / "store", folder / "moved")
    for name in ("tasks", "artifacts"):
        shutil.rmtree(folder / "moved" / name / "measure")
    Path(folder / "moved" / "names" / "classifier" / "quality.json").unlink()
    again = train(folder, name="other-name", store="moved")
    assert Path(again["manifest"]).parent.name == Path(trained["manifest"]).parent.name, "found, not trained again"
    text = RECIPE.replace('artifact = "quality"', 'artifact = "other-name"')
    there = built(folder, store="moved", text=text)
    assert (here["content"], Path(here["manifest"]).parent.name) == (
        there["content"],
        Path(there["manifest"]).parent.name,
    )
    (one,), (two,) = measured(folder).values(), measured(folder, "moved").values()
    assert (one.key, one.config, one.resources) == (two.key, two.config, two.resources)
    assert one.config["options"] == {"artifact": f"sha256:{trained['sha256']}", "normalize": "words"}
    identity = json.dumps([one.config, one.resources])
    assert str(folder) not in identity
    assert "other-name" not in json.dumps([two.config, two.resources])
    for path in (folder / "store" / "tasks" / "measure").rglob("commit.json"):
        task = Commit.load(path).task
        assert str(folder) not in json.dumps(task.model_dump(mode="json")["config"] | task.resources)
        models = [(item.content, item.path) for item in task.inputs if item.role == "model"]
        place = Path(trained["model"]).relative_to(folder / "store").as_posix()
        assert models == ([(trained["sha256"], place)] if task.config["signal"] == "classifier" else [])


def test_a_name_that_is_another_ones_record_is_refused(folder: Path) -> None:
    train(folder)
    names = folder / "store" / "names" / "classifier"
    shutil.copy(names / "quality.json", names / "toxicity.json")
    ran = run(folder, text=RECIPE.replace('artifact = "quality"', 'artifact = "toxicity"'))
    assert (ran.status, "says that 'quality' is the classifier" in ran.err) == (1, True), ran.err
    record = NamedArtifact.load(names / "quality.json")
    wrong = NamedArtifact(stage=record.stage, name="toxicity", key=record.key, content="0" * 64)
    (names / "toxicity.json").write_bytes(wrong.render())
    ran = run(folder, text=RECIPE.replace('artifact = "quality"', 'artifact = "toxicity"'))
    assert (ran.status, "of that key has content" in ran.err) == (1, True), ran.err


def test_a_digest_names_a_model_that_another_has_taken_the_name_of(folder: Path) -> None:
    first = train(folder)
    before = built(folder)
    train(folder, "dull")
    text = RECIPE.replace('artifact = "quality"', f'artifact = "sha256:{first["sha256"]}"')
    assert built(folder, text=text)["manifest"] == before["manifest"]
    ran = run(folder, text=RECIPE.replace('artifact = "quality"', f'artifact = "sha256:{"0" * 64}"'))
    assert (ran.status, "no classifier in the store" in ran.err) == (1, True)
    text = RECIPE.replace('artifact = "quality"', f'artifact = "quality", sha256 = "{first["sha256"]}"')
    ran = run(folder, text=text)
    assert (ran.status, f"asked for is {first['sha256']}" in ran.err) == (1, True)


def test_workers_open_what_was_planned_and_read_the_texts_once(folder: Path) -> None:
    train(folder)
    before = built(folder)
    shutil.copytree(folder / "store", folder / "again")
    for path in (folder / "again").glob("*/measure"):
        shutil.rmtree(path)
    words = ["--store", folder / "again", "--source", f"web={folder}/crawl/*.warc.gz", "--workers", 2]
    ran = headrace("build", folder / "judged.toml", *words, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["content"] == before["content"]
    tasks = [Commit.load(path).task for path in (folder / "again" / "tasks" / "measure").rglob("commit.json")]
    assert sorted(len(task.inputs) for task in tasks) == [1, 2]
    assert [len(bundle) for bundle in Measure.bundles(tasks)] == [2]


@pytest.mark.parametrize("command", ["build", "plan"])
def test_a_name_that_the_store_has_not(folder: Path, command: str) -> None:
    text = RECIPE.replace('artifact = "quality"', 'artifact = "qualty"')
    ran = run(folder, command=command, text=text)
    assert ran.status == 1
    assert "no classifier is called 'qualty' in the store" in ran.err
    assert "it has none. A name counts in the store that it was trained in" in ran.err
    for name in ("quality", "toxicity"):
        train(folder, name=name)
    ran = run(folder, command=command, text=text)
    assert "(did you mean 'quality'?); it has quality, toxicity." in ran.err
    ran = run(folder, command=command, store="other")
    assert ran.status == 1
    assert f"no classifier is called 'quality' in the store {folder}/other; it has none" in ran.err
    assert "headrace classifier train --name quality --store" in ran.err
    assert "or give the manifest of one elsewhere as `model`" in ran.err
    assert not (folder / "other").exists() or command == "build"


@pytest.mark.parametrize("name", ["../store/quality", "Quality", "", "a/b", "quality.json", ".quality"])
def test_what_is_no_name_is_said(folder: Path, name: str) -> None:
    ran = run(folder, text=RECIPE.replace('artifact = "quality"', f'artifact = "{name}"'))
    assert ran.status == 1
    assert f"{name!r} is no name of a classifier" in ran.err
    assert "given by the path of its manifest, as `model`" in ran.err


def test_damage_is_found_before_and_after_planning(folder: Path) -> None:
    trained = train(folder)
    record = folder / "store" / "names" / "classifier" / "quality.json"
    model, data = Path(trained["model"]), Path(trained["model"]).read_bytes()
    commit = next((folder / "store" / "tasks" / "classifier").rglob("model-*"))
    model.unlink()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    ran = run(folder)
    assert (ran.status, "one of them has changed" in ran.err) == (1, True)
    model.write_bytes(data)
    saved = record.read_bytes()
    record.write_bytes(saved.replace(b"quality", b"quantity"))
    ran = run(folder)
    assert (ran.status, "the record is damaged" in ran.err) == (1, True)
    assert [finding.path for finding in verify(folder / "store").findings] == ["names/classifier/quality.json"]
    record.rename(record.with_name("moved.json"))
    record.with_name("moved.json").write_bytes(saved)
    assert "which has another place" in str(verify(folder / "store").findings)
    record.with_name("moved.json").rename(record)
    assert verify(folder / "store").ok
    assert not verify(folder / "store").stray
    shutil.rmtree(Path(trained["manifest"]).parent)
    ran = run(folder)
    assert (ran.status, "the classifier 'quality' is gone" in ran.err) == (1, True)
    assert commit.exists()
    assert train(folder)["sha256"] == trained["sha256"]
    assert run(folder).status == 0


def test_the_signal_itself_asks_for_one_model(folder: Path) -> None:
    for options in ({}, {"model": "x", "artifact": "y"}):
        with pytest.raises(RecipeError, match="needs the option 'model' or the option 'artifact', one of them"):
            make_signal("classifier", options)
    with pytest.raises(ModelFileError, match="'quality' is a classifier of the store that is built in"):
        make_signal("classifier", {"artifact": "quality"}).resources()
    told = headrace("signals", "classifier", "--json").json
    assert [column["id"] for column in told["columns"]] == ["classifier.label", "classifier.score"]
    assert "artifact" in [option["name"] for option in told["options"]]
