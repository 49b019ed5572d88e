"""Law 4: whole or not at all, whoever writes, however many at once, and whatever the disk says."""

import errno
import json
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from headrace.pipeline import store as store_module
from headrace.pipeline.errors import IntegrityError, StoreError
from headrace.pipeline.hashing import digest_bytes, digest_json
from headrace.pipeline.schema import (
    SCHEMA_VERSION,
    Commit,
    Ledger,
    Manifest,
    Part,
    RawInput,
    StoreRecord,
    Tally,
    Task,
    TaskInput,
    artifact_key,
)
from headrace.pipeline.store import COMMIT, Store, link, put_if_absent, replace, writing
from headrace.pipeline.tables import write_table

NUM_WRITERS = 8


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def task(name: str = "x", **config: Any) -> Task:
    raw = TaskInput(role="raw", content="a" * 64, path=f"/somewhere/{name}", size=3)
    return Task(stage="copy", version=1, config=config, resources={}, inputs=(raw,))


def made(store: Store, of: Task, seconds: float = 0.0) -> Commit:
    """Write a table for a task and return the commit that would name it."""
    batch = pa.RecordBatch.from_pydict({"doc_id": ["a", "b"]})
    file = write_table(store.new_file(of, "rows"), batch.schema, [batch], {})
    tally = Tally(records=2, bytes=2)
    return Commit(
        task=of, files={"rows": file}, ledger=Ledger(input=tally, kept=tally), provenance={"seconds": seconds}
    )


@pytest.mark.parametrize("name", ["../rows-0.x", "/tmp/rows-0.x", "a/rows-0.x", "..", ".rows-0.x", "a\\rows", ""])
def test_a_record_that_names_a_file_elsewhere_is_refused(store: Store, name: str) -> None:
    commit = made(store, task())
    files = {"rows": commit.files["rows"].model_copy(update={"name": name})}
    data = Commit(**{**dict(commit), "files": files, "digest": ""}).render()
    with pytest.raises(IntegrityError, match=r"commit.json: the record is damaged at files.rows.name"):
        Commit.parse(data, "commit.json")


def test_a_record_without_the_footer_of_a_file_is_read_as_it_was_written(store: Store) -> None:
    commit = made(store, task())
    files = {"rows": commit.files["rows"].model_copy(update={"footer": None})}
    data = Commit(**{**dict(commit), "files": files, "digest": ""}).render()
    assert b"footer" not in data
    assert Commit.parse(data, "commit.json").render() == data
    assert b"footer" in commit.render()
    assert Commit.parse(commit.render(), "commit.json") == commit


# ------------------------------------------------------------------------------------------------- put if absent


def test_one_of_many_threads_wins(tmp_path: Path) -> None:
    barrier = threading.Barrier(NUM_WRITERS)

    def put(number: int) -> bool:
        barrier.wait()
        return put_if_absent(tmp_path / "record", f"{number}".encode() * 1000)

    for _ in range(20):
        (tmp_path / "record").unlink(missing_ok=True)
        with ThreadPoolExecutor(NUM_WRITERS) as pool:
            won = list(pool.map(put, range(NUM_WRITERS)))
        assert sum(won) == 1
        assert (tmp_path / "record").read_bytes() == f"{won.index(True)}".encode() * 1000
        assert [path.name for path in tmp_path.iterdir()] == ["record"]


def _put(path: Path, number: int, start: float) -> bool:
    import time

    time.sleep(max(0.0, start - time.time()))
    return put_if_absent(path, f"{number}".encode() * 1000)


def test_one_of_many_processes_wins(tmp_path: Path) -> None:
    import time

    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_put, [tmp_path / "warm"] * 4, range(4), [0.0] * 4))
        start = time.time() + 0.3
        won = list(pool.map(_put, [tmp_path / "record"] * 4, range(4), [start] * 4))
    assert sum(won) == 1
    assert (tmp_path / "record").read_bytes() == f"{won.index(True)}".encode() * 1000


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", fail)
    for write in (put_if_absent, replace):
        with pytest.raises(OSError, match="No space"):
            write(tmp_path / "record", b"x")
    assert list(tmp_path.iterdir()) == []


def test_replace_is_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for data in (b"one", b"two"):
        replace(path, data)
        assert path.read_bytes() == data
    assert [item.name for item in tmp_path.iterdir()] == ["record"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full.*what is finished is kept"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.ENOTDIR, "a file is where a folder should be"),
    ],
)
def test_what_a_disk_refuses_is_said_with_a_remedy(number: int, remedy: str) -> None:
    with pytest.raises(StoreError, match=f"/a/b: {remedy}"), writing(Path("/a/b")):
        raise OSError(number, "text of the system")


def test_other_failures_of_a_disk_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="Input/output"), writing(Path("/a/b")):
        raise OSError(errno.EIO, "Input/output error")


def test_a_link_or_where_there_are_none_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    link(source, tmp_path / "linked")
    assert (tmp_path / "linked").samefile(source)

    def refuse(*paths: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(store_module.os, "link", refuse)
    link(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"data"
    assert not (tmp_path / "copied").samefile(source)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "linked", "copied"}


# --------------------------------------------------------------------------------------------------------- tasks


def test_the_first_commit_wins_and_the_other_leaves_nothing(store: Store) -> None:
    first, second = made(store, task(), 1.0), made(store, task(), 2.0)
    assert store.commit(first) == first
    assert store.commit(second) == first
    folder = store.task_folder(task())
    assert {path.name for path in folder.iterdir()} == {COMMIT, first.files["rows"].name}
    assert store.find_commit(task()) == first


def test_many_workers_on_one_task_agree(store: Store) -> None:
    commits = [made(store, task(), float(number)) for number in range(NUM_WRITERS)]
    with ThreadPoolExecutor(NUM_WRITERS) as pool:
        standing = list(pool.map(store.commit, commits))
    assert len({commit.digest for commit in standing}) == 1
    assert len(list(store.task_folder(task()).iterdir())) == 2
    assert store.find_commit(task()) == standing[0]


def test_a_task_without_commit_is_not_done(store: Store) -> None:
    made(store, task())
    assert store.find_commit(task()) is None


@pytest.mark.parametrize("cut", [True, False])
def test_a_commit_whose_files_are_gone_is_withdrawn(store: Store, cut: bool, caplog: pytest.LogCaptureFixture) -> None:
    commit = store.commit(made(store, task()))
    path = store.task_folder(task()) / commit.files["rows"].name
    if cut:
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    assert store.find_commit(task()) is None
    assert "missing or cut short" in caplog.text
    assert store.commit(again := made(store, task())) == again


def test_a_key_is_what_determines_rows_and_not_where_they_lie() -> None:
    assert task("here", a=1).key == task("there", a=1).key
    different = {
        task(a=1).key,
        task(a=2).key,
        task().key,
        task().model_copy(update={"version": 2}).key,
        task().model_copy(update={"stage": "other"}).key,
        task().model_copy(update={"resources": {"lib": "1"}}).key,
        task().model_copy(update={"inputs": ()}).key,
    }
    assert len(different) == 7


# ------------------------------------------------------------------------------------------------------- artifacts


def manifest_of(commit: Commit) -> Manifest:
    file = commit.files["rows"].model_copy(update={"name": "rows-00000.parquet"})
    part = Part(task=commit.key, inputs=commit.task.inputs, files={"rows": file})
    return Manifest(
        stage="copy",
        name="copy",
        table="rows",
        key=artifact_key([commit.key]),
        content=file.content,
        contents={"rows": file.content},
        rows=2,
        config={},
        resources={},
        inputs=(),
        parts=(part,),
        ledger=commit.ledger,
    )


def test_a_manifest_is_written_last_and_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = store.commit(made(store, task()))
    manifest = manifest_of(commit)

    def fail(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "link", fail)
        with pytest.raises(KeyboardInterrupt):
            store.publish(manifest, [commit])
    assert store.find_manifest("copy", manifest.key) is None
    path = store.publish(manifest, [commit])
    assert store.find_manifest("copy", manifest.key) == path
    assert store.publish(manifest.model_copy(update={"name": "other", "digest": ""}), [commit]) == path
    assert Manifest.load(path) == manifest
    assert (path.parent / "rows-00000.parquet").exists()
    assert list(store.manifests()) == [path]


# ---------------------------------------------------------------------------------------------------- opening


def test_a_new_folder_becomes_a_store(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "down"
    store = Store.open(root)
    assert StoreRecord.load(root / "store.json").kind == "headrace.store"
    assert Store.open(root) == store == Store.containing(root / "artifacts" / "x")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="not a store and is not empty"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="lies in no store"):
        Store.containing(tmp_path)


def test_a_file_in_place_of_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a file is where a folder should be"):
        Store.open(tmp_path / "file")


def newer(record: StoreRecord | RawInput | Commit | Manifest) -> bytes:
    """Return a record as a program with the next schema would write it: new fields and all."""
    fields = json.loads(record.render()) | {"schema_version": SCHEMA_VERSION + 1, "colour": "blue"}
    del fields["digest"]
    return (json.dumps(fields | {"digest": digest_json(fields)}) + "\n").encode()


def test_a_store_of_a_newer_schema_is_refused_by_name(store: Store) -> None:
    path = store.root / "store.json"
    path.write_bytes(newer(StoreRecord()))
    message = f"store.json: written with schema {SCHEMA_VERSION + 1}, this program knows {SCHEMA_VERSION}; update"
    with pytest.raises(StoreError, match=message):
        Store.open(store.root)


def test_newer_records_in_a_store_are_refused_by_name(store: Store) -> None:
    commit = store.commit(made(store, task()))
    path = store.publish(manifest_of(commit), [commit])
    for place, record, cls in (
        (store.task_folder(task()) / COMMIT, commit, Commit),
        (path, manifest_of(commit), Manifest),
    ):
        place.write_bytes(newer(record))
        with pytest.raises(StoreError, match=f"{place.name}: written with schema {SCHEMA_VERSION + 1}"):
            cls.load(place)


# ------------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"size":3', b'"size":4'),
        lambda data: data.replace(b'"size":3', b'"size": 3'),
        lambda data: data.replace(b'"size":3', b'"size":3.0'),
        lambda data: data.replace(b'"size":3', b'"size":3,"size":3'),
        lambda data: data.replace(b'"size":3', b'"size":"3"'),
        lambda data: data + b"\n",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: b'"text"',
        lambda data: b"\xff\xfe",
        lambda data: data.replace(b'"digest":"', b'"digest":"0'),
        lambda data: data.replace(b'"uri"', b'"URI"'),
    ],
)
def test_a_record_is_its_one_rendering(store: Store, change: Any) -> None:
    record = RawInput(uri="file:///a", size=3, mtime_ns=1, sha256="a" * 64)
    path = store.root / "record.json"
    path.write_bytes(record.render())
    assert RawInput.load(path) == record
    path.write_bytes(change(record.render()))
    with pytest.raises(IntegrityError, match=r"record\.json"):
        RawInput.load(path)


def test_an_absent_record_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        Manifest.load(tmp_path / "manifest.json")


def test_records_are_strict() -> None:
    for fields in ({"size": -1}, {"size": "3"}, {"sha256": "xyz"}, {"sha256": "A" * 64}, {"colour": "blue"}):
        with pytest.raises(ValidationError):
            RawInput.model_validate({"uri": "u", "size": 3, "mtime_ns": 1, "sha256": "a" * 64} | fields)


# -------------------------------------------------------------------------------------------------------- inputs


def test_a_raw_input_is_hashed_once_while_it_stays(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashed = tmp_path / "raw", []
    path.write_bytes(b"abc")
    whole = store_module.digest_file

    def count(of: Path) -> str:
        hashed.append(of)
        return whole(of)

    monkeypatch.setattr(store_module, "digest_file", count)
    assert store.raw_digest(path) == store.raw_digest(path) == digest_bytes(b"abc")
    assert len(hashed) == 1
    path.write_bytes(b"abcd")
    assert store.raw_digest(path) == digest_bytes(b"abcd")
    assert len(hashed) == 2
