"""What is taken down for good is nowhere in the store, and everything else is as it would have been without it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.pipeline import erasure
from headrace.pipeline.erasures import erased_places
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import in_force
from headrace.pipeline.verify import verify
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
from tests.commands import build_words, headrace, large_crawl, small_crawl
from tests.making import RECIPE, write_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_crawl(tmp_path)


def build(folder: Path, store: str = "store") -> Any:
    ran = headrace(*build_words(folder, store), "--json")
    assert ran.status == 0, ran.err
    return ran.json


def rows(manifest: str) -> list[Any]:
    return [row for path in sorted(Path(manifest).parent.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def rewrite(folder: Path, manifest: str, *named: str, status: int = 0) -> Any:
    words = ["takedown", manifest, *named, "--reason", "asked", "--rewrite", folder / "small.toml"]
    ran = headrace(*words, "--source", f"web={folder}/crawl/*.warc*", "--workers", "1", "--json")
    assert ran.status == status, ran.err
    return ran.json if status == 0 else ran.err


def everything(store: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield each file with all that can be read from it: its bytes, and the values of its columns."""
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                column = table.column(name)
                if pa.types.is_binary(column.type):
                    yield path, b"|".join(value or b"" for value in column.to_pylist())
                else:
                    yield path, json.dumps(column.to_pylist(), default=repr, ensure_ascii=False).encode()


def traces(store: Path, needles: dict[str, bytes]) -> set[tuple[str, str]]:
    return {
        (path.relative_to(store).as_posix(), what)
        for path, data in everything(store)
        for what, needle in needles.items()
        if needle in data
    }


@pytest.fixture
def gone(folder: Path) -> Any:
    """A document of a built corpus: its row, and the tokens that were made of it."""
    built = build(folder)
    built["documents"] = rows(built["manifest"])
    row = built["documents"][7]
    tokens = {one["doc_id"]: one["tokens"] for one in rows(built["tokens_manifest"])}
    return built, row, tokens[row["doc_id"]]


def needles(row: Any, tokens: bytes) -> dict[str, bytes]:
    return {"url": row["url"].encode(), "text": row["text"].split("\n")[-1][:60].encode(), "tokens": tokens[:60]}


def test_nothing_of_it_is_left(folder: Path, gone: Any) -> None:
    built, row, tokens = gone
    store = folder / "store"
    found = traces(store, needles(row, tokens))
    assert {what for _, what in found} == {"url", "text", "tokens"}
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert done["erased"] == [row["doc_id"]]
    assert done["removed_files"] > 10
    assert done["removed_bytes"] > 10_000
    assert traces(store, needles(row, tokens)) == set()
    assert not Path(built["manifest"]).exists()
    report = verify(store)
    assert report.ok, report.findings
    assert not report.stray
    before, after = ([one["doc_id"] for one in found] for found in (built["documents"], rows(done["manifest"])))
    assert after == [doc_id for doc_id in before if doc_id != row["doc_id"]]


def test_it_is_what_a_store_that_never_had_it_holds(folder: Path, gone: Any) -> None:
    """Same texts and tokens as a build with the suppression in a new store."""
    built, row, _ = gone
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    other = Store.open(folder / "other")
    erasure.suppress(other, "doc_id", row["doc_id"], "asked")
    fresh = build(folder, "other")
    for name in ("manifest", "tokens_manifest"):
        assert Manifest.load(Path(done[name])).content == Manifest.load(Path(fresh[name])).content


def test_the_record_tells_that_it_was_erased_and_no_more(folder: Path, gone: Any) -> None:
    built, row, _ = gone
    rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    tables = [pq.read_table(path).to_pylist() for path in (folder / "store").glob("artifacts/read/*/records-*.parquet")]
    (record,) = [one for table in tables for one in table if one["doc_id"] == row["doc_id"]]
    assert (record["fate"], record["reason"], record["url"], record["evidence"]) == ("dropped", "erased", None, None)
    assert record["stored_bytes"] > 0
    (places,) = erased_places(Store.look(folder / "store")).values()
    assert places == [(row["origin"]["offset"], row["doc_id"])]


def test_later_builds_find_all_made_and_it_does_not_come_back(folder: Path, gone: Any) -> None:
    built, row, _ = gone
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    again = build(folder)
    assert again["manifest"] == done["manifest"]
    plan = headrace(
        "plan", folder / "small.toml", "--store", folder / "store", "--source", f"web={folder}/crawl/*.warc*"
    )
    assert "never made" not in plan.out
    assert rewrite(folder, again["manifest"], "--doc", row["doc_id"])["removed_files"] == 0


def test_only_the_tasks_that_read_it_run_again(tmp_path: Path) -> None:
    folder = large_crawl(tmp_path, num_files=3, num_pages=250)
    built = build(folder)
    measured = {path.parent.name for path in (folder / "store").glob("tasks/measure/*/*/commit.json")}
    done = rewrite(folder, built["manifest"], "--doc", rows(built["manifest"])[7]["doc_id"])
    after = {path.parent.name for path in (folder / "store").glob("tasks/measure/*/*/commit.json")}
    parts = len(Manifest.load(Path(done["manifest"])).parts)
    assert parts > 1
    assert len(after) == len(measured)
    assert len(after - measured) == len(measured) // parts
    assert verify(folder / "store").ok


def test_what_resembles_it_is_held_and_not_promoted(folder: Path, gone: Any) -> None:
    built, _, _ = gone
    dropped = headrace("clusters", built["manifest"], "--json")
    assert dropped.status == 0, dropped.err
    near = next(one for one in gone[0]["documents"] if (one["cluster_size"] or 0) > 1)
    done = rewrite(folder, built["manifest"], "--doc", near["doc_id"])
    held = {one["doc_id"] for one in done["held"]}
    assert held
    left = {one["doc_id"] for one in rows(done["manifest"])}
    assert not left & (held | {near["doc_id"]})
    assert held <= {one.value for one in in_force(Store.look(folder / "store"))}


def test_what_was_only_read_is_erased_too(folder: Path, gone: Any) -> None:
    """A document that no corpus has, because a rule or a duplicate left it out."""
    built, _, _ = gone
    kept = {one["doc_id"] for one in gone[0]["documents"]}
    store = folder / "store"
    tables = [pq.read_table(path).to_pylist() for path in store.glob("artifacts/read/*/documents-*.parquet")]
    row = next(one for table in tables for one in table if one["doc_id"] not in kept)
    done = rewrite(folder, built["manifest"], "--url", row["url"])
    assert row["doc_id"] in done["erased"]
    assert not {what for _, what in traces(store, {"text": row["text"][-60:].encode()})}
    assert verify(store).ok


def test_other_recipes_are_named_and_what_held_it_goes(folder: Path, gone: Any) -> None:
    built, row, tokens = gone
    store = folder / "store"
    other = folder / "other"
    other.mkdir()
    recipe = write_recipe(other, RECIPE.replace('name = "small"', 'name = "strict"').replace("min = 20", "min = 30"))
    words = ["build", recipe, "--store", store, "--source", f"web={folder}/crawl/*.warc*", "--workers", "1", "--json"]
    strict = headrace(*words).json
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert done["build_again"] == ["strict"] or strict["manifest"] == done["manifest"]
    assert traces(store, needles(row, tokens)) == set()
    assert verify(store).ok
    assert row["doc_id"] not in {one["doc_id"] for one in rows(headrace(*words).json["manifest"])}


def test_an_unrelated_corpus_stays(folder: Path, gone: Any) -> None:
    built, _, _ = gone
    apart = folder / "apart"
    apart.mkdir()
    crawl = next((folder / "crawl").glob("*.warc*"))
    lone = apart / "one.warc.gz"
    lone.write_bytes(crawl.read_bytes())
    built_there = headrace(
        *[
            "build",
            folder / "small.toml",
            "--store",
            folder / "store",
            "--source",
            f"web={lone}",
            "--workers",
            "1",
            "--json",
        ]
    ).json
    mine = {one["doc_id"] for one in rows(built_there["manifest"])}
    build(folder)
    others = [one for one in gone[0]["documents"] if one["doc_id"] not in mine]
    rewrite(folder, built["manifest"], "--doc", others[0]["doc_id"])
    assert Path(built_there["manifest"]).exists()
    assert Path(built_there["tokens_manifest"]).exists()
    assert verify(folder / "store").ok


@pytest.mark.parametrize("stop_at", ["record_erasures", "build", "remove_what_held", "rmtree", "unlink"])
def test_a_takedown_that_is_killed_is_finished_by_the_same_command(
    folder: Path, gone: Any, stop_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, row, tokens = gone
    store = folder / "store"

    class KilledError(BaseException):
        pass

    def die(*args: Any, **options: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        if stop_at == "build":
            patch.setattr("headrace.pipeline.build.build", die)
        elif stop_at == "rmtree":
            calls = iter(range(100))
            whole = erasure.shutil.rmtree
            patch.setattr(erasure.shutil, "rmtree", lambda path: whole(path) if next(calls) < 3 else die())
        elif stop_at == "unlink":
            patch.setattr(erasure, "finish_removal", lambda store: die())
        else:
            patch.setattr(erasure, stop_at, die)
        with pytest.raises(KilledError):
            rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert traces(store, needles(row, tokens)) == set()
    report = verify(store)
    assert report.ok, report.findings
    manifest = done.get("manifest") or build(folder)["manifest"]
    assert row["doc_id"] not in {one["doc_id"] for one in rows(manifest)}


def test_the_new_tokens_are_streamed(folder: Path, gone: Any) -> None:
    built, row, _ = gone
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    corpora = [{"tokens": done["tokens_manifest"]}]
    data = DataConfig.model_validate(
        {"corpora": corpora, "sequence_length": 32, "global_batch": 4, "columns": ["doc_id"]}
    )
    stream = open_stream(data, 0)
    assert not stream.corpora[0].hidden
    served = {doc_id for step in range(200) for one in stream.batch(step).columns["doc_id"] for doc_id in one}
    assert served
    assert row["doc_id"] not in served


def test_a_recipe_that_cannot_be_built_leaves_all_as_it_was(folder: Path, gone: Any) -> None:
    built, row, tokens = gone
    store = folder / "store"
    words = ["takedown", built["manifest"], "--doc", row["doc_id"], "--reason", "asked", "--rewrite"]
    assert headrace(*words, folder / "none.toml").status != 0
    assert not in_force(Store.look(store))
    assert headrace(*words, folder / "small.toml", "--source", f"web={folder}/none/*").status != 0
    assert Path(built["manifest"]).exists()
    assert traces(store, {"tokens": tokens[:60]})
    assert verify(store).ok
