"""What is exported is read back by the rules of the other formats, and by the other libraries where they are."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.errors import InputError
from headrace.pipeline.store import Store
from headrace.trainer.exports import mds
from headrace.trainer.exports.documents import export_tokens
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    store = Store.open(tmp_path_factory.mktemp("exports") / "store")
    lengths = np.random.default_rng(1).integers(0, 60, 300)
    path = make_tokens(store, lengths, 0, parts=3, vocabulary=600)
    fields = {"corpora": [{"tokens": str(path)}], "sequence_length": 32, "global_batch": 8, "heldout": 0.01}
    return open_stream(DataConfig.model_validate(fields), 0)


def expected(stream: Stream, split: str) -> list[tuple[str, list[int]]]:
    """Return ids and tokens of the documents of a split, from the rows that the stream serves."""
    corpus = stream.corpora[0]
    table, found = corpus.table(split), []
    for number in range(len(table)):
        window = table.read(number)
        for serving, begin in enumerate(window.begins.tolist()):
            tokens = window.tokens[begin : begin + int(window.layout.num_tokens[serving])].tolist()
            found.append((window.doc_id(serving), [*tokens, corpus.vocabulary.end_of_text]))
    return found


def read_megatron(prefix: Path) -> Iterator[list[int]]:
    """Read an indexed dataset as megatron.core.datasets.indexed_dataset does."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    assert np.frombuffer(index, "<u8", 1, 9)[0] == 1
    assert index[17] == 8
    sequences, documents = np.frombuffer(index, "<u8", 2, 18).tolist()
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    begins = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    numbers = np.frombuffer(index, "<i8", documents, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * documents
    assert numbers.tolist() == list(range(sequences + 1))
    data = prefix.with_suffix(".bin").read_bytes()
    for length, begin in zip(lengths.tolist(), begins.tolist(), strict=True):
        yield np.frombuffer(data, "<u2", length, begin).tolist()


def read_mds(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Read shards by what their index says."""
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        count = int(np.frombuffer(data, "<u4", 1)[0])
        assert count == shard["samples"]
        begins = np.frombuffer(data, "<u4", count + 1, 4).tolist()
        for begin, end in itertools.pairwise(begins):
            first, second = np.frombuffer(data, "<u4", 2, begin).tolist()
            assert begin + 8 + first + second == end
            doc_id = data[begin + 8 : begin + 8 + first].decode()
            yield doc_id, np.frombuffer(data, "<u2", second // 2, begin + 8 + first).tolist()


def test_megatron_and_nanogpt(stream: Stream, tmp_path: Path) -> None:
    done = export_tokens(stream, "megatron", tmp_path / "out")
    for one, split, name in zip(done, ("train", "heldout"), ("corpus0-train", "corpus0-val"), strict=True):
        documents = expected(stream, split)
        assert list(read_megatron(tmp_path / "out" / name)) == [tokens for _, tokens in documents]
        assert (one.documents, one.tokens) == (len(documents), sum(len(tokens) for _, tokens in documents))
    flat = np.fromfile(tmp_path / "out" / "corpus0-train.bin", np.uint16)
    assert flat.tolist() == [token for _, tokens in expected(stream, "train") for token in tokens]


def test_mds(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mds, "SHARD_BYTES", 4096)
    export_tokens(stream, "mds", tmp_path / "out")
    for split, name in (("train", "corpus0-train"), ("heldout", "corpus0-val")):
        assert list(read_mds(tmp_path / "out" / name)) == expected(stream, split)
    assert len(list((tmp_path / "out" / "corpus0-train").glob("*.mds"))) > 3


def test_what_is_there_is_not_written_over(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is there already"):
        export_tokens(stream, "mds", tmp_path)
    with pytest.raises(InputError, match="no format of tokens; there are megatron, mds"):
        export_tokens(stream, "webdataset", tmp_path / "out")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mds.MDSWriter, "close", fail)
    with pytest.raises(KeyboardInterrupt):
        export_tokens(stream, "mds", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
