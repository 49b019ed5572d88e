"""Readers: every byte in a record or a gap, damaged archives included; agreement with FastWARC and warcio."""

import gzip
import io
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.readers.contract import Extent, Gap, Reader, Record, read_extent, reader_classes
from headrace.pipeline.readers.jsonl import JsonlReader
from headrace.pipeline.readers.text import TextReader
from headrace.pipeline.readers.warc import WarcReader

HTML = b"<html><head><title>T</title></head><body><p>Bonjour</p></body></html>"


def make_record(
    body: bytes = HTML, http: bytes = b"Content-Type: text/html; charset=UTF-8\r\n", url: str = "u"
) -> bytes:
    block = b"HTTP/1.1 200 OK\r\n" + http + b"\r\n" + body
    head = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: http://x.org/{url}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{url}>\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def read(data: bytes, reader: Reader | None = None) -> list[Record | Gap]:
    items = list((reader or WarcReader()).read(io.BytesIO(data), "memory"))
    check_tiling(items, io.BytesIO(data))
    return items


def records(items: Iterable[Record | Gap]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def gaps(items: Iterable[Record | Gap]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Gap)]


def check_tiling(items: Sequence[Record | Gap], file: Any) -> None:
    """Check that extents cover the file once and bear the digests of their bytes; shared ones tile what is inside."""
    position, last = 0, None
    for extent in (item.extent for item in items):
        if last and (extent.offset, extent.length) == (last.offset, last.length):
            assert extent.inner
            assert last.inner
            assert extent.inner[0] == last.inner[1]
        else:
            assert extent.offset == position
            assert extent.inner is None or extent.inner[0] == 0
            file.seek(extent.offset)
            assert sha256(file.read(extent.length)).hexdigest() == extent.digest
            position += extent.length
        last = extent
    assert position == file.seek(0, 2)


def test_one_gzip_member_a_record() -> None:
    parts = [gzip.compress(make_record(url=name)) for name in "abc"]
    found = records(read(b"".join(parts)))
    assert [r.url for r in found] == ["http://x.org/a", "http://x.org/b", "http://x.org/c"]
    assert [(r.extent.offset, r.extent.length, r.extent.inner) for r in found] == [
        (0, len(parts[0]), None),
        (len(parts[0]), len(parts[1]), None),
        (len(parts[0]) + len(parts[1]), len(parts[2]), None),
    ]
    assert {(r.payload, r.content_type, r.charset, r.status, r.fault) for r in found} == {
        (HTML, "text/html", "utf-8", 200, None)
    }
    assert found[0].date == "2024-01-02T03:04:05Z"
    assert found[0].metadata == {"record_id": "<urn:uuid:a>"}


def test_same_document_in_every_container() -> None:
    one, two = make_record(url="a"), make_record(url="b")
    frame = zstandard.ZstdCompressor().compress
    containers = {
        "plain": one + two,
        "members": gzip.compress(one) + gzip.compress(two),
        "whole": gzip.compress(one + two),
        "lz4": lz4.frame.compress(one) + lz4.frame.compress(two),
        "zstd": frame(one) + frame(two),
        "blocks": b"".join(gzip.compress((one + two)[at : at + 100]) for at in range(0, len(one + two), 100)),
    }
    for name, data in containers.items():
        found = records(read(data))
        assert [(r.url, r.digest, r.payload) for r in found] == [
            (f"http://x.org/{u}", found[0].digest, HTML) for u in "ab"
        ], name
        for record in found:
            again = read_extent(io.BytesIO(data), record.extent, WarcReader())
            assert again == record, name
    whole = records(read(containers["whole"]))
    assert [r.extent.inner for r in whole] == [(0, len(one)), (len(one), len(one + two))]


def test_zstd_with_its_dictionary_in_a_skippable_frame() -> None:
    samples = [make_record(body=random.Random(i).randbytes(200).hex().encode(), url=str(i)) for i in range(200)]
    dictionary = zstandard.train_dictionary(4096, samples)
    content = dictionary.as_bytes()
    head = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    data = head + b"".join(zstandard.ZstdCompressor(dict_data=dictionary).compress(s) for s in samples[:3])
    items = read(data)
    assert [r.url for r in records(items)] == ["http://x.org/0", "http://x.org/1", "http://x.org/2"]
    assert gaps(items) == ["skippable_frame"]
    assert read_extent(io.BytesIO(data), records(items)[1].extent, WarcReader()) == records(items)[1]


def test_corrupt_member_is_skipped_and_counted() -> None:
    parts = [gzip.compress(make_record(body=random.Random(i).randbytes(4000), url=str(i))) for i in range(3)]
    broken = bytearray(parts[1])
    broken[2000] ^= 0xFF
    items = read(parts[0] + bytes(broken) + parts[2])
    assert [(r.url, r.fault) for r in records(items)] == [
        ("http://x.org/0", None),
        ("http://x.org/1", "corrupt_gzip"),
        ("http://x.org/2", None),
    ]
    broken = bytearray(parts[1])
    broken[12:40] = b"\xff" * 28
    items = read(parts[0] + bytes(broken) + parts[2])
    assert [r.url for r in records(items)] == ["http://x.org/0", "http://x.org/2"]
    assert gaps(items) == ["corrupt_gzip"]


def test_garbage_padding_and_truncation_have_names() -> None:
    one = gzip.compress(make_record(url="a"))
    assert gaps(read(b"\x00" * 7 + one)) == ["padding"]
    assert gaps(read(one + b"\x00" * 512)) == ["padding"]
    assert gaps(read(one + b"not a record" + one)) == ["garbage"]
    cut = gzip.compress(make_record(body=random.Random(0).randbytes(4000), url="b"))[:2000]
    assert [r.fault for r in records(read(one + cut))] == [None, "truncated"]
    assert [(r.url, r.fault) for r in records(read(gzip.compress(make_record() * 2)[:-4]))] == [
        ("http://x.org/u", None),
        ("http://x.org/u", None),
    ]


def test_wrong_lengths_end_at_the_next_head() -> None:
    long = make_record(url="long").replace(b"Content-Length: 1", b"Content-Length: 9")
    short = make_record(url="short", body=b"x" * 500).replace(b"Content-Length: 5", b"Content-Length: 2")
    missing = make_record(url="missing").replace(b"Content-Length", b"Content-Langth")
    good = make_record(url="good")
    items = read(long + good + short + good + missing + good)
    assert [(r.url.rsplit("/")[-1], r.fault) for r in records(items)] == [
        ("long", "bad_length"),
        ("good", None),
        ("short", "bad_length"),
        ("good", None),
        ("missing", "bad_length"),
        ("good", None),
    ]
    assert gaps(items) == []


def test_warc_within_a_record_stays_within_it() -> None:
    inner = make_record(url="inner") * 2
    items = read(make_record(body=inner, url="outer") + make_record(url="next"))
    assert [r.url for r in records(items)] == ["http://x.org/outer", "http://x.org/next"]
    assert records(items)[0].payload == inner


@pytest.mark.parametrize("gz", [False, True])
def test_large_blocks_are_drained(gz: bool) -> None:
    bomb = make_record(body=b"\x00" * 3_000_000, url="bomb")
    data = (gzip.compress(bomb) if gz else bomb) + (gzip.compress if gz else bytes)(make_record(url="good"))
    found = records(read(data, WarcReader(max_record_bytes=100_000)))
    assert [(r.url[13:], r.fault, len(r.payload)) for r in found] == [
        ("bomb", "too_large", 0),
        ("good", None, len(HTML)),
    ]
    assert found[0].digest == sha256(bomb[bomb.index(b"HTTP/") : -4]).hexdigest()
    assert found[0].block_bytes > 3_000_000


def test_whole_file_gzip_beyond_memory_is_inflated_in_passing() -> None:
    rng = random.Random(0)
    bodies = [rng.randbytes(50_000).hex().encode() for _ in range(40)]
    data = gzip.compress(b"".join(make_record(body=body, url=str(i)) for i, body in enumerate(bodies)), 1)
    found = records(read(data, WarcReader(max_record_bytes=200_000)))
    assert [r.payload for r in found] == bodies


def encode_chunked(data: bytes, size: int = 20) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def encode(name: str, data: bytes) -> bytes:
    import brotli  # type: ignore[import-untyped]  # ships no stubs

    raw = zlib.compressobj(wbits=-15)
    encoders = {
        "gzip": gzip.compress,
        "two members": lambda d: gzip.compress(d[:30]) + gzip.compress(d[30:]),
        "deflate": zlib.compress,
        "raw deflate": lambda d: raw.compress(d) + raw.flush(),
        "br": brotli.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "chunked": encode_chunked,
    }
    encoded: bytes = encoders[name](data)
    return encoded


@pytest.mark.parametrize(
    ("coding", "header"),
    [
        ("gzip", "gzip"),
        ("two members", "x-gzip"),
        ("deflate", "deflate"),
        ("raw deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ],
)
def test_content_codings_are_undone(coding: str, header: str) -> None:
    data = encode(coding, HTML * 50)
    http = f"Content-Type: text/html\r\nContent-Encoding: {header}\r\n".encode()
    (record,) = records(read(make_record(data, http)))
    assert (record.payload, record.fault) == (HTML * 50, None)
    (record,) = records(read(make_record(encode_chunked(data), http + b"Transfer-Encoding: chunked\r\n")))
    assert (record.payload, record.fault) == (HTML * 50, None)
    (record,) = records(read(make_record(HTML, http + b"Transfer-Encoding: chunked\r\n")))
    assert (record.payload, record.fault) == (HTML, None), "declared, but stored decoded"
    (record,) = records(read(make_record(data[: len(data) // 2], http)))
    assert record.fault in ("truncated", "bad_content_encoding")
    (record,) = records(read(make_record(data, http), WarcReader(max_record_bytes=len(HTML) * 20)))
    assert record.fault == "too_large"


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (b"no status line", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n", "bad_transfer_encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n9\r\nab", "truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n\xff\xff\xff\xff", "bad_content_encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\n\r\nabc", "bad_content_encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: utf-8\r\n\r\nabc", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabc", None),
        (b"HTTP/1.0 304 Not Modified\r\nServer: x", None),
    ],
)
def test_faults_of_the_http_layer(block: bytes, fault: str | None) -> None:
    head = f"WARC/1.0\nWARC-Type: response\nContent-Type: application/http\nContent-Length: {len(block)}\n\n"
    (record,) = records(read(head.encode() + block + b"\n\n"))
    assert record.fault == fault


def test_arc_versions_and_urls_with_spaces() -> None:
    body = b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n<p>x</p>"
    first = b"1 0 Test\nURL IP-address Archive-date Content-type Archive-length\n"
    data = (
        b"filedesc://t.arc 0.0.0.0 20080430204825 text/plain %d\n%s\n" % (len(first), first)
        + b"http://x.org/a b?c d 1.2.3.4 20080430204826 text/html %d\n%s\n" % (len(body), body)
        + b"http://x.org/v2 1.2.3.4 20080430204827 text/html 200 - - 99 t.arc %d\n%s\n" % (len(body), body)
        + b"dns:x.org 1.2.3.4 20080430204828 text/dns 3\nabc\n"
    )
    items = read(data)
    assert [(r.kind, r.url, r.date[-6:], r.fault) for r in records(items)] == [
        ("arc_header", "filedesc://t.arc", "48:25Z", None),
        ("response", "http://x.org/a%20b?c%20d", "48:26Z", None),
        ("response", "http://x.org/v2", "48:27Z", None),
        ("resource", "dns:x.org", "48:28Z", None),
    ]
    assert gaps(items) == []


def test_changed_bytes_are_noticed() -> None:
    data = bytearray(gzip.compress(make_record()) * 2)
    (_, second) = records(read(bytes(data)))
    data[second.extent.offset + 30] ^= 1
    with pytest.raises(IntegrityError):
        read_extent(io.BytesIO(data), second.extent, WarcReader())
    with pytest.raises(IntegrityError):
        read_extent(io.BytesIO(b"short"), Extent(0, 10, "0" * 64), WarcReader())


@pytest.mark.parametrize("name", ["warc", "text", "jsonl"])
def test_nothing_to_read_is_an_input_error(name: str) -> None:
    reader = reader_classes()[name]()
    with pytest.raises(InputError, match="memory"):
        list(reader.read(io.BytesIO(b""), "memory"))
    if name != "text":
        with pytest.raises(InputError, match="memory"):
            list(reader.read(io.BytesIO(b"plain prose\n" * 10), "memory"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_never_loses_a_byte(data: st.DataObject) -> None:
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    parts = [make_record(body=rng.randbytes(rng.randrange(300)), url=str(i)) for i in range(4)]
    pack = data.draw(st.sampled_from([bytes, gzip.compress, lz4.frame.compress, zstandard.ZstdCompressor().compress]))
    whole = data.draw(st.booleans())
    packed = bytearray(pack(b"".join(parts)) if whole else b"".join(map(pack, parts)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = rng.randrange(len(packed))
        action = rng.randrange(3)
        if action == 0:
            packed[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del packed[at : at + rng.randrange(200)]
        else:
            packed[at:at] = rng.randbytes(rng.randrange(50))
    for reader in (WarcReader(), WarcReader(max_record_bytes=200), TextReader(), JsonlReader()):
        items: list[Record | Gap] = []
        try:
            items.extend(reader.read(io.BytesIO(packed), "memory"))
        except InputError:
            continue
        check_tiling(items, io.BytesIO(packed))


def archives(real_data: Path) -> list[Path]:
    return sorted(p for p in (real_data / "crawl").rglob("*") if p.is_file() and ".json" not in p.name)


def count_fastwarc(path: Path) -> Counter[str]:
    from fastwarc.warc import ArchiveIterator

    with path.open("rb") as file:
        return Counter(str(r.headers.get("WARC-Type")) for r in ArchiveIterator(file, parse_http=False))


def count_warcio(path: Path) -> Counter[str]:
    from warcio.archiveiterator import ArchiveIterator

    with path.open("rb") as file:
        return Counter(r.rec_type for r in ArchiveIterator(file))


# Where a library counts other than we do, and why. Every other file agrees record by record.
FASTWARC_DIFFERS = {
    "sample.warc.txt": "lengths count CRLF and the file has LF: it takes the rest of the file as one record",
    "example-trunc.warc": "raises at the first record whose length is wrong",
    "standard-torture-validate-field.warc": "returns one record of three",
    "standard-torture-validate-field.warc.1.warc.gz": "returns one record of three",
}
WARCIO_DIFFERS = {
    "sample.warc.txt": "raises at the first record whose length is wrong",
    "block-sized-records.warc.lz4": "does not read LZ4",
    "warcfile.warc.lz4": "does not read LZ4",
    "example-bad-non-chunked.warc.gz": "refuses records that share a member",
    "example-bad.warc.gz.bad": "refuses records that share a member",
    "example-wrong-chunks.warc.gz": "refuses records cut across members",
    "standard-torture-validate-field.warc": "raises at a version that is no number, after three records",
    "standard-torture-validate-field.warc.1.warc.gz": "raises at a version that is no number, after three records",
}


@pytest.mark.filterwarnings("default")
def test_real_archives_tile_and_agree_with_fastwarc_and_warcio(real_data: Path) -> None:
    differs: dict[str, set[str]] = {"fastwarc": set(), "warcio": set()}
    for path in archives(real_data):
        ours: Counter[str] = Counter()
        with path.open("rb") as file:
            try:
                items = list(WarcReader().read(file, path.name))
                check_tiling(items, file)
                ours.update(r.kind for r in records(items))
            except InputError:
                assert path.name == "example-digest-bad.warc.test"
        for peer, count in (("fastwarc", count_fastwarc), ("warcio", count_warcio)):
            is_arc = path.name.endswith((".arc", ".arc.gz"))
            if is_arc and peer == "fastwarc":
                continue
            try:
                theirs = count(path)
            except Exception:
                theirs = Counter()
            same = theirs.total() == ours.total() if is_arc else theirs == ours
            if not same:
                differs[peer].add(path.name)
    assert differs["fastwarc"] == set(FASTWARC_DIFFERS)
    assert differs["warcio"] == set(WARCIO_DIFFERS)


def test_payloads_agree_with_fastwarc(real_data: Path) -> None:
    from fastwarc.warc import ArchiveIterator

    for name in ("archives/aut/warc/example.warc.gz", "archives/dolma/warc/sample-0000.warc.gz", "pages-mixed.warc.gz"):
        path = real_data / "crawl" / name
        with path.open("rb") as ours, path.open("rb") as theirs:
            for item, peer in zip(
                records(WarcReader().read(ours, name)),
                ArchiveIterator(theirs, auto_decode="all"),
                strict=True,
            ):
                assert item.extent.offset == peer.stream_pos
                assert item.url == (peer.headers.get("WARC-Target-URI") or "").strip("<>")
                if item.kind == "response" and not item.fault:
                    assert item.payload == peer.reader.read()
                    assert item.status == (peer.http_headers.status_code if peer.is_http else None)


def test_records_of_real_archives_can_be_read_again(real_data: Path) -> None:
    for path in archives(real_data):
        if path.stat().st_size > 300_000:
            continue
        with path.open("rb") as file:
            try:
                found = [r for r in records(WarcReader().read(file, path.name)) if r.fault is None]
            except InputError:
                continue
            for record in found:
                assert read_extent(file, record.extent, WarcReader()) == record


def test_text_files() -> None:
    text = "Größe\r\nüber alles".encode()
    for data in (text, gzip.compress(text), zstandard.ZstdCompressor().compress(text)):
        (record,) = records(read(data, TextReader()))
        assert (record.payload, record.fault, record.url) == (text, None, "")
        assert (record.extent.offset, record.extent.length, record.extent.inner) == (0, len(data), None)
        assert record.digest == sha256(text).hexdigest()
    for uri, name in (("books/ENG18950_Cross.txt.gz", "ENG18950_Cross"), ("file:///a/my%20book.txt", "my book")):
        (record,) = records(TextReader().read(io.BytesIO(text), uri))
        assert record.metadata == {"name": name}
    assert [r.fault for r in records(read(b"caf\xe9", TextReader()))] == ["bad_encoding"]
    assert [r.fault for r in records(read(b"x" * 1000, TextReader(max_record_bytes=10)))] == ["too_large"]
    assert [r.fault for r in records(read(gzip.compress(random.Random(0).randbytes(999))[:500], TextReader()))] == [
        "truncated"
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_json_lines(pack: Any) -> None:
    rows = [{"text": "one", "url": "http://x.org/1", "date": "2024", "id": 7, "lang": "en"}, {"text": "two"}]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    broken = [b"\n", b"{broken\n", b'["list"]\n', b'{"text": 5}\n', b'{"text": "\\ud800"}\n', b'\xff{"text": ""}']
    data = pack(b"".join(lines + broken))
    items = read(data, JsonlReader(metadata_keys=("lang",)))
    found = records(items)
    assert [(r.payload.decode(), r.url, r.date) for r in found[:2]] == [
        ("one", "http://x.org/1", "2024"),
        ("two", "", ""),
    ]
    assert found[0].metadata == {"id": "7", "lang": "en"}
    assert [r.fault for r in found] == [None, None, "bad_json", "bad_json", "bad_json", "bad_encoding", "bad_json"]
    assert gaps(items) == ["padding"]
    assert (found[1].extent.inner is None) == (pack is bytes)
    for record in found:
        assert read_extent(io.BytesIO(data), record.extent, JsonlReader(metadata_keys=("lang",))) == record


def test_truncated_json_lines_keep_what_is_whole() -> None:
    rng = random.Random(0)
    lines = [json.dumps({"text": rng.randbytes(400).hex()}).encode() + b"\n" for _ in range(50)]
    found = records(read(gzip.compress(b"".join(lines))[:8000], JsonlReader()))
    assert [r.fault for r in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1].fault == "truncated"
