"""Named tensors in several safetensors files: each whole in one of them, or cut along its first dimension over several.

Where a cut tensor's rows begin stands in the header of the file, under the key and in the form that
`torch.distributed.checkpoint.HuggingFaceStorageReader` reads. So any number of ranks reads them, each
the rows that it needs, whoever wrote them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from headrace.trainer.sharded import cut_like, first_row, is_sharded

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

HEADER_KEY = "DCP_SHARDING_INFO"
_OFFSETS = "saved_offsets"


class Part(NamedTuple):
    """One rank's part of named tensors, on any device; `starts` has the first row of those that are cut."""

    tensors: dict[str, Tensor]
    starts: dict[str, int]

    def header(self) -> dict[str, str] | None:
        """Return what a file's header says of the cuts; nothing where all tensors are whole."""
        if not self.starts:
            return None
        places = {
            name: {_OFFSETS: [self.starts.get(name, 0), *[0] * (tensor.ndim - 1)][: tensor.ndim]}
            for name, tensor in self.tensors.items()
        }
        return {HEADER_KEY: json.dumps(places, sort_keys=True), "format": "pt"}


def part_of(tensors: Mapping[str, Tensor], rank: int = 0, size: int = 1) -> Part:
    """Return what a rank is to write: its rows of sharded tensors, and its share of the bytes of the others."""
    kept, starts, load = {}, {}, [0] * size
    whole = [name for name, tensor in tensors.items() if not is_sharded(tensor)]
    for name in sorted(whole, key=lambda name: (-tensors[name].nbytes, name)):
        writer = load.index(min(load))
        load[writer] += tensors[name].nbytes
        if writer == rank:
            kept[name] = tensors[name].detach()
    for name, tensor in tensors.items():
        if is_sharded(tensor) and tensor.to_local().numel():
            kept[name], starts[name] = tensor.to_local().detach(), first_row(tensor)
    return Part(kept, starts)


class _Chunk(NamedTuple):
    start: int
    file: Any
    shape: tuple[int, ...]


class TensorFiles:
    """Reads tensors out of the files of all ranks.

    Raises:
        ValueError: the files do not hold each tensor once and whole.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._chunks: dict[str, list[_Chunk]] = {}
        for path in paths:
            file: Any = safe_open(path, framework="pt")
            places = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                start = (places[name][_OFFSETS] or [0])[0] if name in places else 0
                shape = tuple(file.get_slice(name).get_shape())
                self._chunks.setdefault(name, []).append(_Chunk(start, file, shape))
        for name, chunks in self._chunks.items():
            chunks.sort(key=lambda chunk: chunk.start)
            _check(name, chunks)

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return sorted(self._chunks)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a whole tensor."""
        chunks = self._chunks[name]
        return (sum(chunk.shape[0] for chunk in chunks), *chunks[0].shape[1:]) if chunks[0].shape else ()

    def whole(self, name: str) -> Tensor:
        """Read a whole tensor."""
        parts = [chunk.file.get_tensor(name) for chunk in self._chunks[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Read the rows from `start` to before `stop`; no more of the files is read."""
        chunks = self._chunks[name]
        places = [(c.file, max(start - c.start, 0), min(stop - c.start, c.shape[0])) for c in chunks]
        parts = [file.get_slice(name)[first:last] for file, first, last in places if first < last]
        none: Tensor = chunks[0].file.get_slice(name)[:0]
        return torch.cat(parts) if parts else none

    def like(self, name: str, tensor: "DTensor") -> Tensor:
        """Read this rank's rows of a tensor, sharded as one of the same shape is."""
        start = first_row(tensor)
        return cut_like(tensor, self.rows(name, start, start + tensor.to_local().shape[0]).to(tensor.device))


def _check(name: str, chunks: Sequence[_Chunk]) -> None:
    """Raise ValueError unless chunks, in order, are all rows of a tensor."""
    expected = 0
    for chunk in chunks:
        if chunk.start != expected or chunk.shape[1:] != chunks[0].shape[1:] or (len(chunks) > 1 and not chunk.shape):
            raise ValueError(f"{name}: row {expected} should follow, but a part of rows from {chunk.start} does")
        expected += chunk.shape[0] if chunk.shape else 0
