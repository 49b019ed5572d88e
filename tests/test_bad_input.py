"""Bad input: a message that names file, key and remedy, a status that is not 0, and what was finished is used again."""

import errno
import gzip
import os
import re
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest

from headrace.commands.build import damage_warnings
from headrace.console import KEPT
from headrace.pipeline.schema import SCHEMA_VERSION, StoreRecord
from tests.commands import Ran, build_words, headrace, large_crawl, small_crawl, spawn, start


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_crawl(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_crawl(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def content(large: Path) -> str:
    """The content id of the large crawl's corpus, built without any trouble."""
    found: str = headrace(*build_words(large, "calm"), "--json").json["content"]
    return found


def build_from(small: Path, glob: object, store: Path) -> Ran:
    words = ["build", small / "small.toml", "--store", store, "--source", f"web={glob}", "--workers", 1]
    plain, as_json = headrace(*words), headrace(*words, "--json")
    assert plain.status == as_json.status
    assert ("error" in as_json.json) == bool(plain.status)
    return plain if plain.status else as_json


def assert_refused(ran: Ran, *words: object) -> None:
    assert ran.status == 1
    assert ran.out == ""
    assert "Traceback" not in ran.err
    error = ran.err[ran.err.index("error: ") :]
    for word in words:
        assert str(word) in error


# ------------------------------------------------------------------------------------------------------------- files


def test_missing_input(small: Path, tmp_path: Path) -> None:
    ran = build_from(small, tmp_path / "none" / "*.warc.gz", tmp_path / "store")
    assert_refused(ran, "source 'web'", tmp_path / "none", "check the path")


def test_no_files_named(small: Path, tmp_path: Path) -> None:
    assert_refused(headrace("build", small / "small.toml", "--store", tmp_path / "store"), "--source web=GLOB")


def test_unknown_source(small: Path, tmp_path: Path) -> None:
    words = ["build", small / "small.toml", "--store", tmp_path / "store", "--source", "wbe=x"]
    assert_refused(headrace(*words), "--source wbe", "web")


def test_a_folder_as_input(small: Path, tmp_path: Path) -> None:
    assert_refused(build_from(small, small / "crawl", tmp_path / "store"), small / "crawl", "is a folder", "**")


@pytest.mark.parametrize("data", [b"", b"not a web archive\n" * 50, b"\x1f\x8b" + b"not gzip" * 50])
def test_input_in_which_there_is_nothing(small: Path, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "input.warc.gz"
    path.write_bytes(data)
    assert_refused(build_from(small, path, tmp_path / "store"), path)


def test_truncated_gzip_keeps_what_is_whole_and_names_the_rest(small: Path, tmp_path: Path) -> None:
    whole = (small / "crawl" / "crawl-00.warc.gz").read_bytes()
    path = tmp_path / "cut.warc.gz"
    path.write_bytes(whole[:-300])
    ran = build_from(small, path, tmp_path / "store")
    assert ran.json["rows"] == 20
    (place,) = ran.json["damaged"]
    assert (place["uri"], place["end"], place["reason"]) == (path.as_uri(), len(whole) - 300, "truncated")
    assert f"{path.as_uri()}: bytes [{place['start']}, {place['end']}): truncated" in ran.err


def test_a_gzip_member_cut_in_its_middle(small: Path, tmp_path: Path) -> None:
    whole = (small / "crawl" / "crawl-00.warc.gz").read_bytes()
    path = tmp_path / "hole.warc.gz"
    path.write_bytes(whole[:5000] + whole[5400:])
    ran = build_from(small, path, tmp_path / "store")
    assert 15 < ran.json["rows"] < 21
    assert ran.json["damaged"]
    assert path.name in ran.err


def test_padding_is_no_damage(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "padded.warc.gz"
    path.write_bytes((small / "crawl" / "crawl-00.warc.gz").read_bytes() + bytes(512))
    ran = build_from(small, path, tmp_path / "store")
    assert (ran.json["gaps"], ran.json["damaged"]) == ({"padding": 512}, [])
    assert "warning" not in ran.err


def test_damage_inside_a_shared_stream_is_named_by_what_it_inflates_to(small: Path, tmp_path: Path) -> None:
    data = gzip.decompress((small / "crawl" / "crawl-00.warc.gz").read_bytes())
    place = [match.start() for match in re.finditer(rb"Content-Length: ", data)][3]
    path = tmp_path / "shared.warc.gz"
    path.write_bytes(gzip.compress(data[:place] + re.sub(rb"\d+", b"99", data[place:], count=1)))
    ran = build_from(small, path, tmp_path / "store")
    (item,) = ran.json["damaged"]
    (inner,) = item["inner"]
    assert (item["start"], item["end"]) == (0, path.stat().st_size)
    assert f"bytes [0, {item['end']}), inflated [{inner['start']}, {inner['end']}): bad_length" in ran.err


def test_damage_beyond_what_is_shown_is_counted() -> None:
    place = {"uri": "file:///x", "start": 0, "end": 1, "inner": None, "reason": "garbage"}
    assert len(list(damage_warnings([place] * 10))) == 10
    assert list(damage_warnings([place] * 1234))[10:] == ["1,224 more damaged places; --json lists all of them"]


def test_wrong_lengths(small: Path, tmp_path: Path) -> None:
    data = gzip.decompress((small / "crawl" / "crawl-00.warc.gz").read_bytes())
    place = [match.start() for match in re.finditer(rb"Content-Length: ", data)][3]
    path = tmp_path / "lengths.warc"
    path.write_bytes(data[:place] + re.sub(rb"\d+", b"99", data[place:], count=1))
    ran = build_from(small, path, tmp_path / "store")
    assert ran.json["rows"] == 19
    assert [item["reason"] for item in ran.json["damaged"]] == ["bad_length"]
    assert path.as_uri() in ran.err


def test_an_unreadable_file_is_named(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.warc.gz"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert_refused(build_from(small, path, tmp_path / "store"), path, "permission denied")


# ------------------------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("extractor =", "extractr =", ["sources.0.extractr", "did you mean 'extractor'"]),
        ('kind = "cut"', 'kind = "cutt"', ["steps"]),
        ("min = 20", 'min = "twenty"', ["min", "twenty"]),
        ("min = 20", "minn = 20", ["minn", "did you mean 'min'"]),
        ("gopher_quality.num_words", "gopher_quality.num_wrds", ["num_wrds", "did you mean"]),
        ("vocab_size = 400", "vocab_size = 3.5", ["vocab_size", "3.5"]),
        ("[[steps]]", "[[steps", ["not TOML"]),
        ('extractor = "resiliparse"', 'extractor = "resiliparze"', ["resiliparze", "did you mean 'resiliparse'"]),
        ("task_mebibytes = 1", "task_mebibytes = 0", ["task_mebibytes"]),
    ],
)
def test_a_recipe_that_cannot_be(small: Path, tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    text = (small / "small.toml").read_text()
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1))
    glob = f"web={small}/crawl/*.warc.gz"
    ran = headrace("build", path, "--store", tmp_path / "store", "--source", glob, "--workers", 1)
    assert_refused(ran, *words)


def test_a_folder_as_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(headrace("plan", tmp_path, "--store", tmp_path / "store"), tmp_path, "is a folder")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # what the demo leaves does not hide the recipe of that name
    assert_refused(headrace("plan", "demo", "--store", tmp_path / "store"), "source 'docs'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("gopher_quality.num_words.min=many", ["min", "many"]),
        ("gopher_quality.num_words.least=3", ["least"]),
        ("num_words=3", ["COLUMN.KEY=VALUE"]),
    ],
)
def test_a_change_that_cannot_be(small: Path, tmp_path: Path, change: str, words: list[str]) -> None:
    ran = headrace("plan", small / "small.toml", "--store", tmp_path / "store", "--set", change)
    assert_refused(ran, *words)


# ------------------------------------------------------------------------------------------------------------- stores


def test_a_store_of_a_newer_schema(small: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    headrace(*build_words(small, str(store)), "--json")
    record = store / "store.json"
    record.write_bytes(StoreRecord(schema_version=SCHEMA_VERSION + 1).render())
    refused = build_from(small, f"{small}/crawl/*.warc.gz", store)
    newer = f"schema {SCHEMA_VERSION + 1}"
    assert_refused(refused, record, newer, "update headrace")
    for words in (["verify", store], ["why", "x", "--store", store], ["plan", small / "small.toml", "--store", store]):
        assert_refused(headrace(*words), record, newer)


def test_a_folder_that_is_no_store(small: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear reader")
    assert_refused(build_from(small, f"{small}/crawl/*.warc.gz", tmp_path), tmp_path, "is not a store")
    file = tmp_path / "letters.txt" / "store"
    assert_refused(build_from(small, f"{small}/crawl/*.warc.gz", file), "letters.txt")


def test_a_lock_that_was_edited(small: Path, tmp_path: Path) -> None:
    lock = Path(headrace(*build_words(small, "edited"), "--json").json["lock"])
    lock.write_text(lock.read_text().replace("rows = ", "rows = 1"))
    assert_refused(headrace(*build_words(small, "edited"), "--locked"), lock, "was changed")
    assert_refused(headrace(*build_words(small, "edited"), "--lock", tmp_path / "none.toml"), tmp_path / "none.toml")


# ----------------------------------------------------------------------------------------- full disks and interrupts


def finished_tasks(store: Path) -> int:
    return len(list(store.glob("tasks/*/*/*/commit.json")))


def assert_goes_on(large: Path, store: str, content: str) -> None:
    """Build again: what was finished is used, and the corpus is the one of a calm build."""
    num_before = finished_tasks(large / store)
    assert num_before
    plan = headrace("plan", *build_words(large, store)[1:-2], "--json").json
    assert sum(step["cached"] for step in plan["steps"]) >= num_before
    ran = headrace(*build_words(large, store), "--json")
    assert ran.status == 0
    assert ran.json["content"] == content
    assert headrace("verify", large / store, "--json").json["ok"]


def test_a_full_disk(large: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    num_calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls > 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        assert_refused(headrace(*build_words(large, "full")), large / "full", "the disk is full", "same command")
    assert_goes_on(large, "full", content)


def test_a_limit_on_the_size_of_files(large: Path, content: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    ran = spawn(*build_words(large, "limited"), limit=limit)
    assert_refused(ran, large / "limited", "ulimit -f")
    assert "ulimit -f" in spawn(*build_words(large, "limited"), "--json", limit=limit).json["error"]
    assert headrace(*build_words(large, "limited"), "--json").json["content"] == content


@pytest.mark.parametrize("num_workers", [1, 2])
def test_ctrl_c_during_a_build(large: Path, content: str, num_workers: int) -> None:
    store = f"interrupted-{num_workers}"
    with start(*build_words(large, store)[:-1], num_workers) as process:
        deadline = time.monotonic() + 60
        while finished_tasks(large / store) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith(f"error: {KEPT}\n")
    assert "Traceback" not in err
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert_goes_on(large, store, content)
