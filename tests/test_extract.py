"""Extraction: who is a document and why not, encodings, bounds, determinism, quality on real pages."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipeline.errors import RecipeError
from headrace.pipeline.extract import Dropped, Extracted, clean, extractor_classes, make_extractor
from headrace.pipeline.pages import decode_html, find_title, sniff_html
from headrace.pipeline.readers.contract import Extent, Record
from headrace.pipeline.readers.warc import WarcReader

PROSE = "<p>" + "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all today. " * 6 + "</p>"
HTML = (
    f"<!DOCTYPE html><html><head><title>A &amp; B</title></head><body><article>{PROSE}{PROSE}</article></body></html>"
)
HTML_EXTRACTORS = ("resiliparse", "trafilatura")


def make_page(payload: bytes = HTML.encode(), **values: object) -> Record:
    record = Record(
        extent=Extent(0, 1, "0" * 64),
        kind="response",
        url="http://x.org/",
        date="2024-01-01T00:00:00Z",
        content_type="text/html",
        headers={},
        payload=payload,
        digest="0" * 64,
        block_bytes=len(payload),
        status=200,
    )
    return replace(record, **values)  # type: ignore[arg-type]  # each test names fields of Record


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
def test_a_page_becomes_text(name: str) -> None:
    outcome = make_extractor(name, {}).extract(make_page(metadata={"record_id": "<1>"}))
    assert isinstance(outcome, Extracted)
    assert outcome.text.startswith("The quick brown fox")
    assert outcome.title == "A & B"
    assert outcome.metadata == {"record_id": "<1>", "title": "A & B"}


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
@pytest.mark.parametrize(
    ("values", "reason", "evidence"),
    [
        ({"kind": "request"}, "not_a_document", {"kind": "request"}),
        ({"kind": "revisit"}, "not_a_document", {"kind": "revisit"}),
        ({"fault": "truncated"}, "truncated", {"kind": "response"}),
        ({"status": 404}, "http_status", {"status": 404}),
        ({"content_type": "image/png"}, "not_html", {"content_type": "image/png"}),
        ({"content_type": "application/javascript"}, "not_html", {"content_type": "application/javascript"}),
        ({"content_type": "", "payload": b"%PDF-1.4"}, "not_html", {"content_type": ""}),
        ({"payload": b""}, "empty", {}),
        ({"payload": b"<html><body> </body></html>"}, "empty", {}),
        ({"payload": bytes(range(128, 256)) * 20, "charset": "utf-8"}, "undecodable", {"charset": "utf-8"}),
    ],
)
def test_what_is_no_document_says_why(
    name: str, values: dict[str, object], reason: str, evidence: dict[str, object]
) -> None:
    outcome = make_extractor(name, {}).extract(make_page(**values))
    if reason == "undecodable" and isinstance(outcome, Extracted):
        return  # a detector that finds an encoding for it is right too
    assert outcome == Dropped(reason, evidence)


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
def test_a_page_without_a_stated_type_is_sniffed(name: str) -> None:
    assert isinstance(make_extractor(name, {}).extract(make_page(content_type="")), Extracted)
    assert isinstance(make_extractor(name, {}).extract(make_page(content_type="application/xhtml+xml")), Extracted)


@pytest.mark.parametrize(
    ("data", "html"),
    [
        (b"\xef\xbb\xbf\n <!doctype html>", True),
        (b"<HTML>", True),
        (b"<!-- x --><p>", True),
        (b"<p >x", True),
        (b"<picture>", False),
        (b'<?xml version="1.0"?><rss>', False),
        (b"function f() { return '<html>' }", False),
        (b"", False),
    ],
)
def test_sniffing_follows_whatwg(data: bytes, html: bool) -> None:
    assert sniff_html(data) == html


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
def test_pages_are_bounded_by_bytes_and_elements(name: str) -> None:
    assert make_extractor(name, {"max_bytes": 100}).extract(make_page()) == Dropped("too_large", {"bytes": len(HTML)})
    wide = make_page(b"<html><body>" + b"<i>x</i>" * 500)
    assert make_extractor(name, {"max_nodes": 501}).extract(wide) == Dropped("too_many_nodes", {"nodes": 502})
    assert isinstance(make_extractor(name, {"max_nodes": 502}).extract(wide), Extracted)


def test_deep_pages_cost_no_quadratic_time() -> None:
    deep = make_page(b"<html><body>" + b"<div>" * 90_000 + PROSE.encode())
    assert make_extractor("resiliparse", {}).extract(deep) == Dropped("too_deep", {"max_depth": 256})
    assert isinstance(make_extractor("trafilatura", {}).extract(deep), (Extracted, Dropped))
    fine = make_page(b"<html><body>" + b"<div>" * 200 + PROSE.encode())
    assert isinstance(make_extractor("resiliparse", {}).extract(fine), Extracted)


CYRILLIC = "<html><body><p>" + "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 5 + "</p></body></html>"
GERMAN = "<html><body><p>" + "Größe, Übermut und Straßenbahn: „so“ schön wäre es. " * 5 + "</p></body></html>"


@pytest.mark.parametrize(
    ("text", "encoding", "header"),
    [
        (GERMAN, "utf-8", None),
        (GERMAN, "utf-8", "iso-8859-1"),  # a header that is wrong: the bytes are valid UTF-8
        (GERMAN, "utf-8-sig", "windows-1251"),
        (GERMAN, "cp1252", "iso-8859-1"),  # WHATWG: latin-1 means windows-1252
        (CYRILLIC, "cp1251", "windows-1251"),
        (CYRILLIC, "koi8-r", "KOI8-R"),
        (CYRILLIC, "cp1251", None),
        (CYRILLIC, "cp1251", "nonsense"),
        (CYRILLIC, "utf-16", None),
        ("<html><body>日本語のページです。" * 20, "iso2022_jp", "ISO-2022-JP"),
        ("<html><body>日本語のページです。" * 20, "shift_jis", "Shift_JIS"),
        ("<html><body>中文网页内容。" * 20, "gb18030", "gb2312"),
    ],
)
def test_encodings(text: str, encoding: str, header: str | None) -> None:
    assert decode_html(text.encode(encoding), header) == text


def test_the_meta_tag_is_used_where_the_header_is_silent() -> None:
    for meta in ('<meta charset="koi8-r">', '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">'):
        text = f"<html><head>{meta}</head>{CYRILLIC}"
        assert decode_html(text.encode("koi8-r"), None) == text


def test_a_few_broken_bytes_do_not_change_the_encoding() -> None:
    data = GERMAN.encode() + b"\xff"
    assert decode_html(data, "utf-8") == GERMAN + "\N{REPLACEMENT CHARACTER}"


def test_texts_are_valid_unicode() -> None:
    assert clean("a\r\nb\rc\0d\ud800").encode().startswith(b"a\nb\ncd")
    page = HTML.replace("The quick", "&#xD800;&#0;\0 The quick").encode()
    for name in HTML_EXTRACTORS:
        outcome = make_extractor(name, {}).extract(make_page(page))
        assert isinstance(outcome, Extracted)
        assert "\0" not in outcome.text
        assert outcome.text.encode()


def test_titles() -> None:
    assert find_title("<TITLE lang=de>Gr&ouml;&szlig;e\n x</TITLE>") == "Größe\n x"
    assert find_title("<p>none</p>") == ""


def test_plain_text() -> None:
    plain = make_extractor("plain", {})
    text = make_page("\ufeffone\r\ntwo\n".encode(), kind="conversion", content_type="text/plain", status=None)
    assert plain.extract(text) == Extracted("one\ntwo")
    assert plain.extract(replace(text, payload=b"\xff")) == Dropped("undecodable", {"charset": "utf-8"})
    assert plain.extract(replace(text, payload=b" \n")) == Dropped("empty")
    assert plain.extract(replace(text, fault="bad_encoding")) == Dropped("bad_encoding", {"kind": "conversion"})
    assert plain.extract(make_page()) == Dropped("not_a_document", {"kind": "response"})


def test_wrong_names_and_options_suggest_the_near_miss() -> None:
    with pytest.raises(RecipeError, match="did you mean 'trafilatura'"):
        make_extractor("trafilatur", {})
    with pytest.raises(RecipeError, match="did you mean 'favor_precision'"):
        make_extractor("trafilatura", {"favour_precision": True})


@pytest.mark.parametrize("name", sorted(extractor_classes()))
def test_every_extractor_states_its_libraries(name: str) -> None:
    extractor = make_extractor(name, {})
    assert all(version for version in extractor.resources().values())
    assert isinstance(extractor.version, int)


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), at=st.integers(0, len(HTML)), cut=st.integers(0, 200))
def test_damaged_pages_never_raise(name: str, data: bytes, at: int, cut: int) -> None:
    page = HTML.encode()
    outcome = make_extractor(name, {}).extract(make_page(page[:at] + data + page[at + cut :]))
    assert isinstance(outcome, (Extracted, Dropped))


def iter_pages(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for item in WarcReader().read(file, path.name):
            if isinstance(item, Record) and item.kind == "response":
                yield item


@pytest.mark.parametrize("name", HTML_EXTRACTORS)
def test_order_and_company_do_not_matter(name: str, real_data: Path) -> None:
    pages = list(iter_pages(real_data / "crawl" / "pages-mixed.warc.gz"))[:20]
    extractor = make_extractor(name, {})
    forwards = [extractor.extract(page) for page in pages]
    backwards = [extractor.extract(page) for page in [*pages[::-1], *pages[::-1]]][len(pages) :]
    assert forwards == backwards[::-1]


def score(text: str, reference: str) -> float:
    """F1 over the multisets of lower-cased words, as WCXB scores it; two empty texts agree."""
    ours, theirs = (Counter(re.findall(r"\w+", t.lower())) for t in (text, reference))
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total()) if common else float(not (ours or theirs))


@pytest.mark.parametrize(("name", "least"), [("resiliparse", 0.74), ("trafilatura", 0.80)])
def test_quality_on_real_pages(name: str, least: float, real_data: Path) -> None:
    gold = json.loads(gzip.decompress((real_data / "crawl" / "pages-web.gold.json.gz").read_bytes()))
    pages = list(iter_pages(real_data / "crawl" / "pages-web.warc.gz"))[::7][:100]
    outcomes = [make_extractor(name, {}).extract(page) for page in pages]
    texts = [outcome.text if isinstance(outcome, Extracted) else "" for outcome in outcomes]
    scores = [score(text, gold[page.url]["main_content"] or "") for text, page in zip(texts, pages, strict=True)]
    assert sum(scores) / len(scores) > least


def test_real_archives_lose_no_page_to_guessed_types(real_data: Path) -> None:
    """Of 518 packed pages every one is HTML by its header: none may be dropped as anything else."""
    extractor = make_extractor("resiliparse", {})
    for name in ("news", "mixed", "wikipedia"):
        pages = iter_pages(real_data / "crawl" / f"pages-{name}.warc.gz")
        reasons = Counter(o.reason for o in map(extractor.extract, pages) if isinstance(o, Dropped))
        assert set(reasons) <= {"empty"}
