"""A trained classifier as a signal: found by manifest, folder, name or file; several in one recipe, each by a name."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.models import ModelFileError
from headrace.filters.signals.classifier import Classifier
from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.views import make_signal
from headrace.pipeline.walk import BuildOptions
from tests.commands import headrace
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
    { name = "classifier", as = "quality", options = { model = "MANIFEST" } },
    { name = "classifier", as = "dullness", options = { model = "MANIFEST", label = "negative" } },
]

[[steps]]
kind = "rules"
rules = [{ column = "quality.score", min = 0.5 }]

[[steps]]
kind = "cut"
"""


def batch(*texts: str) -> TextBatch:
    return TextBatch(texts, [""] * len(texts))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train on articles against shouting, in lower case and with signs apart."""
    folder = tmp_path_factory.mktemp("trained")
    for seed in range(80):
        (folder / f"good-{seed}.txt").write_text(article(seed, 6))
        (folder / f"bad-{seed}.txt").write_text("Buy now! CHEAP, click! " * 5 + str(seed))
    ran = headrace(
        *("classifier", "train", "--positive", folder / "good-*.txt", "--negative", folder / "bad-*.txt"),
        *("--name", "quality", "--store", folder / "store", "--normalize", "words", "--heldout", 0.2, "--epochs", 20),
        *("--dim", 8, "--buckets", 1000, "--json"),
    )
    assert ran.status == 0, ran.err
    return ran.json


def test_it_is_found_in_every_way(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_MODELS", str(tmp_path))
    (tmp_path / "quality").symlink_to(Path(trained["manifest"]).parent)
    texts = batch(article(1000, 6), "CLICK! buy, buy now", "")
    by_manifest = Classifier(trained["manifest"])
    values = by_manifest.measure(texts)
    assert values["label"][:2] == ["positive", "negative"]
    assert values["score"][0] > 0.8 > 0.2 > values["score"][1]
    for model in (str(Path(trained["manifest"]).parent), "quality"):
        assert Classifier(model).measure(texts) == values
        assert Classifier(model, sha256=trained["sha256"]).resources() == by_manifest.resources()
    by_file = Classifier(trained["model"], sha256=trained["sha256"], normalize="words")
    assert by_file.measure(texts) == values
    assert by_file.resources() == by_manifest.resources() == {"model": trained["sha256"], "normalize": "words"}
    other = Classifier(trained["manifest"], label="negative").measure(texts)
    assert other["score"][0] == pytest.approx(1 - values["score"][0], abs=2e-4)


def test_what_is_not_it_is_refused(trained: Any, tmp_path: Path) -> None:
    for options, message in (
        ({"model": trained["model"]}, "give the digest of the file that is meant"),
        ({"model": trained["manifest"], "sha256": "0" * 64}, "asked for is 000"),
        ({"model": str(tmp_path / "absent.json")}, "there is no file"),
    ):
        with pytest.raises(ModelFileError, match=message):
            Classifier(**options).resources()
    with pytest.raises(ModelFileError, match="no label 'good'"):
        Classifier(trained["manifest"], label="good").measure(batch("x"))
    with pytest.raises(RecipeError, match="needs the option 'model'"):
        make_signal("classifier", {})
    manifest = json.loads(Path(trained["manifest"]).read_text())
    copy = tmp_path / "manifest.json"
    for change, message in (
        ({"stage": "cut"}, "manifest of a 'cut'"),
        ({"parts": []}, "is no manifest of a classifier"),
    ):
        copy.write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ModelFileError, match=message):
            Classifier(str(copy)).resources()
    copy.write_text(json.dumps(manifest))
    (tmp_path / "model-00000.bin").write_bytes(Path(trained["model"]).read_bytes() + b"x")
    with pytest.raises(ModelFileError, match="one of them has changed"):
        Classifier(str(copy)).resources()


def recipe(trained: Any, *changes: tuple[str, str]) -> Recipe:
    text = RECIPE.replace("MANIFEST", trained["manifest"])
    for old, new in changes:
        text = text.replace(old, new)
    return parse_toml(Recipe, text, "judged.toml")


@pytest.fixture(scope="module")
def built(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    crawl = make_crawl(folder / "crawl", num_files=1)
    return run(recipe(trained), folder, crawl)


def run(made: Recipe, folder: Path, crawl: Path) -> Built:
    return build(made, Store.open(folder / "store"), make_engine(1), BuildOptions({"web": str(crawl / "*.warc.gz")}))


def test_two_classifiers_in_one_recipe(built: Built) -> None:
    for name in ("quality", "dullness"):
        manifest = built.manifests[f"signals:{name}"]
        table = pq.read_table(Path(built.path(f"signals:{name}")).parent / manifest.parts[0].files["signals"].name)
        assert table.column_names == ["doc_id", "text_bytes", f"{name}.label", f"{name}.score"]
        assert manifest.config["alias"] == name
    assert built.corpus.rows > 10


def test_a_name_is_no_reason_to_measure_other_signals_again(built: Built, trained: Any, tmp_path: Path) -> None:
    plain = recipe(trained, (', as = "quality"', ""), ("quality.score", "classifier.score"))
    other = run(plain, built.store.root.parent, built.store.root.parent / "crawl")
    assert "alias" not in other.manifests["signals:classifier"].config
    assert other.manifests["signals:dullness"] == built.manifests["signals:dullness"]
    assert other.corpus.content == built.corpus.content
    assert isinstance(other.corpus, Manifest)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('as = "dullness"', 'as = "quality"', "'quality' is measured twice"),
        ('as = "dullness"', 'as = "pii"', "which is another signal"),
        ('as = "dullness"', 'as = "Dull-ness"', "as"),
        ("quality.score", "qualty.score", "'qualty', which no step before it measures"),
        ("quality.score", "quality.scores", "did you mean 'quality.score'"),
    ],
)
def test_names_that_cannot_be(built: Built, trained: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(recipe(trained, (old, new)), built.store.root.parent, built.store.root.parent / "crawl")
