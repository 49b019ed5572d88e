"""A corpus that lies elsewhere gives the batches that it gives here; what is slow, wrong or gone there is told."""

import itertools
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.errors import HeadraceError, InputError, IntegrityError, RemoteError, StoreError
from headrace.pipeline.remote.folder import Patience, RemoteFolder, within
from headrace.pipeline.remote.mirror import open_mirror
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import in_force, suppress
from headrace.pipeline.tables import TableWriter, write_table
from headrace.trainer.iterate import Batches
from headrace.trainer.run_config import load_run
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.trace import trace
from tests.commands import build_words, headrace, small_crawl
from tests.faulty import (
    IMPATIENT,
    Faulty,
    config,
    damaged,
    faulty,
    healthy_and_quick,
    read_all,
    remote_tokens,
    same_batches,
)

tokens = pytest.fixture(scope="module")(remote_tokens)
quick = pytest.fixture(autouse=True)(healthy_and_quick)


# ------------------------------------------------------------------------------------------------------------ S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A local S3 server, and how fsspec finds it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    endpoint = f"http://{host}:{port}"
    fsspec.config.conf["s3"] = {"endpoint_url": endpoint}
    yield endpoint
    del fsspec.config.conf["s3"]
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    server.stop()


@pytest.fixture(scope="module")
def in_s3(s3: str, tokens: Path) -> str:
    system = fsspec.filesystem("s3")
    system.mkdir("corpora")
    system.put(str(tokens.parents[3]), "corpora/web", recursive=True)
    return f"s3://corpora/web/{tokens.relative_to(tokens.parents[3]).as_posix()}"


def test_s3_gives_the_same_batches(in_s3: str, tokens: Path, tmp_path: Path) -> None:
    there, here = open_stream(config(in_s3, tmp_path), 3), open_stream(config(tokens, tmp_path), 3)
    assert there.plan.identity == here.plan.identity
    assert same_batches(there, here)
    assert there.plan.corpora[0].path == in_s3


def test_the_kernels_that_are_loaded_meanwhile_are_those_that_run(tokens: Path, tmp_path: Path) -> None:
    code = """
import sys
from headrace.pipeline.packing import _pack_concat
from headrace.trainer.streaming.rows import _fill, gather_slots
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
stream = open_stream(DataConfig.model_validate_json(sys.argv[1]), 0)
stream.batch(0)
print([len(kernel.signatures) for kernel in (_fill, gather_slots, _pack_concat)])
"""
    data = config(f"file://{tokens}", tmp_path, packing="concat").model_dump_json()
    ran = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[1, 1, 1]"


def test_s3_mixed_with_a_corpus_of_this_machine(in_s3: str, tokens: Path, tmp_path: Path) -> None:
    other = make_tokens(Store.open(tmp_path / "store"), np.full(5000, 30), 0, vocabulary=600)
    plans = [[in_s3, str(other)], [str(tokens), str(other)]]
    streams = [
        open_stream(
            config(
                "", tmp_path, corpora=[{"tokens": place, "weight": w} for place, w in zip(plan, (3, 1), strict=True)]
            ),
            3,
        )
        for plan in plans
    ]
    assert same_batches(*streams)


def test_s3_names_a_bucket_that_is_not_there(s3: str, tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match=r"s3://nobodys/store"):
        open_stream(config("s3://nobodys/store/artifacts/tokenize/0/manifest.json", tmp_path, IMPATIENT), 0)


def test_workers_read_from_s3(in_s3: str, s3: str, tokens: Path, tmp_path: Path) -> None:
    """Loader workers and the training process share the cache, and a state of one goes on in the other."""
    code = """
import json, sys
from torch.utils.data import DataLoader
from headrace.trainer.dataset import Stream
if __name__ == "__main__":
    stream = Stream(json.loads(sys.argv[1]), seed=3)
    for number, batch in enumerate(DataLoader(stream, batch_size=None, num_workers=2)):
        print(json.dumps([int(batch["step"]), int(batch["tokens"].sum())]))
        if number == 40:
            break
"""
    data = config(in_s3, tmp_path / "cache").model_dump_json()
    environment = {**os.environ, "AWS_ENDPOINT_URL": s3}
    ran = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    here = open_stream(config(tokens, tmp_path), 3)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert found == [[step, int(here.batch(step).tokens.sum())] for step in range(41)]


# ----------------------------------------------------------------------------------------------------- the mirror


def test_the_index_of_the_store_is_used(tokens: Path, tmp_path: Path) -> None:
    open_stream(config(tokens, tmp_path), 0)
    open_stream(config(faulty(tokens), tmp_path / "cache"), 0)
    (mirror,) = (tmp_path / "cache" / "stores").iterdir()
    assert not (mirror / "tasks").exists()
    assert not [path for path in Faulty.reads if path.endswith(".parquet") and "/tokenize/" in path]


def test_an_index_is_made_where_the_store_has_none(tokens: Path, tmp_path: Path) -> None:
    changes = {"sequence_length": 48}
    there = open_stream(config(faulty(tokens), tmp_path / "cache", **changes), 0)
    (mirror,) = (tmp_path / "cache" / "stores").iterdir()
    assert len(list((mirror / "tasks" / "stream_index").glob("??/*"))) == 1
    assert not (tokens.parents[2] / "stream_index" / there.corpora[0].index.key).exists()
    assert same_batches(there, open_stream(config(tokens, tmp_path, **changes), 0), range(0, 100, 9))


def test_opening_again_fetches_no_record_twice(tokens: Path, tmp_path: Path) -> None:
    open_stream(config(faulty(tokens), tmp_path), 0)
    Faulty.reads.clear()
    open_stream(config(faulty(tokens), tmp_path), 0)
    names = str(tokens.parents[3] / "suppressions.json")
    assert not [path for path in Faulty.reads if path.endswith((".json", ".parquet")) and path != names]


@pytest.mark.parametrize("lists", [True, False])
def test_what_is_taken_down_there_is_masked_here(tmp_path: Path, lists: bool) -> None:
    Faulty.lists = lists
    folder = small_crawl(tmp_path)
    built = headrace(*build_words(folder), "--json").json
    place = Path(built["tokens_manifest"])
    changes = {"global_batch": 2, "sequence_length": 32}

    def opened() -> list[Stream]:
        return [open_stream(config(p, tmp_path / "cache", **changes), 0) for p in (faulty(place), place)]

    there, here = opened()
    gone = here.pieces(1)[0][1][0].doc_id
    assert headrace("takedown", built["manifest"], "--doc", gone, "--reason", "asked").status == 0
    before = there.batch(1).targets.copy()
    there, here = opened()
    assert there.corpora[0].hidden == here.corpora[0].hidden == {gone}
    assert same_batches(there, here, range(20))
    assert not np.array_equal(before, there.batch(1).targets)
    assert [traced.url for traced in trace(there, 1)] == [traced.url for traced in trace(here, 1)]


def test_what_was_taken_down_is_never_left_unknown(tmp_path: Path) -> None:
    tokens = make_tokens(Store.open(tmp_path / "store"), np.full(5000, 30), 0, vocabulary=600)
    place, root = faulty(tokens), tokens.parents[3]
    assert not open_stream(config(place, tmp_path / "cache"), 0).corpora[0].hidden
    Faulty.lists = False
    with pytest.raises(InputError, match=r"suppressions.json: there is no such file, and what was taken down cannot"):
        open_stream(config(place, tmp_path / "cache"), 0)
    one = suppress(Store.open(root), "domain", "example.org", "asked")
    open_mirror(f"faulty://{root}", tmp_path / "cache", Patience(2.0, 1))
    (root / "suppressions" / f"{one.name}.json").unlink()
    with pytest.raises(IntegrityError, match=rf"{one.name}.json: it is gone; suppressions.json names it"):
        open_mirror(f"faulty://{root}", tmp_path / "other", Patience(2.0, 1))


def damages_once(where: str) -> Callable[[str, bytes], bytes]:
    """Return what changes or cuts each file whose path has `where` in it when it is read for the first time."""
    seen: set[str] = set()

    def damage(path: str, data: bytes) -> bytes:
        if where not in path or path in seen:
            return data
        seen.add(path)
        return data[:-9] if len(seen) % 2 else damaged(data)

    return damage


@pytest.mark.parametrize("where", ["/suppressions", "manifest.json", "tokenizer-00000", "/stream_index/", "store.json"])
def test_records_that_were_damaged_on_the_way_are_fetched_again(tmp_path: Path, where: str) -> None:
    changes = {"global_batch": 2, "sequence_length": 32}
    place = Path(headrace(*build_words(small_crawl(tmp_path)), "--json").json["tokens_manifest"])
    for site in ("x.org", "y.org"):
        suppress(Store.open(place.parents[3]), "domain", site, "asked")
    here = open_stream(config(place, tmp_path, **changes), 0)
    Faulty.fault = staticmethod(damages_once(where))
    for _ in range(2):
        assert same_batches(open_stream(config(faulty(place), tmp_path / "cache", **changes), 0), here, range(3))


def test_a_record_that_is_damaged_there_is_named_and_not_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    one = suppress(store, "domain", "x.org", "asked")
    path = store.root / "suppressions" / f"{one.name}.json"
    data = path.read_bytes()
    for wrong in (data[:-9], suppress(store, "domain", "y.org", "asked").render()):
        path.write_bytes(wrong)
        with pytest.raises(IntegrityError, match=rf"faulty://.*{one.name}.json: "):
            open_mirror(f"faulty://{store.root}", tmp_path / "cache", Patience(2.0, 1))
    path.write_bytes(data)
    mirror = open_mirror(f"faulty://{store.root}", tmp_path / "cache", Patience(2.0, 1))
    (mirror.root / "suppressions" / f"{one.name}.json").write_bytes(data[:-9])
    assert one in in_force(open_mirror(f"faulty://{store.root}", tmp_path / "cache", Patience(2.0, 1)))


def test_a_manifest_cannot_name_files_outside_of_the_store(tokens: Path, tmp_path: Path) -> None:
    store = tmp_path / "there" / "store"
    shutil.copytree(tokens.parents[3], store)
    (path,) = store.glob("artifacts/*tokenizer/*/manifest.json")
    manifest = Manifest.load(path)
    (part,) = manifest.parts
    name = "../../../../../planted.json"
    planted = path.parent / name
    shutil.copy(path.parent / part.files["tokenizer"].name, planted.resolve())
    files = {"tokenizer": part.files["tokenizer"].model_copy(update={"name": name})}
    parts = (part.model_copy(update={"files": files}),)
    path.write_bytes(Manifest(**{**dict(manifest), "parts": parts, "digest": ""}).render())
    place = store / tokens.relative_to(tokens.parents[3])
    with pytest.raises(IntegrityError, match=r"faulty://.*manifest.json: the record is damaged at parts.0.files"):
        open_stream(config(faulty(place), tmp_path / "home" / "user" / "cache"), 0)
    assert list(tmp_path.rglob("planted.json")) == [planted.resolve()]


def test_nothing_is_kept_outside_of_the_mirror(tokens: Path, tmp_path: Path) -> None:
    store = open_mirror(f"faulty://{tokens.parents[3]}", tmp_path / "a" / ".." / "cache", Patience(2.0, 1))
    store.keep(store.root / "artifacts" / "x", b"1")
    for name in ("../x", str(tmp_path / "x"), "artifacts/../../x"):
        with pytest.raises(IntegrityError, match="no place in a store"):
            store.keep(store.root / name, b"1")
    assert not [path for path in tmp_path.rglob("x") if path.is_file() and path.parent.name != "artifacts"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("faulty:///nowhere/artifacts/tokenize/0/manifest.json", "is no store"),
        ("faulty:///nowhere/tokens.json", "no manifest of an artifact"),
        ("nothing://bucket/artifacts/tokenize/0/manifest.json", "Protocol not known: nothing"),
    ],
)
def test_a_place_that_cannot_be(place: str, words: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, StoreError), match=words):
        open_stream(config(place, tmp_path), 0)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("http://bob:s3@cret@host/store/artifacts/tokenize/0/manifest.json", "http://***@host/store/artifacts/"),
        ("ftp://:s3cret@host/tokens", "ftp://***@host/tokens"),
        ("https://s3cret@host/tokens", "https://***@host/tokens"),
        ("https://host/get?key=s3cret&path=/artifacts/tokenize/0/manifest.json", r"https://host/get\?\*\*\*: "),
    ],
)
def test_keys_do_not_stand_in_urls(place: str, shown: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=shown.replace("***@", r"\*\*\*@")) as caught:
        open_stream(config(place, tmp_path, IMPATIENT), 0)
    assert "s3cret" not in f"{caught.value}{caplog.text}"
    assert "cret@" not in str(caught.value)
    assert not list(tmp_path.rglob("*"))


def test_a_manifest_that_is_not_there(tokens: Path, tmp_path: Path) -> None:
    place = f"faulty://{tokens.parents[1] / ('0' * 64) / 'manifest.json'}"
    with pytest.raises(InputError, match="there is no such manifest"):
        open_stream(config(place, tmp_path), 0)


def test_a_run_file_keeps_urls_and_finds_the_cache_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[run]\nname = "r"\nsteps = 1\n[model]\nsize = "1m"\n'
        '[data]\nsequence_length = 8\nglobal_batch = 1\ncorpora = [{tokens = "s3://b/a"}, {tokens = "t"}]\n'
        '[data.remote]\ncache = "kept"\n'
    )
    data = load_run(path).beside(tmp_path).data
    assert [corpus.tokens for corpus in data.corpora] == ["s3://b/a", str(tmp_path / "t")]
    assert data.remote.folder == tmp_path / "kept"


# ------------------------------------------------------------------------------------------------------------ faults


def fails_once() -> Callable[[str, bytes], bytes]:
    """Return what fails when something is read for the first time."""
    seen: set[tuple[str, int]] = set()

    def fail(path: str, data: bytes) -> bytes:
        if (path, len(data)) not in seen:
            seen.add((path, len(data)))
            raise ConnectionResetError("reset by peer")
        return data

    return fail


def test_reads_that_fail_now_and_then_are_tried_again(
    tokens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Faulty.fault = staticmethod(fails_once())
    with caplog.at_level(logging.WARNING):
        there = open_stream(config(faulty(tokens), tmp_path / "cache"), 0)
        assert same_batches(there, open_stream(config(tokens, tmp_path), 0))
    assert "ConnectionResetError: reset by peer; trying again" in caplog.text


def test_a_store_that_goes_on_failing_is_named(tokens: Path, tmp_path: Path) -> None:
    stream = open_stream(config(faulty(tokens), tmp_path, IMPATIENT), 0)

    def fail(path: str, data: bytes) -> bytes:
        raise ConnectionResetError("reset by peer")

    Faulty.fault = staticmethod(fail)
    with pytest.raises(RemoteError, match=r"faulty://.*tokens-0000\d.*tried 3 times \(last: ConnectionResetError"):
        read_all(stream)


def test_a_store_that_does_not_answer_is_named_in_time(tokens: Path, tmp_path: Path) -> None:
    stream = open_stream(config(faulty(tokens), tmp_path, {"timeout_seconds": 0.2, "tries": 2}), 0)
    never = threading.Event()

    def hang(path: str, data: bytes) -> bytes:
        never.wait(20)
        return data

    Faulty.fault = staticmethod(hang)
    started = time.monotonic()
    with pytest.raises(RemoteError, match=r"tried 2 times \(last: TimeoutError: no answer in 0.2 s"):
        read_all(stream)
    assert time.monotonic() - started < 10
    never.set()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_failed_try(tmp_path: Path, interruption: type[BaseException]) -> None:
    (tmp_path / "file").write_bytes(b"1")

    def interrupt(path: str, data: bytes) -> bytes:
        raise interruption

    Faulty.fault = staticmethod(interrupt)
    with pytest.raises(interruption):
        RemoteFolder(f"faulty://{tmp_path}", Patience(2.0, 5, 0.01)).read("file")
    assert Faulty.reads.count(str(tmp_path / "file")) == 1


def test_a_service_that_is_connected_to_first_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"ftp://127.0.0.1:{closed.getsockname()[1]}/store"
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(RemoteError, match=rf"{url}/f: .* tried 2 times \(last: Conn"),
        ):
            RemoteFolder(url, Patience(2.0, 2, 0.01)).read("f")
    assert caplog.text.count("trying again") == 1


def test_a_service_that_takes_no_connection_is_named_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"ftp://127.0.0.1:{silent.getsockname()[1]}/store"
        started = time.monotonic()
        with pytest.raises(RemoteError, match=rf"{url}/f: .*TimeoutError: no answer in 0.2 s"):
            RemoteFolder(url, Patience(0.2, 2, 0.01)).read("f")
        assert time.monotonic() - started < 5


def test_a_connection_is_kept_until_it_fails(tmp_path: Path) -> None:
    made: list[Faulty] = []

    class Counted(Faulty):
        protocol = "counted"

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    fsspec.register_implementation("counted", Counted, clobber=True)
    (tmp_path / "file").write_bytes(b"1")
    remote = RemoteFolder(f"counted://{tmp_path}", Patience(2.0, 3, 0.01))
    assert [remote.read("file") for _ in range(3)] == [b"1"] * 3
    assert len(made) == 1
    Faulty.fault = staticmethod(fails_once())
    assert remote.read("file") == b"1"
    assert len(made) == 2


def test_no_permission_is_said_at_once(tokens: Path, tmp_path: Path) -> None:
    stream = open_stream(config(faulty(tokens), tmp_path), 0)

    def refuse(path: str, data: bytes) -> bytes:
        raise PermissionError("Forbidden")

    Faulty.fault = staticmethod(refuse)
    with pytest.raises(InputError, match=r"tokens-0000\d.*PermissionError: Forbidden"):
        stream.batch(0)


def test_bytes_that_were_damaged_on_the_way_are_fetched_again(tokens: Path, tmp_path: Path) -> None:
    there = open_stream(config(faulty(tokens), tmp_path / "cache"), 0)
    seen: set[str] = set()

    def damage_once(path: str, data: bytes) -> bytes:
        if path in seen:
            return data
        seen.add(path)
        return damaged(data) if len(data) > 100_000 else data

    Faulty.fault = staticmethod(damage_once)
    assert same_batches(there, open_stream(config(tokens, tmp_path), 0))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "are not what the manifest's sha256 says"),
        (lambda data: data[:-1], "it ends before byte"),
        (lambda data: b"", "it ends before byte"),
    ],
)
def test_wrong_bytes_are_named(tokens: Path, tmp_path: Path, harm: Callable[[bytes], bytes], words: str) -> None:
    stream = open_stream(config(faulty(tokens), tmp_path), 0)
    Faulty.fault = staticmethod(lambda path, data: harm(data) if "tokens-00001" in path and len(data) > 99999 else data)
    with pytest.raises(IntegrityError, match=rf"faulty://.*tokens-00001.*{words}"):
        read_all(stream)


def without_footers(place: Path) -> None:
    """Make a manifest one that does not know the digests of its files' footers."""
    manifest = Manifest.load(place)
    files = [part.files["tokens"].model_copy(update={"footer": None}) for part in manifest.parts]
    parts = [part.model_copy(update={"files": {"tokens": f}}) for part, f in zip(manifest.parts, files, strict=True)]
    place.write_bytes(Manifest(**{**dict(manifest), "parts": tuple(parts), "digest": ""}).render())
    assert b"footer" not in place.read_bytes()


def renamed(name: bytes) -> Callable[[bytes], bytes]:
    """Return what calls a column otherwise in a footer."""
    return lambda data: data.replace(name, name[:-1] + b"_")


def undecodable(data: bytes) -> bytes:
    return data.replace(b"split_key", b"split_ke\xff")


WRONG = [renamed(b"doc_id"), renamed(b"text"), undecodable, lambda data: data[:-8] + data[-9:-1]]


@pytest.mark.parametrize(
    ("harm", "known"), [(harm, known) for known in (True, False) for harm in WRONG] + [(damaged, True)]
)
def test_a_wrong_footer_is_named_and_not_kept(
    copied: Path, tmp_path: Path, harm: Callable[[bytes], bytes], known: bool
) -> None:
    if not known:
        without_footers(copied)
    stream = open_stream(config(faulty(copied), tmp_path), 0)
    Faulty.fault = staticmethod(lambda path, data: harm(data) if "tokens-00001" in path and len(data) < 99999 else data)
    with pytest.raises(IntegrityError, match=r"tokens-00001.*(footer|no end of a Parquet|are not what the manifest)"):
        read_all(stream)
    Faulty.fault = staticmethod(lambda path, data: data)
    read_all(open_stream(config(faulty(copied), tmp_path), 0))


@pytest.mark.parametrize("known", [True, False])
def test_a_footer_of_another_file_is_named(copied: Path, tmp_path: Path, known: bool) -> None:
    if not known:
        without_footers(copied)
    stream = open_stream(config(faulty(copied), tmp_path), 0)
    other = min(copied.parent.glob("*.parquet")).read_bytes()
    Faulty.fault = staticmethod(
        lambda path, data: other[-len(data) :] if "tokens-00001" in path and len(data) < 99999 else data
    )
    with pytest.raises(IntegrityError, match=r"tokens-00001.*(its footer|no end of a Parquet|are not what the man)"):
        read_all(stream)


@pytest.mark.parametrize("known", [True, False])
def test_a_footer_that_was_damaged_on_the_way_is_fetched_again(copied: Path, tmp_path: Path, known: bool) -> None:
    if not known:
        without_footers(copied)
    stream, harms = open_stream(config(faulty(copied), tmp_path), 0), [renamed(b"doc_id")]

    def once(path: str, data: bytes) -> bytes:
        return harms.pop()(data) if "tokens-00001" in path and len(data) < 99999 and harms else data

    Faulty.fault = staticmethod(once)
    read_all(stream)
    assert not harms


def build_again(place: Path, *, rows: int | None = None) -> None:
    """Replace tokens by the same rows in other bytes, in the same row groups or in those of so many rows."""
    manifest = Manifest.load(place)
    parts = []
    for part in manifest.parts:
        path = place.parent / part.files["tokens"].name
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        path.unlink()
        writer = TableWriter(path, groups[0].schema.remove_metadata(), {}, plain=("tokens", "doc_id"))
        for group in groups:
            for start in range(0, len(group), rows or len(group)):
                for batch in group.slice(start, rows).to_batches():
                    writer.write(batch)
                writer.end_row_group()
        parts.append(part.model_copy(update={"files": {"tokens": writer.close()}}))
    place.write_bytes(Manifest(**{**dict(manifest), "parts": tuple(parts), "digest": ""}).render())


@pytest.fixture
def copied(tokens: Path, tmp_path: Path) -> Path:
    shutil.copytree(tokens.parents[3], tmp_path / "copied")
    return tmp_path / "copied" / tokens.relative_to(tokens.parents[3])


def test_tokens_that_were_built_again_are_read_on(copied: Path, tokens: Path, tmp_path: Path) -> None:
    data, here = config(faulty(copied), tmp_path, damaged="replace"), open_stream(config(tokens, tmp_path), 0)
    running = open_stream(data, 0)
    running.batch(0)
    build_again(copied)
    shutil.rmtree(tmp_path / "chunks")
    for stream in (running, open_stream(data, 0), open_stream(data, 0)):
        assert same_batches(stream, here)
        assert not stream.quarantined


def test_tokens_in_other_row_groups_are_read_by_the_next_start(copied: Path, tokens: Path, tmp_path: Path) -> None:
    data, here = config(faulty(copied), tmp_path, damaged="replace"), open_stream(config(tokens, tmp_path), 0)
    running = open_stream(data, 0)
    build_again(copied, rows=3000)
    with pytest.raises(StoreError, match=r"faulty://.*was built again.*start the same command again"):
        read_all(running)
    assert same_batches(open_stream(data, 0), here)


def test_an_index_that_was_built_again_is_read(copied: Path, tmp_path: Path) -> None:
    here = open_stream(config(copied, tmp_path), 0)
    open_stream(config(faulty(copied), tmp_path), 0)
    (mirror,) = (tmp_path / "stores").iterdir()
    path = copied.parents[2] / "stream_index" / here.corpora[0].index.key / "manifest.json"
    manifest = Manifest.load(path)
    name = manifest.parts[0].files["stream_index"].name
    with pq.ParquetFile(path.parent / name) as file:
        table = file.read()
    (path.parent / name).unlink()
    made = write_table(path.parent / name, table.schema.remove_metadata(), table.to_batches(), {"again": "yes"})
    parts = (manifest.parts[0].model_copy(update={"files": {**manifest.parts[0].files, "stream_index": made}}),)
    path.write_bytes(Manifest(**{**dict(manifest), "parts": parts, "digest": ""}).render())
    (mirror / path.parent.relative_to(copied.parents[3]) / name).unlink()
    assert same_batches(open_stream(config(faulty(copied), tmp_path), 0), here)


def test_a_part_that_is_gone_is_named(tokens: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tokens.parents[3], store)
    place = store / tokens.relative_to(tokens.parents[3])
    stream = open_stream(config(faulty(place), tmp_path / "cache"), 0)
    (place.parent / "tokens-00001.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"tokens-00001.parquet: it is gone"):
        read_all(stream)


def test_within_gives_answers_and_errors_and_ends() -> None:
    assert within(1.0, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(1.0, lambda: 1 // 0)
    with pytest.raises(TimeoutError, match=r"no answer in 0.05 s"):
        within(0.05, lambda: time.sleep(0.5))


def test_a_state_of_here_goes_on_there(tokens: Path, tmp_path: Path) -> None:
    here = Batches(config(tokens, tmp_path), 5)
    first = list(itertools.islice(here, 7))
    there = Batches(config(faulty(tokens), tmp_path / "cache"), 5).load_state_dict(here.state_dict())
    follows = next(iter(there))
    assert follows.step == first[-1].step + 1
    assert np.array_equal(follows.tokens, here.stream.batch(follows.step).tokens)
