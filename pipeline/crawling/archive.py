"""The archive that a crawl writes: aside under `.partial`, renamed when it is whole."""

import os
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from headrace.pipeline.crawling.wire import Exchange
from headrace.pipeline.errors import StoreError

_HEAD_END = re.compile(rb"\r?\n\r?\n")


class _RawHead(StatusAndHeaders):  # type: ignore[misc]  # warcio has no types
    """An HTTP head that is written as it was received."""

    def __init__(self, raw: bytes) -> None:
        super().__init__("", [])
        self.headers_buff = raw

    def __bool__(self) -> bool:
        return True

    def compute_headers_buffer(self, header_filter: object = None) -> None:
        """Leave the bytes as they are."""


class CrawlArchive:
    """A WARC 1.1 file, gzip member per record where its name ends in `.gz`; used as a context manager.

    Leaving the context normally makes the file whole; an exception removes what was written.
    """

    def __init__(self, out: Path, info: Mapping[str, str]) -> None:
        if out.exists():
            raise StoreError(f"{out} exists already: name another file, or remove it first")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._out, self._partial = out, out.with_name(out.name + ".partial")
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise StoreError(f"{self._partial}: cannot be written: {error.strerror}") from error
        self._writer = WARCWriter(self._file, gzip=out.suffix == ".gz", warc_version="1.1")
        self._writer.write_record(self._writer.create_warcinfo_record(out.name, info))
        self._whole_bytes = self._file.tell()

    def write(self, exchange: Exchange) -> None:
        """Write a response and its request; both or neither survive an interruption."""
        response = self._record(exchange, "response", exchange.received)
        request = self._record(exchange, "request", exchange.sent)
        self._writer.write_request_response_pair(request, response)
        self._whole_bytes = self._file.tell()

    def _record(self, exchange: Exchange, kind: str, data: bytes) -> object:
        fields = {"WARC-Date": exchange.date}
        if exchange.address:
            fields["WARC-IP-Address"] = exchange.address
        if exchange.truncated and kind == "response":
            fields["WARC-Truncated"] = exchange.truncated
        found = _HEAD_END.search(data)
        end = found.end() if found else len(data)
        return self._writer.create_warc_record(
            exchange.url,
            kind,
            payload=BytesIO(data[end:]),
            length=len(data) - end,
            warc_headers_dict=fields,
            http_headers=_RawHead(data[:end]),
        )

    def __enter__(self) -> "CrawlArchive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)
            return
        self._file.truncate(self._whole_bytes)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._partial, self._out)
