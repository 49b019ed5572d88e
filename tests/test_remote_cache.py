"""What was fetched is kept within a bound and without harm to other files, and what is needed next is fetched ahead."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.remote.chunks import ChunkCache
from headrace.pipeline.remote.folder import Patience, RemoteFolder
from headrace.pipeline.remote.ranges import Range, RangeReader
from headrace.trainer.stream import open_stream
from tests.faulty import (
    Faulty,
    chunks,
    config,
    damaged,
    faulty,
    healthy_and_quick,
    kept_bytes,
    read_all,
    remote_tokens,
    row_groups,
    same_batches,
)

tokens = pytest.fixture(scope="module")(remote_tokens)
quick = pytest.fixture(autouse=True)(healthy_and_quick)


def test_what_is_in_the_cache_is_not_fetched_again(tokens: Path, tmp_path: Path) -> None:
    read_all(open_stream(config(faulty(tokens), tmp_path), 0))
    Faulty.reads.clear()
    read_all(open_stream(config(faulty(tokens), tmp_path), 0))
    assert not Faulty.reads


def test_a_damaged_chunk_of_the_cache_is_fetched_anew(tokens: Path, tmp_path: Path) -> None:
    here = open_stream(config(tokens, tmp_path), 0)
    read_all(open_stream(config(faulty(tokens), tmp_path / "cache"), 0))
    for number, path in enumerate(chunks(tmp_path / "cache")):
        path.write_bytes([b"", path.read_bytes()[:-9], damaged(path.read_bytes())][number % 3])
    assert same_batches(open_stream(config(faulty(tokens), tmp_path / "cache"), 0), here)


def test_the_cache_stays_within_its_limit_and_leaves_other_files_alone(tokens: Path, tmp_path: Path) -> None:
    own = [tmp_path / name for name in ("thesis.tex", "chunks/notes.txt", "chunks/ab/photo.chunk", "chunks/z.chunk")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    size = max(group.length for group in row_groups(tokens))
    limit = 2.5 * size / (1 << 30)
    stream = open_stream(config(faulty(tokens), tmp_path, {"cache_gibibytes": limit, "ahead_mebibytes": 0}), 0)
    for step in range(0, 20_000, 100):
        stream.batch(step)
        assert kept_bytes(tmp_path) - sum(path.stat().st_size for path in own if path in chunks(tmp_path)) <= 2.5 * size
    assert all(path.read_text() == "mine" for path in own)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1000)
    names = [f"{number:064x}" for number in range(4)]
    for name in names[:3]:
        cache.put(name, bytes(300))
        time.sleep(0.01)
    assert cache.get(names[0]) is not None
    cache.put(names[3], bytes(300))
    assert [cache.get(name) is not None for name in names] == [True, False, True, True]


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1000)
    cache.put("0" * 64, bytes(1001))
    assert cache.get("0" * 64) is None
    assert not list(tmp_path.rglob("*chunk*")) or not chunks(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1000)
    old, new = (tmp_path / "chunks" / "00" / f".{'0' * 64}.chunk-{digit * 16}" for digit in "12")
    old.parent.mkdir(parents=True)
    old.write_bytes(bytes(9))
    new.write_bytes(bytes(9))
    os.utime(old, (0, 0))
    cache.put("0" * 64, bytes(10))
    assert not old.exists()
    assert new.exists()


def test_a_full_disk_is_no_end(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = open_stream(config(faulty(tokens), tmp_path / "cache"), 0)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headrace.pipeline.remote.chunks._fill", full)
    assert same_batches(there, open_stream(config(tokens, tmp_path), 0))
    assert not chunks(tmp_path / "cache")


def test_two_processes_share_a_cache_that_is_too_small(tokens: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig, RemoteSection
from headrace.trainer.trace import trace
from tests.commands import build_words, headrace, small_crawl
stream = open_stream(DataConfig.model_validate_json(sys.argv[1]), 0)
print(sum(int(stream.batch(step).tokens.sum()) for step in range(int(sys.argv[2]), 4000, 100)))
"""
    limit = 2.5 * max(group.length for group in row_groups(tokens)) / (1 << 30)
    data = config(f"file://{tokens}", tmp_path / "cache", {"cache_gibibytes": limit}).model_dump_json()
    command = [sys.executable, "-c", code, data]
    started = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(2)]
    found = [int(process.communicate(timeout=120)[0]) for process in started]
    here = open_stream(config(tokens, tmp_path), 0)
    assert kept_bytes(tmp_path / "cache") <= limit * (1 << 30)
    assert found == [sum(int(here.batch(s).tokens.sum()) for s in range(k, 4000, 100)) for k in range(2)]


# ----------------------------------------------------------------------------------------------------- fetching ahead


def test_windows_are_fetched_before_they_are_needed(tokens: Path, tmp_path: Path) -> None:
    stream = open_stream(config(faulty(tokens), tmp_path), 0)
    stream.batch(0)
    groups = {group.sha256 for group in row_groups(tokens)}
    deadline = time.monotonic() + 10
    while len({path.stem for path in chunks(tmp_path)} & groups) < len(groups) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {path.stem for path in chunks(tmp_path)} >= groups


def test_what_is_fetched_again_is_compared_again(tmp_path: Path) -> None:
    data = bytes(range(100))
    (tmp_path / "file").write_bytes(data)
    digest = sha256(data).hexdigest()
    wanted = Range(RemoteFolder(f"faulty://{tmp_path}", Patience(2.0, 1)), "file", 0, 100, digest, digest)
    cache = ChunkCache(tmp_path / "cache", 1 << 20)
    reader = RangeReader(cache, 0)
    assert bytes(reader.get(wanted)) == data
    cache.drop(digest)
    (tmp_path / "file").write_bytes(data[::-1])
    with pytest.raises(IntegrityError, match="file: bytes 0 to 100 are not what"):
        reader.get(wanted)


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: b"", damaged])
def test_a_range_that_came_short_or_damaged_is_fetched_again(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    data = bytes(range(100))
    (tmp_path / "file").write_bytes(data)
    digest = sha256(data).hexdigest()
    wanted = Range(RemoteFolder(f"faulty://{tmp_path}", Patience(2.0, 1)), "file", 0, 100, digest, digest)
    reader, harms = RangeReader(ChunkCache(tmp_path / "cache", 1 << 20), 0), [harm]
    Faulty.fault = staticmethod(lambda path, data: harms.pop()(data) if harms else data)
    assert bytes(reader.get(wanted)) == data
    assert not harms


def test_no_more_is_fetched_ahead_than_allowed(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    (tmp_path / "file").write_bytes(data)
    remote = RemoteFolder(f"faulty://{tmp_path}", Patience(2.0, 1))
    ranges = [Range(remote, "file", 100 * n, 100 * n + 100, f"{n:064x}") for n in range(100)]
    reader = RangeReader(ChunkCache(tmp_path / "cache", 1 << 20), 1000)
    reader.expect(ranges)
    assert bytes(reader.get(ranges[50])) == data[5000:5100]
    time.sleep(0.2)
    assert {path.stem for path in chunks(tmp_path / "cache")} == {one.name for one in [*ranges[:10], ranges[50]]}


def test_many_threads_fetch_a_range_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    remote = RemoteFolder(f"faulty://{tmp_path}", Patience(5.0, 1))
    ranges = [Range(remote, "file", n, n + 50, f"{n:064x}") for n in range(40)]

    def slowly(path: str, data: bytes) -> bytes:
        time.sleep(0.002)
        return data

    Faulty.fault = staticmethod(slowly)
    for ahead in (0, 1000):
        Faulty.reads.clear()
        reader = RangeReader(ChunkCache(tmp_path / f"cache-{ahead}", 1 << 20), ahead)
        reader.expect(ranges)
        with ThreadPoolExecutor(8) as pool:
            found = [bytes(data) for data in pool.map(reader.get, [one for one in ranges for _ in range(8)])]
        assert found == [bytes(range(n, n + 50)) for n in range(40) for _ in range(8)]
        assert len(Faulty.reads) == 40


def test_an_error_ahead_is_raised_where_the_range_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    remote = RemoteFolder(f"faulty://{tmp_path}", Patience(2.0, 1))
    gone = Range(remote, "other", 0, 50, "1" * 64)
    there = Range(remote, "file", 0, 50, "2" * 64)
    reader = RangeReader(ChunkCache(tmp_path / "cache", 1 << 20), 1000)
    reader.expect([gone, there])
    assert bytes(reader.get(there)) == bytes(50)
    with pytest.raises(IntegrityError, match="other: it is gone"):
        reader.get(gone)


def test_many_caches_of_one_folder_keep_its_limit(tmp_path: Path) -> None:
    """As many processes have them: each looks again at what the others wrote."""
    caches = [ChunkCache(tmp_path, 1 << 20) for _ in range(4)]
    for number in range(2000):
        caches[number % 4].put(f"{number:064x}", bytes(2000))
        if number % 50 == 49:
            assert kept_bytes(tmp_path) <= 1 << 20
    assert kept_bytes(tmp_path) > 800_000


def test_threads_that_write_at_once_keep_the_limit(tmp_path: Path) -> None:
    cache, over = ChunkCache(tmp_path, 10_000), []

    def write(number: int) -> None:
        cache.put(f"{number:064x}", bytes(3000))
        over.append(kept_bytes(tmp_path) > 10_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(400)))
    assert len(over) == 400
    assert not any(over)


def test_many_processes_that_fill_a_cache_at_once_keep_the_limit(tmp_path: Path) -> None:
    """Each has looked when there was room, and none writes much before the limit is reached."""
    limit, step, number = 1 << 20, 2048, itertools.count()

    def put(cache: ChunkCache, size: int) -> None:
        cache.put(f"{next(number):064x}", bytes(size))

    filling, caches = ChunkCache(tmp_path, limit), [ChunkCache(tmp_path, limit) for _ in range(32)]
    while kept_bytes(tmp_path) < 0.86 * limit:
        put(filling, step)
    for size in (1, *[step - 1] * 8):
        for cache in caches:
            put(cache, size)
    assert kept_bytes(tmp_path) <= limit


def test_a_chunk_that_does_not_fit_removes_nothing(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 10_000)
    for number in range(8):
        cache.put(f"{number:064x}", bytes(1000))
    cache.put("f" * 64, bytes(10_001))
    assert kept_bytes(tmp_path) == 8000
    cache.put("e" * 64, bytes(9500))
    assert [path.stem for path in chunks(tmp_path)] == ["e" * 64]


def test_what_lies_in_the_way_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photo := photos / f"{'a' * 64}.chunk").write_bytes(bytes(900))
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "ab").write_text("mine")
    (tmp_path / "chunks" / "aa").symlink_to(photos)
    (tmp_path / "chunks" / "ac").mkdir()
    (link := tmp_path / "chunks" / "ac" / f"{'ac' * 32}.chunk").symlink_to(photo)
    cache = ChunkCache(tmp_path, 1000)
    for digit in "0123":
        cache.put(digit * 64, bytes(500))
        assert cache.get(digit * 64) is not None
    cache.put("ab" * 32, bytes(10))
    assert "what was fetched is not kept" in caplog.text
    assert photo.exists()
    assert link.is_symlink()


def test_a_cache_of_somebody_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02d}" * 32 for number in range(8)]
    for name in names:
        ChunkCache(tmp_path, 1000).put(name, bytes(100))

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("utime", "unlink", "replace", "truncate"):
        monkeypatch.setattr(os, name, refuse)
    cache = ChunkCache(tmp_path, 1000)
    assert all(cache.touch(name) and cache.get(name) is not None for name in names)
    cache.put("f" * 64, bytes(500))
    cache.drop(names[0])
    assert cache.get("f" * 64) is None
    assert not cache.touch("f" * 64)
