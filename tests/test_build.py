"""Laws 1, 2, 5 and 6 on whole builds: names by content, everything accounted for, the same in and the same out."""

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import Built, build, plan
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import InputError, LockError, RecipeError
from headrace.pipeline.lock import Lock
from headrace.pipeline.recipe import Recipe, load_recipe
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from tests.making import RECIPE, article, make_crawl, page, recompress, write_recipe, write_warc


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crawl(tmp_path_factory.mktemp("crawl"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return load_recipe(str(write_recipe(tmp_path_factory.mktemp("recipe"))))


@pytest.fixture(scope="module")
def built(crawl: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return run(recipe, tmp_path_factory.mktemp("store"), crawl)


def run(
    recipe: Recipe, store: Path, crawl: Path, workers: int = 1, locked: Lock | None = None, **options: float
) -> Built:
    globs = {"web": str(crawl / "**" / "*.warc*")}
    return build(recipe, Store.open(store), make_engine(workers), BuildOptions(globs, **options), locked=locked)


def ids(built: Built) -> dict[str, str]:
    """Content ids by role, without what is on its way: `encoded`, `bands` and `buckets` are sorted within each part."""
    on_their_way = ("encoded", "bands", "buckets")
    return {role: manifest.content for role, manifest in built.manifests.items() if role not in on_their_way}


def changed(text: str) -> Recipe:
    from headrace.pipeline.strict_toml import parse_toml

    return parse_toml(Recipe, text, "changed.toml")


def test_again_gives_the_same_and_runs_nothing(built: Built, crawl: Path, recipe: Recipe) -> None:
    commits = {path: path.stat().st_mtime_ns for path in built.store.root.rglob("commit.json")}
    assert ids(run(recipe, built.store.root, crawl)) == ids(built)
    assert {path: path.stat().st_mtime_ns for path in built.store.root.rglob("commit.json")} == commits
    assert all(step.cached == step.tasks for step in plan(recipe, built.store, options_of(crawl)))


def options_of(crawl: Path) -> BuildOptions:
    return BuildOptions({"web": str(crawl / "**" / "*.warc*")})


def test_number_of_workers_changes_nothing(built: Built, crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    assert ids(run(recipe, tmp_path, crawl, workers=2)) == ids(built)


def test_another_folder_changes_nothing(built: Built, crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    shutil.copytree(crawl, tmp_path / "elsewhere")
    other = run(recipe, tmp_path / "store", tmp_path / "elsewhere")
    assert ids(other) == ids(built)
    assert [m.key for m in other.manifests.values()] == [m.key for m in built.manifests.values()]


def test_recompression_changes_no_content(built: Built, crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    for path in crawl.glob("*.gz"):
        recompress(path, tmp_path / "again" / path.name, level=1)
    other = run(recipe, tmp_path / "store", tmp_path / "again")
    assert ids(other) == ids(built)
    assert other.manifests["documents"].key != built.manifests["documents"].key


def test_no_compression_changes_no_content(built: Built, crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for path in crawl.glob("*.gz"):
        (tmp_path / "plain" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert ids(run(recipe, tmp_path / "store", tmp_path / "plain")) == ids(built)


def test_how_tasks_are_cut_changes_no_content(built: Built, crawl: Path, tmp_path: Path) -> None:
    one_task = changed(RECIPE.replace("task_mebibytes = 1", "task_mebibytes = 512"))
    assert ids(run(one_task, tmp_path, crawl)) == ids(built)


@pytest.mark.parametrize("compress", [True, False])
def test_a_large_file_is_read_in_slices(tmp_path: Path, compress: bool) -> None:
    rng = random.Random(5)
    pages = [
        (f"https://example.org/{n}", page("", article(n, 20)) + rng.randbytes(9000).hex().encode()) for n in range(400)
    ]
    crawl = write_warc(tmp_path / "crawl" / "large.warc.gz", pages, compress=compress).parent
    recipe = changed(RECIPE)
    sliced = run(recipe, tmp_path / "sliced", crawl)
    whole = run(changed(RECIPE.replace("task_mebibytes = 1", "task_mebibytes = 512")), tmp_path / "whole", crawl)
    assert len(whole.manifests["documents"].parts) == 1
    assert len(sliced.manifests["documents"].parts) == (4 if compress else 1)
    assert ids(sliced) == ids(whole)
    assert sliced.manifests["documents"].ledger == whole.manifests["documents"].ledger
    origins = [[r["origin"] for r in rows_of(b, "corpus", "origin")] for b in (sliced, whole)]
    assert origins[0] == origins[1]


def test_a_new_file_reads_itself_alone(crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(crawl, grown)
    before = run(recipe, tmp_path / "store", grown)
    make_crawl(tmp_path / "new", num_files=1, pages_per_file=3)
    shutil.copy(tmp_path / "new" / "crawl-00.warc.gz", grown / "crawl-01-b.warc.gz")
    after = run(recipe, tmp_path / "store", grown)
    old = {part.task for part in before.manifests["documents"].parts}
    new = [part.task for part in after.manifests["documents"].parts]
    assert len(set(new) - old) <= 2  # its own task, or the one of the group that it joined and what was cut off that


def test_every_record_and_byte_is_accounted_for(built: Built, crawl: Path) -> None:
    read = built.manifests["documents"].ledger
    assert read.input.bytes == sum(path.stat().st_size for path in crawl.glob("*.gz"))
    assert read.input.records == read.kept.records + sum(tally.records for tally in read.dropped.values())
    for manifest in built.manifests.values():
        manifest.ledger.check(manifest.name)


def test_near_duplicates_leave_one(built: Built) -> None:
    path = next(iter((built.store.root / "artifacts" / "duplicates").glob("*/findings-00000.parquet")))
    rows = pq.read_table(path).to_pylist()
    assert [row["reason"] for row in rows].count("near_duplicate") == 3
    assert {row["survivor"] for row in rows if row["reason"]} == {row["doc_id"] for row in rows if not row["reason"]}


def test_the_same_record_twice_is_one_document(crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    shutil.copytree(crawl, tmp_path / "twice" / "a")
    shutil.copytree(crawl, tmp_path / "twice" / "b")
    twice = run(recipe, tmp_path / "store", tmp_path / "twice")
    once = run(recipe, tmp_path / "other", crawl)
    assert twice.corpus.content == once.corpus.content
    assert twice.manifests["documents"].rows == 2 * once.manifests["documents"].rows


def test_a_threshold_measures_nothing_again(built: Built, crawl: Path) -> None:
    stricter = changed(RECIPE.replace("min = 20", "min = 520"))
    steps = {step.label: step for step in plan(stricter, built.store, options_of(crawl))}
    assert steps["measure minhash@c4"].cached == steps["measure minhash@c4"].tasks
    assert list(steps)[-1] == "rules length"
    assert steps["rules length"].why == "config: rules[0].min 20.0 -> 520.0"
    assert run(stricter, built.store.root, crawl).corpus.rows < built.corpus.rows


def test_a_new_signal_measures_itself_alone(built: Built, crawl: Path) -> None:
    more = changed(RECIPE.replace('"gopher_quality", "c4"', '"gopher_quality", "gopher_repetition", "c4"'))
    steps = {step.label: step for step in plan(more, built.store, options_of(crawl))}
    assert steps["measure gopher_repetition"].cached == 0
    assert steps["measure gopher_quality"].cached == steps["measure gopher_quality"].tasks


def test_limit_keeps_the_first_and_reads_no_more(crawl: Path, recipe: Recipe, built: Built, tmp_path: Path) -> None:
    limited = run(recipe, tmp_path / "one", crawl, limit=25)
    assert ids(limited) == ids(run(recipe, tmp_path / "two", crawl, workers=2, limit=25))
    verdicts = limited.manifests["documents"].rows
    assert verdicts <= 2 * 25
    kept = [row["doc_id"] for row in rows_of(limited, "corpus")]
    assert 20 <= len(kept) <= 25
    assert kept == [row["doc_id"] for row in rows_of(built, "corpus")][: len(kept)]


def test_sample_is_a_share_of_the_records(crawl: Path, recipe: Recipe, built: Built, tmp_path: Path) -> None:
    sampled = run(recipe, tmp_path, crawl, sample=0.5)
    assert 0 < sampled.corpus.rows < built.corpus.rows
    assert sampled.manifests["documents"].key != built.manifests["documents"].key
    whole = {row["doc_id"] for row in rows_of(built, "documents")}
    assert {row["doc_id"] for row in rows_of(sampled, "documents")} < whole


def rows_of(built: Built, role: str, column: str = "doc_id") -> list[dict[str, Any]]:
    manifest = built.manifests[role]
    paths = sorted(Path(built.path(role)).parent.glob(f"{manifest.table}-*.parquet"))
    return [row for path in paths for row in pq.read_table(path, columns=[column]).to_pylist()]


def test_locked_accepts_the_same_and_refuses_another(built: Built, crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    lock = built.lock
    assert Lock.load(run(recipe, built.store.root, crawl).lock_path) == lock
    assert ids(run(recipe, tmp_path / "store", crawl, locked=lock)) == ids(built)
    with pytest.raises(LockError, match=r"rules length.*min 20\.0 -> 30\.0"):
        run(changed(RECIPE.replace("min = 20", "min = 30")), tmp_path / "store", crawl, locked=lock)
    make_crawl(tmp_path / "other", num_files=1, pages_per_file=4)
    with pytest.raises(LockError, match="'read' is not what the lock names: inputs"):
        run(recipe, tmp_path / "store", tmp_path / "other", locked=lock)


def test_deleted_outputs_are_made_again(crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    first = run(recipe, tmp_path, crawl)
    for path in (tmp_path / "tasks" / "cut").rglob("*.parquet"):
        path.unlink()
    shutil.rmtree(tmp_path / "artifacts" / "cut")
    again = run(recipe, tmp_path, crawl)
    assert ids(again) == ids(first)
    assert all(path.stat().st_size for path in Path(again.path("corpus")).parent.glob("*.parquet"))


def test_a_part_deleted_from_an_artifact_is_linked_again(crawl: Path, recipe: Recipe, tmp_path: Path) -> None:
    first = run(recipe, tmp_path, crawl)
    part = next(Path(first.path("corpus")).parent.glob("*.parquet"))
    part.unlink()
    assert ids(run(recipe, tmp_path, crawl)) == ids(first)
    assert part.is_file()


def test_a_step_that_lacks_its_signal_is_named(crawl: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"fineweb@c4.*add 'fineweb' to a measure step with view = .c4."):
        run(changed(RECIPE.replace("gopher_quality.num_words", "fineweb@c4.num_lines")), tmp_path, crawl)


def test_a_source_without_files_is_named(recipe: Recipe, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(InputError, match="give --source web=GLOB"):
        build(recipe, store, make_engine(1))
    with pytest.raises(InputError, match="no such source"):
        build(recipe, store, make_engine(1), BuildOptions({"wbe": "*"}))


def test_every_row_has_its_origin_and_can_be_read_again(built: Built, crawl: Path) -> None:
    from hashlib import sha256

    for path in Path(built.path("corpus")).parent.glob("*.parquet"):
        assert pq.read_schema(path).metadata[b"headrace.task"]
        for row in pq.read_table(path, columns=["origin", "metadata"]).to_pylist():
            json.loads(row["metadata"])
            origin = row["origin"]
            with Path(origin["uri"].removeprefix("file://")).open("rb") as file:
                file.seek(origin["offset"])
                data = file.read(origin["length"])
            assert sha256(data).hexdigest() == origin["digest"]
            assert gzip.decompress(data).startswith(b"WARC/1.")


def test_manifests_can_be_read_back(built: Built) -> None:
    for path in built.store.manifests():
        manifest = Manifest.load(path)
        assert path.read_bytes() == manifest.render()
