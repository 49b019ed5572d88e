"""Heads of WARC and ARC records: what they declare, and where in a damaged run of bytes the next one begins.

WARC: ISO 28500 (version line, named fields, blank line), read as leniently as archives need: any version number,
bare line feeds, folded fields, fields of the wrong form passed over. ARC: the Internet Archive's version 1 and 2
lines `URL IP date type [code checksum location offset filename] length`, whose URL may hold spaces.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

WINDOW_BYTES = 1 << 13
MAX_HEAD_BYTES = 1 << 20

_WARC_START = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_ARC_PATTERN = (
    rb"(?P<url>[A-Za-z][A-Za-z0-9+.-]{0,20}:[^\r\n]{0,65536}?) (?P<ip>[0-9A-Fa-f.:]{2,45}|-) (?P<date>\d{8,20})"
    rb" (?P<type>[^\r\n ]{1,255})(?P<v2>(?: [^\r\n ]*){5})? (?P<length>-?[0-9A-Za-z]{1,20})[ \t]*\r?\n"
)
_ARC_START = re.compile(_ARC_PATTERN)
_NEXT = re.compile(rb"\n(?=WARC/\d+\.\d+[ \t]*\r?\n[!-9;-~]+:|" + re.sub(rb"\?P<\w+>", b"?:", _ARC_PATTERN) + rb")")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:[ \t]*(.*(?:\r?\n[ \t]+.*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Head:
    """What a record's head declares; `length` is its own in bytes, `content_length` None where missing or no number."""

    length: int
    kind: str
    url: str
    date: str
    content_type: str
    content_length: int | None
    fields: Mapping[str, str] = field(default_factory=dict)
    is_arc: bool = False


def is_head(data: bytes) -> bool:
    """Tell whether a record begins exactly here, by the first line alone."""
    return bool(_WARC_START.match(data) or _ARC_START.match(data))


def find_head(data: bytes, start: int = 0) -> int | None:
    """Return where the first record head at the beginning of a line (not of `data`) lies, or None."""
    found = _NEXT.search(data, start)
    return found.start() + 1 if found else None


def needs_more(data: bytes) -> bool:
    """Tell whether a WARC head begins here whose end is not in `data` yet."""
    return bool(_WARC_START.match(data)) and not _BLANK_LINE.search(data)


def parse_head(data: bytes) -> Head | None:
    """Parse the head that `data` begins with; None if it begins with none. A head cut short has what is there."""
    if version := _WARC_START.match(data):
        return _parse_warc(data, version.end())
    if line := _ARC_START.match(data):
        return _parse_arc(line)
    return None


def parse_fields(block: bytes) -> dict[str, str]:
    """Return named fields by lower-case name; of repeated ones the values joined by a comma (RFC 9110, 5.3)."""
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(block):
        name = match[1].decode("latin-1").lower()
        value = _decode(b" ".join(match[2].split()) if b"\n" in match[2] else match[2].strip())
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _parse_warc(data: bytes, start: int) -> Head:
    blank = _BLANK_LINE.search(data, start - 1)  # a head without fields ends with its version line
    length, end = (blank.end(), blank.start()) if blank else (len(data), len(data))
    fields = parse_fields(data[start : max(start, end)])
    first = {name: value.split(", ")[0] for name, value in fields.items()}
    return Head(
        length=length,
        kind=first.get("warc-type", "unknown").lower(),
        url=_clean_url(fields.get("warc-target-uri", "")),
        date=first.get("warc-date", ""),
        content_type=fields.get("content-type", ""),
        content_length=_parse_length(first.get("content-length", "")) if blank else None,
        fields=fields,
    )


def _parse_arc(line: re.Match[bytes]) -> Head:
    url = _clean_url(_decode(line["url"]))
    date = line["date"].decode()[:14].ljust(14, "0")
    stamp = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z"
    return Head(
        length=len(line[0]),
        kind="arc_header" if url.startswith("filedesc:") else "response",
        url=url,
        date=stamp,
        content_type=_decode(line["type"]),
        content_length=_parse_length(line["length"].decode()),
        is_arc=True,
    )


def _parse_length(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def _clean_url(url: str) -> str:
    """Take off the angle brackets that wget adds and escape spaces, as warcio does."""
    return url.strip().removeprefix("<").removesuffix(">").replace(" ", "%20")
