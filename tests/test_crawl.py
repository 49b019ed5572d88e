"""The crawler against a site on this machine: what it takes, what it leaves, what it writes, how it ends."""

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.crawl import CrawledPage, CrawlLimits, NothingCrawledError, crawl
from headrace.pipeline.crawling.addresses import resolve, visit_key
from headrace.pipeline.crawling.links import find_links
from headrace.pipeline.errors import InputError, StoreError
from headrace.pipeline.extract import Extracted, make_extractor
from headrace.pipeline.readers.contract import Gap, Record, read_extent
from headrace.pipeline.readers.warc import WarcReader
from tests.commands import headrace

Answer = tuple[int, dict[str, str], bytes]
HTML = {"Content-Type": "text/html; charset=utf-8"}


class Site:
    """Answers by path; paths without an entry are 404. `log` keeps what was asked for, with the time."""

    def __init__(self, pages: dict[str, Answer]) -> None:
        self.pages, self.log = pages, list[tuple[str, float]]()
        self.address = ""

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.log]

    def answer(self, path: str) -> Answer:
        self.log.append((path, time.monotonic()))
        if path.startswith("/deep/"):
            number = int(path.rsplit("/", 1)[1])
            return 200, HTML, f"<a href='/deep/{number + 1}'>on</a>".encode()
        return self.pages.get(path, (404, HTML, b"<a href='/never'>gone</a>"))


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = site.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            if headers.get("Connection") == "close":
                self.close_connection = True

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        site.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def html(*links: str, text: str = "words") -> Answer:
    anchors = "".join(f"<li><a href='{link}'>{link}</a>" for link in links)
    return 200, HTML, f"<html><body><p>{text}</p>{anchors}</body></html>".encode()


def read(path: Path) -> list[Record]:
    with path.open("rb") as file:
        items = list(WarcReader().read(file, path.name))
        assert not [item for item in items if isinstance(item, Gap)]
        found = [item for item in items if isinstance(item, Record)]
        for record in found:
            assert read_extent(file, record.extent, WarcReader()) == record
    return found


def urls(path: Path, kind: str = "response") -> list[str]:
    return [record.url.split("/", 3)[3] for record in read(path) if record.kind == kind]


def chunked(body: bytes) -> bytes:
    return b"%x;x=y\r\n%s\r\n0\r\nTrailer: 1\r\n\r\n" % (len(body), body)


SITE: dict[str, Answer] = {
    "/robots.txt": (200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /private\n"),
    "/": html(
        "/a", "/b#part", "/a?utm_source=x", "private/x", "/moved", "/gone", "http://other.example/", "mailto:a@b.c"
    ),
    "/a": html("/", "/b", "/c"),
    "/b": (200, HTML | {"Transfer-Encoding": "chunked"}, chunked(html("/c")[2])),
    "/c": (200, HTML | {"Content-Encoding": "gzip"}, gzip.compress(html("/photo", "/big", text="zipped")[2])),
    "/moved": (301, {"Location": "/target"}, b""),
    "/target": html("/loop1"),
    "/loop1": (302, {"Location": "/loop2"}, b""),
    "/loop2": (302, {"Location": "/loop1"}, b""),
    "/photo": (200, {"Content-Type": "image/jpeg"}, b"\xff\xd8" * 1000),
    "/big": (200, HTML, b"<html>" + b"x" * 300_000),
}


def test_a_site_is_crawled_in_order_and_archived(tmp_path: Path) -> None:
    seen: list[CrawledPage] = []
    with serve(Site(SITE)) as site:
        out = tmp_path / "site.warc.gz"
        report = crawl([site.address], out, CrawlLimits(page_bytes=100_000), on_page=seen.append)
    order = ["robots.txt", "", "a", "b", "moved", "target", "gone", "c", "loop1", "loop2", "big"]
    assert urls(out) == order
    assert urls(out, "request") == order
    assert site.paths == [f"/{path}" for path in [*order[:-1], "photo", "big"]]
    assert report.ended_by == "done"
    assert report.statuses == {200: 7, 301: 1, 302: 2, 404: 1}
    assert report.skipped == {"robots": 1, "other_host": 1, "not_html": 1, "truncated_length": 1}
    assert (report.pages, report.requests, report.errors) == (6, 12, {})
    assert [page.url.split("/", 3)[3] for page in seen] == order[1:]
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_written_is_what_was_on_the_wire(tmp_path: Path) -> None:
    with serve(Site(SITE)) as site:
        out = tmp_path / "site.warc.gz"
        crawl([site.address], out, CrawlLimits(page_bytes=100_000))
    archive = gzip.decompress(out.read_bytes())
    assert chunked(html("/c")[2]) in archive
    assert SITE["/c"][2] in archive
    assert b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:" in archive
    assert b"WARC-IP-Address: 127.0.0.1" in archive
    by_url = {record.url.split("/", 3)[3]: record for record in read(out) if record.kind == "response"}
    assert by_url["b"].payload == html("/c")[2]
    assert b"zipped" in by_url["c"].payload
    assert by_url["big"].metadata["truncated"] == "length"
    assert {r.fault for r in by_url.values()} == {None}
    check = subprocess.run(
        [sys.executable, "-m", "warcio.cli", "check", "-v", str(out)], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
    assert check.stdout.count("digest pass") >= 2 * len(by_url)


def test_a_crawl_can_be_read_into_documents(tmp_path: Path) -> None:
    prose = "Mills need water, and water needs a channel that carries it without losing a drop of it. " * 8
    with serve(Site({"/": html(text=prose)})) as site:
        crawl([site.address], tmp_path / "x.warc")
    outcomes = [make_extractor("trafilatura", {}).extract(record) for record in read(tmp_path / "x.warc")]
    texts = [outcome.text for outcome in outcomes if isinstance(outcome, Extracted)]
    assert len(texts) == 1, outcomes
    assert prose.strip() in texts[0]


def test_depth_pages_bytes_and_time_end_a_crawl_with_a_whole_file(tmp_path: Path) -> None:
    cases = {
        "done": CrawlLimits(depth=3),
        "pages": CrawlLimits(pages=5, depth=10**9),
        "bytes": CrawlLimits(bytes=2000, depth=10**9),
        "seconds": CrawlLimits(seconds=0.3, depth=10**9),
    }
    with serve(Site({})) as site:
        for ended_by, limits in cases.items():
            out = tmp_path / f"{ended_by}.warc.gz"
            report = crawl([f"{site.address}/deep/0"], out, limits)
            assert report.ended_by == ended_by
            assert report.pages == sum(r.status == 200 for r in read(out) if r.kind == "response")
            assert report.pages > 0
            if ended_by == "done":
                assert (report.pages, report.skipped) == (4, {"depth": 1})
            if ended_by == "pages":
                assert report.pages == 5


def test_an_interrupted_crawl_leaves_a_whole_file_a_killed_one_none(tmp_path: Path) -> None:
    def interrupt(page: CrawledPage) -> None:
        if page.url.endswith("/3"):
            raise KeyboardInterrupt

    def fail(page: CrawledPage) -> None:
        raise OSError("killed")

    with serve(Site({})) as site:
        report = crawl([f"{site.address}/deep/0"], tmp_path / "a.warc.gz", on_page=interrupt)
        assert (report.ended_by, report.pages) == ("interrupted", 4)
        assert len(read(tmp_path / "a.warc.gz")) == 1 + 2 * 5
        with pytest.raises(OSError, match="killed"):
            crawl([f"{site.address}/deep/0"], tmp_path / "b.warc.gz", on_page=fail)
        assert [p.name for p in tmp_path.iterdir()] == ["a.warc.gz"]
        with pytest.raises(StoreError, match="exists already"):
            crawl([site.address], tmp_path / "a.warc.gz")


def test_crawl_delay_is_kept(tmp_path: Path) -> None:
    robots = b"User-agent: *\nCrawl-delay: 0.3\n"
    with serve(Site({"/robots.txt": (200, {}, robots), "/": html("/a"), "/a": html()})) as site:
        crawl([site.address], tmp_path / "x.warc.gz")
    (_, _), (_, first), (_, second) = site.log
    assert second - first >= 0.3


@pytest.mark.parametrize(
    ("robots", "skipped"),
    [
        ((404, {}, b"User-agent: *\nDisallow: /"), {}),
        ((403, {}, b""), {}),
        ((500, {}, b""), {"robots_unreachable": 1}),
        ((200, {}, b"User-agent: headrace\nDisallow: /\n\nUser-agent: *\nAllow: /"), {"robots": 1}),
        ((200, {}, b"User-agent: other\nDisallow: /"), {}),
        ((302, {"Location": "/elsewhere.txt"}, b""), {"robots": 1}),
        ((200, {}, b"\xff\xfe garbage \x00"), {}),
    ],
)
def test_robots_by_rfc_9309(robots: Answer, skipped: dict[str, int], tmp_path: Path) -> None:
    pages = {"/robots.txt": robots, "/": html(), "/elsewhere.txt": (200, {}, b"User-agent: *\nDisallow: /")}
    with serve(Site(pages)) as site:
        if not skipped:
            assert crawl([site.address], tmp_path / "x.warc.gz").pages == 1
            return
        with pytest.raises(NothingCrawledError, match=r"robots\.txt (forbids it|cannot be had: status 500)") as caught:
            crawl([site.address], tmp_path / "x.warc.gz")
    assert (caught.value.report.pages, caught.value.report.skipped) == (0, skipped)


def test_failures_are_counted_and_not_fatal(tmp_path: Path) -> None:
    short = (200, HTML | {"Content-Length": "1000", "Connection": "close"}, b"<html>short")
    busy = (503, HTML, b"busy")
    with serve(Site({"/": html("/short", "/busy", "/fine"), "/short": short, "/busy": busy, "/fine": html()})) as site:
        report = crawl([site.address], tmp_path / "x.warc.gz")
    assert report.errors == {"broken": 1}
    assert report.statuses[503] == 1
    assert (report.pages, report.ended_by) == (2, "done")


def test_a_crawl_without_a_page_says_why_and_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "x.warc.gz"
    with pytest.raises(NothingCrawledError, match=r"http://127\.0\.0\.1:9/: .*connection refused") as caught:
        crawl(["http://127.0.0.1:9/"], out)
    assert caught.value.report.skipped == {"robots_unreachable": 1}
    pdf = (200, {"Content-Type": "application/pdf"}, b"%PDF")
    with serve(Site({"/pdf": pdf})) as site:
        for path, cause in (("/", "status 404"), ("/pdf", "not HTML")):
            with pytest.raises(NothingCrawledError, match=cause):
                crawl([site.address + path], out)
        with pytest.raises(NothingCrawledError, match="limit of seconds"):
            crawl([site.address], out, CrawlLimits(seconds=0))
        ran = headrace("crawl", site.address, "--out", out, "--json")
    assert (ran.status, ran.json["kind"]) == (1, "NothingCrawledError")
    assert "status 404" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_delay_that_is_asked_for_is_kept_on_this_machine_too(tmp_path: Path) -> None:
    with serve(Site({"/": html("/a"), "/a": html()})) as site:
        crawl([site.address], tmp_path / "x.warc.gz", CrawlLimits(delay_seconds=0.2))
    moments = [moment for _, moment in site.log]
    assert all(later - sooner >= 0.2 for sooner, later in pairwise(moments))
    assert len(moments) == 3


def test_other_hosts_on_request(tmp_path: Path) -> None:
    with serve(Site({"/": html()})) as there, serve(Site({})) as here:
        here.pages["/"] = html(f"{there.address}/")
        near = crawl([here.address], tmp_path / "a.warc.gz")
        far = crawl([here.address], tmp_path / "b.warc.gz", CrawlLimits(same_host=False))
        here.pages["/"] = (301, {"Location": f"{there.address}/"}, b"")
        moved = crawl([here.address], tmp_path / "c.warc.gz")
    assert (near.pages, near.skipped["other_host"]) == (1, 1)
    assert far.pages == 2
    assert moved.pages == 1


def test_nofollow() -> None:
    page = "<a href=/1>1</a><a rel='x NoFollow' href=/2>2</a><area href='?q=3'><a href='javascript:x'>"
    page += "4</a><a href=/1#z>1</a>"
    assert find_links(page, "http://x.org/d/", {}) == ["http://x.org/1", "http://x.org/d/?q=3"]
    assert find_links(f"<base href='//y.org/'>{page}", "http://x.org/d/", {})[0] == "http://y.org/1"
    assert find_links(f"<meta name=Robots content='index, nofollow'>{page}", "http://x.org/", {}) == []
    assert find_links(page, "http://x.org/", {"x-robots-tag": "none"}) == []


def test_addresses() -> None:
    assert resolve("HTTP://User:pw@Ex.ORG:80/a b?q=ü#f") == "http://ex.org/a%20b?q=%C3%BC"
    assert resolve("../x", "https://ex.org:8443/a/b/c") == "https://ex.org:8443/a/x"
    assert resolve("http://[::1]:8000") == "http://[::1]:8000/"
    for bad in ("ftp://x.org", "mailto:x", "http://", "http://[", "http://x.org:99999/", "http://x.org/" + "a" * 3000):
        assert resolve(bad) is None
    assert visit_key("http://x.org/?b=1&a=2&utm_source=z") == visit_key("http://x.org/?a=2&b=1")
    with pytest.raises(InputError, match="ftp://x"):
        crawl(["ftp://x"], Path("never.warc"))
    with pytest.raises(InputError, match="nothing to crawl"):
        crawl([], Path("never.warc"))


def test_a_chain_of_pages_is_followed_to_its_limit(tmp_path: Path) -> None:
    with serve(Site({})) as site:
        report = crawl([f"{site.address}/deep/0"], tmp_path / "x.warc.gz", CrawlLimits(pages=100, depth=10**9))
    assert report.pages == 100
