"""Reader of web archives: WARC, WET, WAT and ARC, plain or in gzip, LZ4 and zstd.

Records are cut here and not by a library, because every byte has to be accounted for: of a file with wrong lengths
FastWARC 2.0 returns one record that has swallowed the rest, and ends at a damaged head without a word where warcio
1.8 raises. The rule: a declared length is believed if the stream ends behind it, another head follows, or a WARC
record's closing blank lines do; otherwise the record ends where the next head begins, with the fault `bad_length`.
Whole archives agree with both libraries record by record; the tests list where damaged ones differ, and why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version as version_of
from typing import BinaryIO, ClassVar

from headrace.pipeline.errors import InputError
from headrace.pipeline.readers.contract import Gap, Record, register
from headrace.pipeline.readers.framing import BLANK, Stretch, find_cuts, iter_stretches
from headrace.pipeline.readers.heads import (
    MAX_HEAD_BYTES,
    WINDOW_BYTES,
    Head,
    find_head,
    is_head,
    needs_more,
    parse_head,
)
from headrace.pipeline.readers.http_message import HttpMessage, parse_request, parse_response, split_content_type
from headrace.pipeline.readers.sources import CHUNK_BYTES, Source

OVERLAP_BYTES = 1 << 17
_KEPT_FIELDS = {
    "warc-record-id": "record_id",
    "warc-refers-to": "refers_to",
    "warc-truncated": "truncated",
    "warc-identified-payload-type": "identified_payload_type",
}


@register
@dataclass(frozen=True)
class WarcReader:
    """Reads web archives; a block, or what its codings inflate to, beyond `max_record_bytes` is drained, not held."""

    name: ClassVar[str] = "warc"
    version: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        f".{kind}{compression}" for kind in ("warc", "arc", "wet", "wat") for compression in ("", ".gz", ".lz4", ".zst")
    )

    max_record_bytes: int = 64 << 20

    def resources(self) -> Mapping[str, str]:
        """Versions of the decompressors."""
        return {name: version_of(name) for name in ("lz4", "zstandard", "brotli")}

    def find_cuts(self, file: BinaryIO, target: int) -> list[int]:
        """Return where a large archive can be cut, about every `target` bytes (see `framing.find_cuts`)."""
        return find_cuts(file, is_head, target)

    def read(self, file: BinaryIO, uri: str) -> Iterator[Record | Gap]:
        """Yield the records and gaps of an archive in order of offset.

        Raises:
            InputError: the file is empty, or no record could be found in it.
        """
        found = False
        for stretch in iter_stretches(file, is_head, self.max_record_bytes + CHUNK_BYTES):
            for item in self._parse(stretch):
                found = found or isinstance(item, Record)
                yield item
        if not found:
            raise InputError(f"{uri}: the file is empty, or no WARC or ARC record is in it")

    def _parse(self, stretch: Stretch) -> Iterator[Record | Gap]:
        source, position = stretch.source, 0
        if source.size == 0 and stretch.stored is not None:
            yield Gap(stretch.stored, stretch.fault or "padding")
        while position < source.size:
            head = _read_head(source, position)
            if head is None:
                end = _next_head(source, position + 1)
                yield Gap(stretch.extent(position, end), _name_gap(stretch, position, end))
            else:
                start = position + head.length
                block_end, fault = _end_block(source, start, head)
                end = block_end + len(_closing(source, block_end))
                yield self._record(stretch, head, (position, end), (start, block_end), fault)
            position = end

    def _record(
        self, stretch: Stretch, head: Head, whole: tuple[int, int], block: tuple[int, int], fault: str | None
    ) -> Record:
        start, end = block
        data, digest = self._read_block(stretch.source, start, end)
        if stretch.fault and stretch.fault != "truncated":
            fault = stretch.fault
        if data is None:
            fault, data = fault or "too_large", b""
        kind, content_type = head.kind, head.content_type
        message = _open_http(head, data, self.max_record_bytes) if not fault else None
        if message:
            content_type, data, fault = message.headers.get("content-type", ""), message.body, message.fault
        elif head.is_arc and not head.url.startswith("http") and kind == "response":
            kind = "resource"
        media_type, charset = split_content_type(content_type)
        return Record(
            extent=stretch.extent(*whole),
            kind=kind,
            url=head.url,
            date=head.date,
            content_type=media_type,
            headers=message.headers if message else head.fields,
            payload=data,
            digest=digest,
            block_bytes=end - start,
            status=message.status if message else None,
            charset=charset,
            fault=fault,
            metadata={ours: head.fields[name] for name, ours in _KEPT_FIELDS.items() if name in head.fields},
        )

    def _read_block(self, source: Source, start: int, end: int) -> tuple[bytes | None, str]:
        """Return the block, None if too large to hold, and its sha256."""
        if end - start <= self.max_record_bytes:
            data = source.read_at(start, end - start)
            return data, sha256(data).hexdigest()
        digest = sha256()
        for position in range(start, end, CHUNK_BYTES):
            digest.update(source.read_at(position, min(CHUNK_BYTES, end - position)))
        return None, digest.hexdigest()


def _open_http(head: Head, block: bytes, max_bytes: int) -> HttpMessage | None:
    """Parse the HTTP layer where the head says there is one; an empty block (a bare revisit) has none."""
    http = head.url.startswith("http") and not head.url.startswith("http-") if head.is_arc else _is_http(head)
    if not http or head.kind not in ("response", "revisit", "request") or not block:
        return None
    return parse_request(block) if head.kind == "request" else parse_response(block, max_bytes)


def _is_http(head: Head) -> bool:
    return split_content_type(head.content_type)[0] == "application/http"


def _read_head(source: Source, position: int) -> Head | None:
    data = source.read_at(position, WINDOW_BYTES)
    if needs_more(data):
        data = source.read_at(position, MAX_HEAD_BYTES)
        if needs_more(data) and len(data) == MAX_HEAD_BYTES:
            return None
    return parse_head(data)


def _end_block(source: Source, start: int, head: Head) -> tuple[int, str | None]:
    """Return where the block that starts here ends, and what is wrong with its declared length."""
    if head.content_length is not None:
        end = start + head.content_length
        if end <= source.size and _is_boundary(source, end, head.is_arc):
            return end, None
    else:
        end = start
    found = _next_head(source, start)
    if found == source.size and (end > source.size or start >= source.size):
        return source.size, "truncated"
    if head.content_length is not None and end <= found and _closing(source, end):
        return end, None  # whole, with bytes behind it that are no record
    return (found if found < source.size or end == start else end), "bad_length"


def _is_boundary(source: Source, end: int, is_arc: bool) -> bool:
    """Tell whether a record may end here: at the end, before another head, or for WARC at its closing blank lines."""
    closing = _closing(source, end)
    if closing == b"\r\n\r\n" and not is_arc:
        return True
    behind = end + len(closing)
    return behind == source.size or is_head(source.read_at(behind, WINDOW_BYTES))


def _closing(source: Source, end: int) -> bytes:
    """Return the line ends, two at most, that close a record whose block ends here."""
    data = source.read_at(end, 4)
    for closing in (b"\r\n\r\n", b"\n\n", b"\r\n", b"\n"):
        if data.startswith(closing):
            return closing
    return b""


def _next_head(source: Source, start: int) -> int:
    """Return where the next head at the beginning of a line lies at or after `start`, or the end."""
    for position in range(max(0, start - 1), source.size, CHUNK_BYTES - OVERLAP_BYTES):
        found = find_head(source.read_at(position, CHUNK_BYTES))
        if found is not None:
            return position + found
    return source.size


def _name_gap(stretch: Stretch, start: int, end: int) -> str:
    if stretch.fault:
        return stretch.fault
    positions = range(start, end, CHUNK_BYTES)
    blank = all(not stretch.source.read_at(at, min(CHUNK_BYTES, end - at)).strip(BLANK) for at in positions)
    return "padding" if blank else "garbage"
