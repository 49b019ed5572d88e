"""Edges: bad recipes, hurried neighbours, odd corpora; each once gave a wrong result or an unreadable error."""

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import BuildOptions, Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store, link
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.verify import verify
from tests.making import RECIPE, make_crawl


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crawl(tmp_path_factory.mktemp("crawl"), num_files=2, pages_per_file=8)


def recipe(text: str = RECIPE, changes: Mapping[str, str] | None = None) -> Recipe:
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return parse_toml(Recipe, text, "edge.toml")


def run(made: Recipe, store: Path, glob: str | Path, workers: int = 1, **options: float) -> Built:
    return build(made, Store.open(store), make_engine(workers), BuildOptions({"web": str(glob)}, **options))


MISFITS = {
    "unknown span column": ('"pii@c4.redactions"', '"pii@c4.redaction"', "did you mean 'pii@c4.redactions'"),
    "edits that are no spans": ('"c4.removed"', '"gopher_quality.num_words"', "kind 'int', but cut edits text by"),
    "unknown rule column": ("quality.num_words", "quality.num_wrods", "did you mean 'gopher_quality.num_words'"),
    "bounds on spans": ("gopher_quality.num_words", "c4.removed", "kind 'spans', but min and max compare numbers"),
    "unknown when": ("min = 20", 'min = 20, when = { sorce = "web" }', "'sorce', no document has that"),
    "view without spans": ('view = "c4"', 'view = "gopher_quality"', "makes no view"),
    "view not measured": ('"gopher_quality", "c4"', '"gopher_quality"', "add 'c4' to a measure step"),
    "bands": ('signal = "minhash@c4"', 'signal = "minhash@c4"\nbands = 9', "9 bands of 8 rows needs .* 72 .* has 112"),
    "no signatures": ('signal = "minhash@c4"', 'signal = "c4"', "no column 'c4.signature'"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_steps_that_do_not_fit_are_refused_before_anything_is_read(name: str, crawl: Path, tmp_path: Path) -> None:
    old, new, complaint = MISFITS[name]
    with pytest.raises(RecipeError, match=complaint):
        run(recipe(changes={old: new}), tmp_path, crawl / "*.gz")
    assert not list(tmp_path.glob("tasks/*"))


def test_a_store_that_was_killed_at_birth_is_opened(tmp_path: Path) -> None:
    (tmp_path / ".store.json-0123456789abcdef").write_bytes(b"{")
    assert (Store.open(tmp_path).root / "store.json").exists()


def test_two_builds_publish_one_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("rows")
    real = os.link

    def hurried(one: Path, other: Path) -> None:
        monkeypatch.undo()
        real(source, target)  # the other build, between our look and our link
        real(one, other)

    monkeypatch.setattr(os, "link", hurried)
    link(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_part_cut_short_is_made_again(crawl: Path, tmp_path: Path) -> None:
    first = run(recipe(), tmp_path, crawl / "*.gz")
    part = next(Path(first.path("corpus")).parent.glob("*.parquet"))
    with part.open("r+b") as file:
        file.truncate(100)  # it is a link: the task's own file is cut short with it
    assert run(recipe(), tmp_path, crawl / "*.gz").corpus.content == first.corpus.content
    assert verify(tmp_path).ok


def test_a_part_made_anew_with_other_bytes_gets_a_new_manifest(crawl: Path, tmp_path: Path) -> None:
    first = run(recipe(), tmp_path, crawl / "*.gz")
    folder = Path(first.path("corpus")).parent
    next(folder.glob("*.parquet")).unlink()
    shutil.rmtree(tmp_path / "tasks" / "cut")
    with pytest.MonkeyPatch.context() as patch:  # as another version of the writer would: the same rows in other bytes
        patch.setattr(pq, "ParquetWriter", partial(pq.ParquetWriter, compression_level=19))
        again = run(recipe(), tmp_path, crawl / "*.gz")
    assert again.corpus.content == first.corpus.content
    assert again.corpus.parts != first.corpus.parts
    assert verify(tmp_path).ok
