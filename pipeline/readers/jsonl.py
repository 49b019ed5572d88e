"""Reader of JSON lines: one document a line, plain or compressed.

Blank lines are gaps (`padding`). A line that is no JSON object, or has no string under `text_key`, is a record with
the fault `bad_json`; a text with lone surrogates has `bad_encoding`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version as version_of
from typing import Any, BinaryIO, ClassVar

from headrace.pipeline.errors import InputError
from headrace.pipeline.readers.contract import Gap, Record, register
from headrace.pipeline.readers.framing import Stretch, iter_stretches
from headrace.pipeline.readers.sources import CHUNK_BYTES, Source, hash_range


@register
@dataclass(frozen=True)
class JsonlReader:
    """Reads JSON lines; the keys name where text, address, date and identity lie, an absent one gives "".

    Scalars under `metadata_keys` are kept as strings, as is the identity (`id`). Lines beyond `max_record_bytes` are
    drained, not held.
    """

    name: ClassVar[str] = "jsonl"
    version: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        f".{stem}{compression}" for stem in ("jsonl", "ndjson") for compression in ("", ".gz", ".zst", ".lz4")
    )

    text_key: str = "text"
    url_key: str = "url"
    date_key: str = "date"
    id_key: str = "id"
    metadata_keys: tuple[str, ...] = ()
    max_record_bytes: int = 64 << 20

    def resources(self) -> Mapping[str, str]:
        """Versions of the decompressors."""
        return {name: version_of(name) for name in ("lz4", "zstandard")}

    def read(self, file: BinaryIO, uri: str) -> Iterator[Record | Gap]:
        """Yield a record a line and gaps between, in order of offset.

        Raises:
            InputError: the file is empty, or no line of it is a JSON object with a text.
        """
        found = False
        for stretch in iter_stretches(file, lambda _: False, self.max_record_bytes + CHUNK_BYTES):
            for item in self._parse(stretch):
                found = found or (isinstance(item, Record) and item.fault != "bad_json")
                yield item
        if not found:
            raise InputError(f"{uri}: no line is a JSON object with a string under {self.text_key!r}")

    def _parse(self, stretch: Stretch) -> Iterator[Record | Gap]:
        if stretch.source.size == 0 and stretch.stored:
            yield Gap(stretch.stored, stretch.fault or "padding")
        for start, end in iter_lines(stretch.source):
            line = stretch.source.read_at(start, end - start) if end - start <= self.max_record_bytes else None
            if line is not None and not line.strip():
                yield Gap(stretch.extent(start, end), "padding")
            else:
                yield self._record(stretch, start, end, line)

    def _record(self, stretch: Stretch, start: int, end: int, line: bytes | None) -> Record:
        cut = stretch.fault == "truncated" and end == stretch.source.size
        fault = stretch.fault if cut or stretch.fault != "truncated" else None
        values = parse_object(line) if line is not None else {}
        text = values.get(self.text_key)
        if line is None:
            fault = fault or "too_large"
        elif not isinstance(text, str):
            fault = fault or "bad_json"
        elif not is_unicode(text):
            fault = fault or "bad_encoding"
        kept = {key: as_string(values.get(key)) for key in (self.id_key, *self.metadata_keys) if key in values}
        return Record(
            extent=stretch.extent(start, end),
            kind="text",
            url=as_string(values.get(self.url_key)),
            date=as_string(values.get(self.date_key)),
            content_type="text/plain",
            headers={},
            payload=text.encode(errors="replace") if isinstance(text, str) else b"",
            digest=sha256(line).hexdigest() if line is not None else hash_range(stretch.source, start, end),
            block_bytes=end - start,
            charset="utf-8",
            fault=fault,
            metadata={("id" if key == self.id_key else key): value for key, value in kept.items()},
        )


def iter_lines(source: Source) -> Iterator[tuple[int, int]]:
    """Yield the range of each line, its end included, read in chunks."""
    start = position = 0
    while position < source.size:
        chunk = source.read_at(position, CHUNK_BYTES)
        found = chunk.find(b"\n")
        while found >= 0:
            yield start, position + found + 1
            start = position + found + 1
            found = chunk.find(b"\n", found + 1)
        position += len(chunk)
    if start < source.size:
        yield start, source.size


def parse_object(line: bytes) -> dict[str, Any]:
    """Parse a line as a JSON object; anything else gives an empty one."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_unicode(text: str) -> bool:
    """Tell whether a string can be written as UTF-8; JSON's escapes can spell lone surrogates, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_string(value: Any) -> str:
    """Return a scalar as text; None and nested values give an empty one."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float)) else ""
