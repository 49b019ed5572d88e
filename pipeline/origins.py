"""Origins: the way from a row back to the bytes that it was read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from headrace.pipeline.readers.contract import Extent


@dataclass(frozen=True, slots=True)
class Origin:
    """The bytes `[offset, offset + length)` of `uri` as stored, their sha256, and the record's range inside them."""

    uri: str
    offset: int
    length: int
    digest: str
    inner: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Origin":
        """Read the value of an `origin` column."""
        inner = tuple((item["start"], item["end"]) for item in row["inner"] or ())
        return cls(row["uri"], row["offset"], row["length"], row["digest"], inner)

    @property
    def extent(self) -> Extent:
        """What a reader calls this place; of a document of several pieces, the first."""
        return Extent(self.offset, self.length, self.digest, self.inner[0] if self.inner else None)


def local_path(uri: str) -> Path | None:
    """Return the path that a `file:` URI names, None for other schemes."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
