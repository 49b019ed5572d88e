"""Texts as UTF-8 end to end in one array: what kernels read, and what Arrow holds anyway."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Uint8s = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Utf8(NamedTuple):
    """Text i is the bytes of `data` from offsets[i] to offsets[i + 1]."""

    data: Uint8s
    offsets: Int64s

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Utf8":
        """Return strings as bytes."""
        return cls.joined([text.encode() for text in texts])

    @classmethod
    def joined(cls, encoded: Sequence[bytes]) -> "Utf8":
        """Return texts that are bytes already."""
        offsets = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def texts(self) -> Iterator[str]:
        """Yield the texts as strings."""
        for start, end in zip(self.offsets.tolist(), self.offsets[1:].tolist(), strict=False):
            yield decode(self.data, start, end)


def frozen(data: Uint8s) -> Uint8s:
    """Return bytes that cannot be written to, as most are; kernels are compiled for each kind of array."""
    view = data.view()
    view.flags.writeable = False
    return view


def decode(data: Uint8s, start: int, end: int) -> str:
    """Return data[start:end] as a string."""
    return data[start:end].tobytes().decode()
