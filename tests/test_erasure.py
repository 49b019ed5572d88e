"""What is taken down for good is nowhere in the store, and everything else is as it would have been without it."""

import contextlib
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from headrace.pipeline import build as pipeline_build
from headrace.pipeline import erasure, removal, rewriting
from headrace.pipeline import store as pipeline_store
from headrace.pipeline.build import Built
from headrace.pipeline.building import building, working
from headrace.pipeline.building import rewriting as rewriting_alone
from headrace.pipeline.erasures import erased_places
from headrace.pipeline.removal import Removal, Removed
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import in_force, suppress, withdraw
from headrace.pipeline.verify import verify
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
from tests.commands import build_words, headrace, large_crawl, small_crawl, start
from tests.making import RECIPE, article, page, write_recipe, write_warc


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
    suppress(other, "doc_id", row["doc_id"], "asked")
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


def test_what_was_released_after_review_is_held_again_for_another(folder: Path) -> None:
    base = article(4000)
    copies = [(f"https://near.example/{n}", page("N", f"{base}\n\nSentence {n} stands at the end.")) for n in range(4)]
    write_warc(folder / "crawl" / "near.warc", copies)
    built, store = build(folder), Store.look(folder / "store")
    for number_left in (3, 2):
        (survivor,) = [row["doc_id"] for row in rows(built["manifest"]) if "//near.example" in row["url"]]
        done = rewrite(folder, built["manifest"], "--doc", survivor)
        held = {one["doc_id"] for one in done["held"]}
        assert len(held) == number_left
        assert not [row for row in rows(done["manifest"]) if "//near.example" in row["url"]]
        for one in in_force(store):
            if one.value in held:
                withdraw(store, one.name, "reviewed")
        built = build(folder)


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


class KilledError(BaseException):
    """What ends a command as a kill does: nothing catches it."""


def die(*args: Any, **options: Any) -> Any:
    raise KilledError


def killed(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, run: Callable[[], Any], put: Any = die) -> None:
    """Run something that is killed where it calls a function, or in what is `put` in its place."""
    with monkeypatch.context() as patch:
        patch.setattr(target, name, put)
        with pytest.raises(KilledError):
            run()


@pytest.mark.parametrize("stop_at", ["add_erasures", "build", "remove_what_held", "rmtree", "unlink"])
def test_a_takedown_that_is_killed_is_finished_by_the_same_command(
    folder: Path, gone: Any, stop_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, row, tokens = gone
    store = folder / "store"
    with monkeypatch.context() as patch:
        if stop_at == "rmtree":
            calls = iter(range(100))
            whole = removal.shutil.rmtree
            patch.setattr(removal.shutil, "rmtree", lambda path: whole(path) if next(calls) < 3 else die())
        elif stop_at == "unlink":
            patch.setattr(erasure, "begin_removal", die)
        else:
            patch.setattr(rewriting, stop_at, die)
        with pytest.raises(KilledError):
            rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert traces(store, needles(row, tokens)) == set()
    report = verify(store)
    assert report.ok, report.findings
    manifest = done.get("manifest") or build(folder)["manifest"]
    assert row["doc_id"] not in {one["doc_id"] for one in rows(manifest)}


def second_recipe(folder: Path, name: str, *changes: tuple[str, str]) -> list[Any]:
    """Write the small recipe with another name and other lines; return the words that build it."""
    text = RECIPE.replace('name = "small"', f'name = "{name}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).mkdir()
    recipe = write_recipe(folder / name, text)
    source = f"web={folder}/crawl/*.warc*"
    return ["build", recipe, "--store", folder / "store", "--source", source, "--workers", "1", "--json"]


def test_a_second_takedown_leaves_as_little_as_the_first(tmp_path: Path) -> None:
    """Tasks that the first one kept name inputs that it removed."""
    folder = large_crawl(tmp_path, num_files=3, num_pages=250)
    built = build(folder)
    tokens = {one["doc_id"]: one["tokens"] for one in rows(built["tokens_manifest"])}
    documents = sorted(rows(built["manifest"]), key=lambda row: row["origin"]["uri"])
    manifest = built["manifest"]
    for row in (documents[0], documents[-1]):
        done = rewrite(folder, manifest, "--doc", row["doc_id"])
        assert traces(folder / "store", needles(row, tokens[row["doc_id"]])) == set()
        report = verify(folder / "store")
        assert report.ok, report.findings
        assert not Path(manifest).exists()
        manifest = done["manifest"]


@pytest.mark.parametrize("where", ["publish", "commit"])
def test_what_killed_builds_left_goes_too(folder: Path, gone: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built, _, _ = gone
    words = [*build_words(folder), "--sample", "0.9"]
    if where == "commit":
        killed(monkeypatch, Store, "commit", lambda: headrace(*words))
    else:
        put = pipeline_store.put_if_absent
        some = lambda path, data: die() if path.name == "manifest.json" else put(path, data)  # noqa: E731
        killed(monkeypatch, pipeline_store, "put_if_absent", lambda: headrace(*words), some)
    row = next(one for one in built["documents"] if int(one["doc_id"][:8], 16) < 0.9 * (1 << 32))
    text = {"text": needles(row, b"")["text"]}
    assert len(traces(folder / "store", text)) > 2
    (folder / "store" / "artifacts" / ".part-0123456789abcdef").write_bytes(text["text"])
    rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert traces(folder / "store", text) == set()
    assert not verify(folder / "store").stray


@pytest.mark.parametrize("at", ["record", "end"])
def test_a_repeat_after_a_late_kill_tells_what_was_done(
    folder: Path, gone: Any, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, row, _ = gone
    strict = headrace(*second_recipe(folder, "strict", ("min = 20", "min = 30")))
    assert strict.status == 0, strict.err

    def run() -> Any:
        return rewrite(folder, built["manifest"], "--doc", row["doc_id"])

    if at == "record":
        unlink = Path.unlink

        def some(path: Path, missing_ok: bool = False) -> None:
            die() if path.name == removal.RECORD else unlink(path, missing_ok)

        killed(monkeypatch, Path, "unlink", run, some)
    else:
        killed(monkeypatch, Built, "path", run)
    for done in (run(), run()):
        assert (done["erased"], done["build_again"]) == ([row["doc_id"]], ["strict"])
        assert done["removed_files"] > 10
        assert Path(done["manifest"]).exists()
    assert verify(folder / "store").ok


def test_another_takedown_is_not_swallowed_by_one_that_was_cut_short(
    folder: Path, gone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, row, _ = gone
    other = built["documents"][9]
    run = lambda row: rewrite(folder, built["manifest"], "--doc", row["doc_id"])  # noqa: E731
    killed(monkeypatch, removal.shutil, "rmtree", lambda: run(row))
    done = run(other)
    assert done["erased"] == [other["doc_id"]]
    for one in (row, other):
        assert traces(folder / "store", needles(one, b"no tokens")) == set()
    assert {row["doc_id"], other["doc_id"]} <= {one.value for one in in_force(Store.look(folder / "store"))}
    assert verify(folder / "store").ok


def test_a_corpus_that_never_was_is_an_error(folder: Path, gone: Any) -> None:
    nowhere = folder / "store" / "artifacts" / "cut" / "0" / "manifest.json"
    assert "there is no such file" in rewrite(folder, str(nowhere), "--doc", gone[1]["doc_id"], status=1)


def test_what_resembles_it_stays_held_where_it_was_hidden_first(folder: Path, gone: Any) -> None:
    built, _, _ = gone
    near = next(one for one in built["documents"] if (one["cluster_size"] or 0) > 1)["doc_id"]
    hidden = headrace("takedown", built["manifest"], "--doc", near, "--reason", "asked", "--json").json
    held = {one["doc_id"] for one in hidden["held"]}
    assert held
    done = rewrite(folder, build(folder)["manifest"], "--doc", near)
    assert {one["doc_id"] for one in done["held"]} == held
    assert not held & {one["doc_id"] for one in rows(done["manifest"])}


def test_what_resembles_it_is_held_for_all_recipes(folder: Path, gone: Any) -> None:
    """The corpus that is named was made without a look for duplicates; another recipe's was not."""
    built, _, _ = gone
    near = next(one for one in built["documents"] if (one["cluster_size"] or 0) > 1)["doc_id"]
    words = second_recipe(
        folder, "nodedup", ('[[steps]]\nkind = "minhash"\nsignal = "minhash@c4"\nverify = "none"\n', "")
    )
    all_kept = headrace(*words).json
    done = headrace(
        "takedown", all_kept["manifest"], "--doc", near, "--reason", "asked", "--rewrite", *words[1:2], *words[4:]
    )
    held = {one["doc_id"] for one in done.json["held"]}
    assert held
    assert done.json["build_again"] == ["small"]
    assert not held & {one["doc_id"] for one in rows(build(folder)["manifest"])}


def test_who_survived_it_is_held_as_a_build_would(folder: Path, gone: Any) -> None:
    built, _, _ = gone
    survivor = next(one for one in built["documents"] if (one["cluster_size"] or 0) > 1)
    found = sorted((folder / "store").glob("artifacts/duplicates/*/findings-*.parquet"))
    findings = [row for path in found for row in pq.read_table(path).to_pylist()]
    (other,) = [one["doc_id"] for one in findings if one["survivor"] == survivor["doc_id"]]
    done = rewrite(folder, built["manifest"], "--doc", other)
    assert [one["doc_id"] for one in done["held"]] == [survivor["doc_id"]]


def test_what_an_earlier_corpus_has_of_it_is_held(folder: Path, gone: Any) -> None:
    """With all that was left out for that, as if it were a cluster of one corpus."""
    built, row, _ = gone
    assert headrace("index", built["manifest"], "--name", "old").status == 0
    words = second_recipe(folder, "against", ('verify = "none"', 'verify = "none"\nagainst = ["old"]'))
    words[words.index("--source") + 1] = source = f"web={folder}/new/*.warc"
    text = "\n\n".join(row["text"].split("\n"))
    copies = [(f"https://near.example/{n}", page("N", f"{text}\n\nSentence {n} stands here.")) for n in range(2)]
    others = [(f"https://new.example/{n}", page("N", article(9000 + n))) for n in range(8)]
    write_warc(folder / "new" / "one.warc", [*copies, *others])
    there = headrace(*words).json["manifest"]
    assert {one["url"] for one in rows(there)} == {url for url, _ in others}
    near = {one["url"]: one["doc_id"] for one in read(folder) if "//near." in one["url"]}
    named = ["takedown", there, "--url", "https://near.example/0", "--reason", "asked", "--rewrite", words[1]]
    done = headrace(*named, "--source", source, "--workers", "1", "--json")
    assert done.status == 0, done.err
    assert done.json["erased"] == [near["https://near.example/0"]]
    held = {one["doc_id"] for one in done.json["held"]}
    assert held == {row["doc_id"], near["https://near.example/1"]}
    assert row["doc_id"] not in {one["doc_id"] for one in rows(build(folder)["manifest"])}


def read(folder: Path) -> list[Any]:
    """Return all documents that were read into a store."""
    found = sorted((folder / "store").glob("artifacts/read/*/documents-*.parquet"))
    return [row for path in found for row in pq.read_table(path).to_pylist()]


def test_an_index_that_holds_it_goes_and_is_told(folder: Path, gone: Any) -> None:
    built, row, _ = gone
    store = folder / "store"
    assert headrace("index", built["manifest"], "--name", "old").status == 0
    words = second_recipe(folder, "against", ('verify = "none"', 'verify = "none"\nagainst = ["old"]'))
    compared = headrace(*words).json
    before = sorted(store.rglob("*"))
    named = ["takedown", compared["manifest"], "--doc", row["doc_id"], "--reason", "asked"]
    refused = headrace(*named, "--rewrite", words[1], *words[4:])
    assert refused.status == 1
    assert "the index 'old'" in refused.err
    assert "`against`" in refused.err
    assert sorted(store.rglob("*")) == before
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert done["removed_names"] == ["index old"]
    assert done["build_again"] == ["against"]
    assert verify(store).ok
    assert headrace("index", done["manifest"], "--name", "old").status == 0
    again = headrace(*words)
    assert again.status == 0, again.err
    assert verify(store).ok
    assert rewrite(folder, done["manifest"], "--doc", row["doc_id"])["removed_files"] == 0


def train(folder: Path, name: str, positive: Path) -> Any:
    """Train a small classifier in the store, to tell texts from shouting."""
    for number in range(40):
        (folder / f"loud-{number}.txt").write_text("Buy now! CHEAP, click! " * 5 + str(number))
    ran = headrace(
        *("classifier", "train", "--positive", positive, "--negative", folder / "loud-*.txt", "--name", name),
        *("--store", folder / "store", "--normalize", "words", "--heldout", 0.2, "--epochs", 2),
        *("--dim", 4, "--buckets", 1000, "--json"),
    )
    assert ran.status == 0, ran.err
    return ran.json


@pytest.mark.parametrize("copied", [False, True])
def test_a_classifier_that_learnt_from_it_goes_and_is_told(folder: Path, copied: bool) -> None:
    """Also one that was trained on copies of the corpus' files; one that knows other texts stays."""
    store, word = folder / "store", "zyxqsecretname"
    secret = page("S", f"{article(7777)}\n\nHere lives {word} {word} {word} by the river, near to the water.")
    write_warc(folder / "crawl" / "secret.warc", [("https://secret.example/1", secret)])
    built = build(folder)
    corpus = Path(built["manifest"]).parent
    if copied:
        corpus = shutil.copytree(corpus, folder / "copied")
    quality = train(folder, "quality", corpus / "*.parquet")
    for number in range(40):
        (folder / f"calm-{number}.txt").write_text(article(8000 + number, 6))
    other = train(folder, "other", folder / "calm-*.txt")
    (doc_id,) = [row["doc_id"] for row in rows(built["manifest"]) if word in row["text"]]
    assert any("classifier" in path for path, _ in traces(store, {"word": word.encode()}))
    measured = 'signals = ["gopher_quality", { name = "classifier", options = { artifact = "quality" } }, "c4"]'
    words = second_recipe(folder, "judged", ('signals = ["gopher_quality", "c4"]', measured))
    judged = headrace(*words)
    assert judged.status == 0, judged.err
    before = sorted(store.rglob("*"))
    named = ["takedown", judged.json["manifest"], "--doc", doc_id, "--reason", "asked"]
    refused = headrace(*named, "--rewrite", words[1], *words[4:])
    assert refused.status == 1
    assert "the classifier 'quality'" in refused.err
    assert sorted(store.rglob("*")) == before
    done = rewrite(folder, built["manifest"], "--doc", doc_id)
    assert done["removed_names"] == ["classifier quality"]
    assert done["build_again"] == ["judged"]
    assert traces(store, {"word": word.encode()}) == set()
    assert not Path(quality["manifest"]).exists()
    assert Path(other["manifest"]).exists()
    report = verify(store)
    assert report.ok, report.findings


@pytest.mark.parametrize("lost", ["tasks", "artifacts/read", "read"])
def test_it_is_found_whatever_else_is_lost(folder: Path, gone: Any, lost: str) -> None:
    """Any file of a store may be deleted; what tells where a document lies may be among them."""
    built, row, tokens = gone
    store = folder / "store"
    for path in [store / "tasks" / lost, store / "artifacts" / lost] if lost == "read" else [store / lost]:
        shutil.rmtree(path)
    assert row["doc_id"] in rewrite(folder, built["manifest"], "--url", row["url"])["erased"]
    assert traces(store, needles(row, tokens)) == set()
    assert row["doc_id"] not in {one["doc_id"] for one in read(folder)}


def test_the_same_record_in_another_file_is_not_read_again(folder: Path, gone: Any) -> None:
    built, row, tokens = gone
    rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    for path in (folder / "crawl").glob("*.warc.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    again = build(folder)
    assert traces(folder / "store", needles(row, tokens)) == set()
    assert row["doc_id"] not in {one["doc_id"] for one in rows(again["manifest"])}
    assert len(erased_places(Store.look(folder / "store"))) == 2
    plan = headrace("plan", *build_words(folder)[1:-2])
    assert "everything is there" in plan.out
    assert verify(folder / "store").ok


def test_a_build_at_work_keeps_a_takedown_out(folder: Path, gone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has planned to read the document, and would go on to do so."""
    built, row, _ = gone
    refused = []

    def some(*args: Any, **options: Any) -> Any:
        refused.append(rewrite(folder, built["manifest"], "--doc", row["doc_id"], status=1))
        die()

    killed(monkeypatch, pipeline_build, "make", lambda: headrace(*build_words(folder), "--sample", "0.9"), some)
    assert "somebody builds in this store" in refused[0]
    assert Path(built["manifest"]).exists()
    assert not in_force(Store.look(folder / "store"))


def test_a_build_waits_for_a_takedown(folder: Path, gone: Any) -> None:
    store = Store.look(folder / "store")
    with rewriting_alone(store):
        waiting = start(*build_words(folder))
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(4)
    _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert "waiting for a takedown" in err


def test_a_process_that_was_forked_meanwhile_keeps_nobody_out(tmp_path: Path) -> None:
    """As a worker of a loader of data is; it has the locked files open, too."""
    store = Store.open(tmp_path / "store")
    with building(store), working(store):
        child = subprocess.Popen(["sleep", "60"], pass_fds=locked_by_us(store))
    try:
        with rewriting_alone(store):
            pass
    finally:
        child.kill()
        child.wait()


def locked_by_us(store: Store) -> list[int]:
    """Return the descriptors of a store's two locks in this process."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if link.readlink() in (store.record, store.root):
                found.append(int(link.name))
    assert len(found) == 2
    return found


def test_requests_of_its_page_are_erased_with_it(folder: Path) -> None:
    body = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
    head = b"WARC/1.0\r\nWARC-Type: request\r\nWARC-Target-URI: https://example.org/%d\r\n"
    head += b"WARC-Date: 2020-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-%012d>\r\n"
    head += b"Content-Type: application/http; msgtype=request\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
    requests = b"".join(head % (number, number, len(body), body) for number in range(20))
    (folder / "crawl" / "requests.warc").write_bytes(requests)
    built = build(folder)
    row = rows(built["manifest"])[7]
    url = {"url": row["url"].encode() + b'"'}
    assert traces(folder / "store", url)
    done = rewrite(folder, built["manifest"], "--doc", row["doc_id"])
    assert len(done["erased"]) == 2
    assert row["doc_id"] in done["erased"]
    assert traces(folder / "store", url) == set()


def test_another_capture_of_its_page_stays(folder: Path) -> None:
    """Of a sampled build the store has a record of it that is no document."""
    captures = [
        (f"https://twice.example/{n}", page(name, article(seed + n)))
        for name, seed in (("A", 5000), ("B", 6000))
        for n in range(6)
    ]
    write_warc(folder / "crawl" / "twice.warc", captures)
    assert headrace(*build_words(folder), "--sample", "0.5").status == 0
    built = build(folder)
    pairs: dict[str, list[str]] = {}
    for row in rows(built["manifest"]):
        pairs.setdefault(row["url"], []).append(row["doc_id"])
    two = (sorted(ids) for ids in pairs.values() if len(ids) == 2)
    named, other = next(ids for ids in two if int(ids[1][:8], 16) >= 0.5 * (1 << 32))
    done = rewrite(folder, built["manifest"], "--doc", named)
    assert done["erased"] == [named]
    assert other in {row["doc_id"] for row in rows(done["manifest"])}
    assert verify(folder / "store").ok


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_built_after_a_kill_stays(
    folder: Path, gone: Any, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that never kept the document has the tokens that it had."""
    built, _, _ = gone
    row = min(built["documents"], key=lambda row: len(row["text"].split()))
    limit = len(row["text"].split()) + 60
    words = second_recipe(folder, "strict", ("min = 20", f"min = {limit}"))
    first = headrace(*words).json
    assert row["doc_id"] not in {one["doc_id"] for one in rows(first["manifest"])}
    run = lambda: rewrite(folder, built["manifest"], "--doc", row["doc_id"])  # noqa: E731
    killed(monkeypatch, removal.shutil if begun else erasure, "rmtree" if begun else "begin_removal", run)
    again = headrace(*words)
    assert again.status == 0, again.err
    assert ("finishing the removal" in again.err) == begun
    assert again.json["tokens_manifest"] == first["tokens_manifest"]
    done = run()
    assert traces(folder / "store", needles(row, b"no tokens")) == set()
    assert done["build_again"] == []
    for name in ("manifest", "tokens_manifest", "lock"):
        assert Path(again.json[name]).exists()
    report = verify(folder / "store")
    assert report.ok, report.findings


@pytest.mark.parametrize("read", [True, False])
def test_a_table_that_holds_it_against_its_lineage_is_removed(folder: Path, gone: Any, read: bool) -> None:
    """What stays is looked through, whatever the records say that it was made from."""
    built, row, _ = gone
    doc_id = row["doc_id"] if read else "f" * 32
    apart = folder / "apart"
    apart.mkdir()
    write_warc(apart / "one.warc", [("https://example.net/1", page("One", article(999)))])
    words = [*build_words(folder), "--json"]
    words[words.index("--source") + 1] = f"web={apart}/*.warc"
    there = Path(headrace(*words).json["manifest"])
    part = there.with_name("corpus-00000.parquet")
    table = pq.read_table(part)
    table = table.set_column(0, table.schema.field(0), pa.array([doc_id] * table.num_rows))
    pq.write_table(table, there.with_name("aside"))
    there.with_name("aside").replace(part)
    build(folder)
    assert rewrite(folder, built["manifest"], "--doc", doc_id)["erased"] == [doc_id]
    assert not there.exists()
    assert Path(built["manifest"]).exists() != read


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


def test_a_record_of_a_removal_names_nothing_outside_of_the_store() -> None:
    done = Removed(named="0" * 64, erased=(), files=0, bytes=0, corpora=(), names=(), build_again=())
    for path in ("/etc/passwd", "tasks/../../x"):
        with pytest.raises(ValidationError, match="below the store"):
            Removal(paths=(path,), done=done)
