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

    def as_row(self) -> dict[str, Any]:
        """Return it as the value of an `origin` column, `inner` null where the bytes are the record's alone."""
        inner = [{"member": None, "start": start, "end": end} for start, end in self.inner]
        place = {"uri": self.uri, "offset": self.offset, "length": self.length, "digest": self.digest}
        return {**place, "inner": inner or None}

    def __str__(self) -> str:
        inner = "".join(f", inflated [{start}, {end})" for start, end in self.inner)
        return f"{self.uri} [{self.offset}, {self.offset + self.length}){inner}"

    @property
    def extent(self) -> Extent:
        """What a reader calls this place; of a document of several pieces, the first."""
        return Extent(self.offset, self.length, self.digest, self.inner[0] if self.inner else None)


def local_path(uri: str) -> Path | None:
    """Return the path that a `file:` URI names, None for other schemes."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
