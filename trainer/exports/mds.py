"""MosaicML Streaming's shards (MDS, version 2): a folder of `shard.NNNNN.mds` and `index.json`, a sample a document.

A shard is the number of samples and where each begins, and the end, as uint32; a JSON object that says what columns
there are; then samples: the length of each column's bytes as uint32, then the bytes. Columns are `doc_id` (`str`) and
`tokens` (`bytes`: little-endian uint16, or int32 where the vocabulary is larger; `np.frombuffer` reads them).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARD_BYTES = 1 << 26
_COLUMNS = {"doc_id": "str", "tokens": "bytes"}


class MDSWriter:
    """Writes one folder of shards."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._folder = folder
        folder.mkdir()
        self._shards: list[dict[str, Any]] = []
        self._samples: list[bytes] = []
        self._bytes = 0

    def add(self, doc_id: str, tokens: NDArray[Any]) -> None:
        """Write a document."""
        values = (doc_id.encode(), tokens.tobytes())
        sample = np.array([len(value) for value in values], "<u4").tobytes() + b"".join(values)
        if self._samples and self._bytes + len(sample) > SHARD_BYTES:
            self._end_shard()
        self._samples.append(sample)
        self._bytes += len(sample)

    def _end_shard(self) -> None:
        config = {
            "column_encodings": list(_COLUMNS.values()),
            "column_names": list(_COLUMNS),
            "column_sizes": [None] * len(_COLUMNS),
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": SHARD_BYTES,
            "version": 2,
        }
        told = json.dumps(config, sort_keys=True).encode()
        first = 4 * (len(self._samples) + 2) + len(told)
        ends = np.cumsum([first, *map(len, self._samples)])
        name = f"shard.{len(self._shards):05}.mds"
        head = np.array([len(self._samples), *ends], "<u4").tobytes()
        (self._folder / name).write_bytes(head + told + b"".join(self._samples))
        raw = {"basename": name, "bytes": int(ends[-1]), "hashes": {}}
        self._shards.append(config | {"raw_data": raw, "samples": len(self._samples), "zip_data": None})
        self._samples, self._bytes = [], 0

    def close(self) -> None:
        """Write the last shard and the index."""
        if self._samples:
            self._end_shard()
        index = {"shards": self._shards, "version": 2}
        (self._folder / "index.json").write_text(json.dumps(index, sort_keys=True), encoding="utf-8")
