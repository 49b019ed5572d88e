"""The HTTP layer of a record, undone: head parsed, transfer and content codings removed.

Archives lie about codings: many keep the headers and store the body decoded. So a coding is undone where the body
bears its marks (a chunk size, a magic number) and passed over where it does not; once begun, a body that breaks is
a fault. Nothing here raises on bad data, and no more than `max_bytes` is ever inflated.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.pipeline.readers.codecs import CorruptMemberError, GzipInflater, Inflater, ZstdInflater
from headrace.pipeline.readers.heads import parse_fields

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})[^\n]*(?:\n|$)")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]{0,4096})?\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_UNSUPPORTED = frozenset({"compress", "x-compress", "sdch", "dcb", "dcz"})

Undone = tuple[bytes, str | None]


class TooLargeError(Exception):
    """A body inflates to more than the limit."""


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A response or request without its wrapping; `status` is None for a request."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes
    fault: str | None


def parse_response(block: bytes, max_bytes: int) -> HttpMessage:
    """Parse a response and undo its codings; `bad_http` if there is no status line. Interim responses are skipped."""
    status, headers, body = None, {}, block
    while line := _STATUS.match(body):
        status = int(line[1])
        head, body = split_head(body)
        headers = parse_fields(head[line.end() :])
        if status >= 200:
            break
    if status is None:
        return HttpMessage(None, {}, block, "bad_http")
    body, fault = undo_codings(body, headers, max_bytes)
    return HttpMessage(status, headers, body, fault)


def parse_request(block: bytes) -> HttpMessage:
    """Parse a request; its body is left as sent."""
    head, body = split_head(block)
    return HttpMessage(None, parse_fields(head.partition(b"\n")[2]), body, None)


def split_head(block: bytes) -> tuple[bytes, bytes]:
    """Split at the first blank line; a block without one is all head."""
    end = _HEAD_END.search(block)
    return (block[: end.start()], block[end.end() :]) if end else (block, b"")


def split_content_type(value: str) -> tuple[str, str | None]:
    """Return the media type in lower case, without parameters, and the charset if one is named."""
    charset = _CHARSET.search(value)
    return re.split("[;,]", value)[0].strip().lower(), charset[1].lower() if charset else None


def undo_codings(body: bytes, headers: Mapping[str, str], max_bytes: int) -> Undone:
    """Undo transfer codings, then content codings, last applied first; what is there and the first fault."""
    for name, fault in (
        ("transfer-encoding", "bad_transfer_encoding"),
        ("content-encoding", "bad_content_encoding"),
    ):
        for coding in reversed(headers.get(name, "").lower().split(",")):
            try:
                body, broken = _undo(coding.strip(), body, max_bytes)
            except TooLargeError:
                return b"", "too_large"
            if broken:
                return body, fault if broken == "bad" else broken
    return body, None


def _undo(coding: str, body: bytes, max_bytes: int) -> Undone:
    """Undo one coding; the second value is None, `bad` or `truncated`. Unknown names ("none", "utf-8") mean none."""
    if not body:
        return body, None
    if coding in _UNSUPPORTED:
        return body, "bad"
    undo = _CODINGS.get(coding)
    return undo(body, max_bytes) if undo else (body, None)


def undo_chunked(body: bytes, _max_bytes: int) -> Undone:
    """Undo chunked transfer coding (RFC 9112, 7.1); a body that begins with no chunk size was undone before."""
    pieces: list[bytes] = []
    position = 0
    while size := _CHUNK_SIZE.match(body, position):
        length, start = int(size[1], 16), size.end()
        if length == 0:
            return b"".join(pieces), None
        pieces.append(body[start : start + length])
        position = start + length
        if position > len(body):
            return b"".join(pieces), "truncated"
        position += len(body[position : position + 2]) - len(body[position : position + 2].lstrip(b"\r\n"))
    if not pieces:
        return body, None
    return b"".join(pieces), "truncated" if position >= len(body) else "bad"


def undo_gzip(body: bytes, max_bytes: int) -> Undone:
    """Undo gzip, several members included; bytes behind the last one are ignored, as browsers do."""
    pieces: list[bytes] = []
    while body.startswith(b"\x1f\x8b"):
        inflater = GzipInflater()
        broken = _inflate(inflater, body, pieces, max_bytes)
        if broken:
            return b"".join(pieces), broken
        body = body[len(body) - inflater.unused :]
    return (b"".join(pieces), None) if pieces else (body, None)


def undo_zstd(body: bytes, max_bytes: int) -> Undone:
    """Undo zstd (RFC 8878)."""
    if not body.startswith(b"\x28\xb5\x2f\xfd"):
        return body, None
    pieces: list[bytes] = []
    broken = _inflate(ZstdInflater(), body, pieces, max_bytes)
    return b"".join(pieces), broken


def undo_deflate(body: bytes, max_bytes: int) -> Undone:
    """Undo deflate, with zlib's wrapping as RFC 9110 says or bare as some servers send it."""
    for window_bits in (15, -15):
        stream = zlib.decompressobj(window_bits)
        try:
            data = stream.decompress(body, max_bytes + 1)
        except zlib.error:
            continue
        if len(data) > max_bytes:
            raise TooLargeError
        return data, None if stream.eof else "truncated"
    return (body, None) if _looks_plain(body) else (body, "bad")


def undo_brotli(body: bytes, max_bytes: int) -> Undone:
    """Undo brotli (RFC 7932), which has no magic: a body that fails at once and looks like text was plain."""
    import brotli  # type: ignore[import-untyped]  # ships no stubs

    stream = brotli.Decompressor()
    pieces, data, size = [], body, 0
    try:
        while not stream.is_finished():
            piece = stream.process(data, output_buffer_limit=1 << 16)
            size += len(piece)
            if size > max_bytes:
                raise TooLargeError
            pieces.append(piece)
            data = b""
            if not piece and stream.can_accept_more_data():
                return b"".join(pieces), "truncated"
    except brotli.error:
        return (body, None) if _looks_plain(body) else (b"".join(pieces), "bad")
    return b"".join(pieces), None


def _inflate(inflater: Inflater, body: bytes, pieces: list[bytes], max_bytes: int) -> str | None:
    size = sum(map(len, pieces))
    try:
        for piece in inflater.feed(body):
            size += len(piece)
            if size > max_bytes:
                raise TooLargeError
            pieces.append(piece)
    except CorruptMemberError:
        return "bad"
    return None if inflater.eof else "truncated"


def _looks_plain(body: bytes) -> bool:
    """Tell whether a body begins like markup or JSON, byte order mark and white space aside."""
    return body[:512].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"<", b"{", b"[")


_CODINGS: Mapping[str, Callable[[bytes, int], Undone]] = {
    "chunked": undo_chunked,
    "gzip": undo_gzip,
    "x-gzip": undo_gzip,
    "deflate": undo_deflate,
    "br": undo_brotli,
    "zstd": undo_zstd,
}
