"""A store that is read through faults: files of this machine at `faulty://`, and corpora that lie there."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.remote.folder import Patience
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.trainer.stream import Stream
from headrace.trainer.stream_config import DataConfig, RemoteSection

IMPATIENT: dict[str, Any] = {"timeout_seconds": 2.0, "tries": 3}


class Faulty(LocalFileSystem):
    """Files of this machine, read through whatever `fault` does to it."""

    protocol = "faulty"
    fault: Callable[[str, bytes], bytes] = staticmethod(lambda path, data: data)
    lists = True
    """Whether folders can be listed, unlike those of most web servers."""
    reads: list[str] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("faulty://")))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        data: bytes = super().cat_file(path, start=start, end=end, **kwargs)
        Faulty.reads.append(path)
        return Faulty.fault(path, data)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        if not Faulty.lists:
            raise FileNotFoundError(path)
        return super().ls(path, detail=detail, **kwargs)


fsspec.register_implementation("faulty", Faulty, clobber=True)


def healthy_and_quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without faults, end without them, and wait for hundredths of a second between tries: a fixture."""
    patience = property(lambda section: Patience(section.timeout_seconds, section.tries, 0.01))
    monkeypatch.setattr(RemoteSection, "patience", patience)
    Faulty.reads.clear()
    yield
    Faulty.lists = True
    Faulty.fault = staticmethod(lambda path, data: data)


def remote_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make tokens of a few windows in three parts: a fixture."""
    lengths = np.random.default_rng(1).integers(1, 60, 30_000)
    store = Store.open(tmp_path_factory.mktemp("remote") / "store")
    return make_tokens(store, lengths, 0, parts=3, vocabulary=600)


def config(place: object, cache: Path, remote: dict[str, Any] | None = None, **changes: Any) -> DataConfig:
    fields: dict[str, object] = {"corpora": [{"tokens": str(place)}], "sequence_length": 64, "global_batch": 8}
    section = {"cache": str(cache), **(remote or {})}
    return DataConfig.model_validate(fields | {"packing": "best_fit", "remote": section} | changes)


def faulty(tokens: Path) -> str:
    return f"faulty://{tokens}"


def same_batches(left: Stream, right: Stream, steps: Iterator[int] | range = range(0, 4000, 97)) -> bool:
    names = ("tokens", "targets", "positions", "documents", "sources")
    return all(
        np.array_equal(getattr(left.batch(step), name), getattr(right.batch(step), name))
        for step in steps
        for name in names
    )


def chunks(cache: Path) -> list[Path]:
    return sorted(cache.glob("chunks/??/*.chunk"))


def kept_bytes(cache: Path) -> int:
    """Return what the chunks of a cache take together; some may be removed meanwhile."""
    total = 0
    for path in chunks(cache):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def damaged(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def read_all(stream: Stream) -> None:
    for step in range(0, 4000, 50):
        stream.batch(step)


def row_groups(tokens: Path) -> list[Any]:
    manifest = Manifest.load(tokens)
    return [group for part in manifest.parts for group in part.files["tokens"].row_groups]
