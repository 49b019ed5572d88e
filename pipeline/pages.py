"""From a record to a page: is it one, in which encoding, and is it small enough to be parsed.

The HTTP header is trusted for the content type; only where it states none is HTML sniffed, by the tags of the WHATWG
MIME Sniffing standard (7.1) and nothing cleverer, since guesses of content types lose real pages. Encodings are
tried in this order: byte order mark, UTF-8 if the bytes are valid UTF-8 (no other text is, by chance), HTTP header,
meta tag (WHATWG's names and prescan of 1,024 bytes), detection. The first that leaves at most one replaced character
in 200 wins.
"""

import re
from dataclasses import dataclass
from html import unescape

from headrace.pipeline.extract import PAGE_KINDS, Dropped
from headrace.pipeline.readers.contract import Record

MAX_BYTES = 16 << 20
MAX_NODES = 100_000
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
DOCUMENT_STATUSES = frozenset({200, 203})
PRESCAN_BYTES = 1024
TOLERATED_REPLACEMENTS = 200  # one in so many characters
HOPELESS_REPLACEMENTS = 20

_SNIFFED = re.compile(
    rb"(?:<!DOCTYPE HTML|<HTML|<HEAD|<SCRIPT|<IFRAME|<H1|<DIV|<FONT|<TABLE|<A|<STYLE|<TITLE|<B|<BODY|<BR|<P|<!--)[ >]",
    re.IGNORECASE,
)
_META = re.compile(
    rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w:.-]+)|<\?xml[^>]{0,200}?encoding=[\"']([\w:.-]+)", re.IGNORECASE
)
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_ASCII_DISGUISES = (
    ("iso2022", b"\x1b"),
    ("utf-16", b"\0"),
)  # valid UTF-8 that is something else, by the byte it needs
_START_TAG = re.compile("<[A-Za-z]")
_TITLE = re.compile(r"<title(?:\s[^>]{0,500})?>([^<]{0,2000})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageLimits:
    """Bounds on a page: bytes of HTML and start tags in it."""

    max_bytes: int = MAX_BYTES
    max_nodes: int = MAX_NODES


def open_page(record: Record, limits: PageLimits) -> str | Dropped:
    """Return the HTML of a record as text, or why it is no page that can be read."""
    return judge_page(record, limits) or decode_page(record, limits)


def judge_page(record: Record, limits: PageLimits) -> Dropped | None:
    """Decide by what the record states whether it is a page; None means that it is."""
    if record.kind not in PAGE_KINDS:
        return Dropped("not_a_document", {"kind": record.kind})
    if record.fault:
        return Dropped(record.fault, {"kind": record.kind})
    if record.status is not None and record.status not in DOCUMENT_STATUSES:
        return Dropped("http_status", {"status": record.status})
    if not (record.content_type in HTML_TYPES or (not record.content_type and sniff_html(record.payload))):
        return Dropped("not_html", {"content_type": record.content_type})
    if len(record.payload) > limits.max_bytes:
        return Dropped("too_large", {"bytes": len(record.payload)})
    return None if record.payload else Dropped("empty")


def decode_page(record: Record, limits: PageLimits) -> str | Dropped:
    """Decode a page and count its start tags."""
    html = decode_html(record.payload, record.charset)
    if html is None:
        return Dropped("undecodable", {"charset": record.charset or ""})
    if html.count("<") > limits.max_nodes:
        nodes = sum(1 for _ in _START_TAG.finditer(html))
        if nodes > limits.max_nodes:
            return Dropped("too_many_nodes", {"nodes": nodes})
    return html


def sniff_html(data: bytes) -> bool:
    """Tell whether bytes without a stated type begin as HTML (WHATWG MIME Sniffing, 7.1)."""
    return bool(_SNIFFED.match(data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\f\r ")))


def decode_html(data: bytes, charset: str | None) -> str | None:
    """Decode HTML; None if no encoding leaves fewer than one character in 20 replaced."""
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    for mark, marked in _MARKS:
        if data.startswith(mark):
            return _bounded(data[len(mark) :].decode(marked, errors="replace"))
    found = _META.search(data[:PRESCAN_BYTES])
    stated = [charset, (found[1] or found[2]).decode("ascii", "ignore") if found else None]
    encodings = [name for label in stated if label and (name := map_encoding_to_html5(label, fallback_utf8=False))]
    first = encodings[0] if encodings else ""
    if not any(first.startswith(name) and needed in data for name, needed in _ASCII_DISGUISES):
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    candidates = []
    for encoding in [*encodings, detect_encoding(data) or "utf-8"]:
        text = data.decode("gb18030" if encoding == "gbk" else encoding, errors="replace")  # as WHATWG decodes GBK
        candidates.append((text.count("\N{REPLACEMENT CHARACTER}"), text))
        if candidates[-1][0] * TOLERATED_REPLACEMENTS <= len(text):
            return text
    return _bounded(min(candidates, key=lambda c: c[0])[1])


def _bounded(text: str) -> str | None:
    replaced = text.count("\N{REPLACEMENT CHARACTER}")
    return text if replaced * HOPELESS_REPLACEMENTS <= len(text) else None


def find_title(html: str) -> str:
    """Return the text of the first title element, entities resolved."""
    found = _TITLE.search(html)
    return unescape(found[1]) if found else ""
