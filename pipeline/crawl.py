"""A small, polite crawl: breadth first from seeds, one request at a time, into one WARC file.

The order is that of a queue, links in page order, so a site that does not change is crawled the same way twice. Every
host's robots.txt is honoured (RFC 9309), as are `nofollow` and crawl delays; between two requests to a host at least a
second passes, unless it is this machine or another delay was asked for. A page that fails is counted. Limits and Ctrl-C
end a crawl with a whole file; a killed one leaves only `FILE.partial`.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from headrace.pipeline.crawling.addresses import host_of, is_loopback, resolve, visit_key
from headrace.pipeline.crawling.archive import CrawlArchive
from headrace.pipeline.crawling.links import find_links
from headrace.pipeline.crawling.robots import Robots
from headrace.pipeline.crawling.wire import Exchange, FetchError, fetch, open_session
from headrace.pipeline.errors import InputError
from headrace.pipeline.pages import HTML_TYPES, decode_html
from headrace.pipeline.readers.http_message import parse_response, split_content_type

DEFAULT_USER_AGENT = "headrace/0.1 (research crawler)"
MAX_HOPS = 5
DELAY_SECONDS = 1.0
ROBOTS_BYTES = 1 << 20


@dataclass(frozen=True)
class CrawlLimits:
    """Where a crawl ends: pages archived, links from a seed, bytes received, seconds; and how large one page may be.

    `delay_seconds` is the least time between two requests to a host, by default a second, and none to this machine;
    robots.txt may ask for more. With `same_host` only hosts of seeds, and those that a seed redirects to, are visited.
    With `only_html` other types are not downloaded.
    """

    pages: int = 1000
    depth: int = 10
    bytes: int = 1 << 30
    seconds: float = 3600.0
    same_host: bool = True
    only_html: bool = True
    page_bytes: int = 16 << 20
    delay_seconds: float | None = None
    timeout_seconds: float = 20.0


@dataclass
class CrawlReport:
    """What a crawl did. `skipped` counts addresses by reason, `errors` failed requests by class."""

    path: Path
    pages: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    ended_by: str = "done"
    statuses: Counter[int] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class NothingCrawledError(InputError):
    """Not one page was reached; its text says why for each address that was named, `report` what was done."""

    def __init__(self, causes: Mapping[str, str], report: CrawlReport) -> None:
        told = "; ".join(f"{url}: {cause}" for url, cause in causes.items())
        told = told or f"the limit of {report.ended_by} was reached before any answer"
        super().__init__(f"no page was reached, so no archive is left: {told}")
        self.report = report


class CrawledPage(NamedTuple):
    """What `on_page` is told after each answer."""

    url: str
    status: int
    bytes: int
    depth: int


class _Visit(NamedTuple):
    url: str
    depth: int
    hops: int = 0


def crawl(
    seeds: Iterable[str],
    out: Path,
    limits: CrawlLimits | None = None,
    user_agent: str = DEFAULT_USER_AGENT,
    on_page: Callable[[CrawledPage], None] | None = None,
) -> CrawlReport:
    """Crawl from `seeds` into the WARC file `out` (gzip if its name ends in `.gz`).

    Raises:
        InputError: a seed is no HTTP address, or there is none.
        NothingCrawledError: no page was reached; no file is left, so that the same command can be tried again.
        StoreError: `out` exists already or cannot be written.
    """
    addresses = [_check_seed(seed) for seed in seeds]
    if not addresses:
        raise InputError("nothing to crawl: name at least one http or https address")
    info = {
        "software": "headrace",
        "format": "WARC File Format 1.1",
        "robots": "obey",
        "http-header-user-agent": user_agent,
    }
    with CrawlArchive(out, info) as archive:
        work = _Crawl(addresses, archive, limits or CrawlLimits(), user_agent, on_page, CrawlReport(out))
        work.run()
    return work.report


def _check_seed(seed: str) -> str:
    url = resolve(seed)
    if url is None:
        raise InputError(f"{seed}: not an http or https address")
    return url


class _Crawl:
    """The state of one crawl: a queue, what was seen, and when each host may be asked again."""

    def __init__(
        self,
        seeds: list[str],
        archive: CrawlArchive,
        limits: CrawlLimits,
        user_agent: str,
        on_page: Callable[[CrawledPage], None] | None,
        report: CrawlReport,
    ) -> None:
        self.report = report
        self._archive, self._limits, self._on_page = archive, limits, on_page
        self._session = open_session(user_agent)
        self._robots = Robots(user_agent.split("/", maxsplit=1)[0].split(maxsplit=1)[0], self._fetch_robots)
        self._hosts = {host_of(seed) for seed in seeds}
        self._seen: set[str] = set()
        self._causes: dict[str, str] = {}
        self._next_at: dict[str, float] = {}
        self._started = time.monotonic()
        self._queue: deque[_Visit] = deque()
        self._cut_short = False
        for seed in seeds:
            self._enqueue(_Visit(seed, 0))

    def run(self) -> None:
        """Visit until the queue is empty, a limit is reached or a person interrupts.

        Raises:
            NothingCrawledError: it ended by itself, and there is no page.
        """
        try:
            with self._session:
                while self._queue and not self._limit():
                    self._visit(self._queue.popleft())
                self.report.ended_by = self._limit() if self._queue or self._cut_short else "done"
        except KeyboardInterrupt:
            self.report.ended_by = "interrupted"
        self.report.seconds = time.monotonic() - self._started
        if not self.report.pages and self.report.ended_by != "interrupted":
            raise NothingCrawledError(self._causes, self.report)

    def _limit(self) -> str:
        """Return which limit is reached, or an empty string."""
        if self.report.pages >= self._limits.pages:
            return "pages"
        if self.report.bytes >= self._limits.bytes:
            return "bytes"
        return "seconds" if self._expired() else ""

    def _expired(self) -> bool:
        return time.monotonic() - self._started >= self._limits.seconds

    def _enqueue(self, visit: _Visit, first: bool = False) -> None:
        """Take an address into the queue once; count why not."""
        key = visit_key(visit.url)
        if key in self._seen:
            return
        self._seen.add(key)
        if self._limits.same_host and host_of(visit.url) not in self._hosts:
            self.report.skipped["other_host"] += 1
        elif visit.depth > self._limits.depth:
            self.report.skipped["depth"] += 1
        elif first:
            self._queue.appendleft(visit)
        else:
            self._queue.append(visit)

    def _visit(self, visit: _Visit) -> None:
        if refusal := self._robots.refusal(visit.url):
            self.report.skipped[refusal] += 1
            self._unreached(visit, self._robots.explain(visit.url))
            return
        try:
            exchange = self._fetch(visit.url, self._limits.page_bytes, self._wants)
        except FetchError as error:
            self.report.errors[str(error)] += 1
            self._unreached(visit, error.cause)
            return
        if exchange is None:
            self._unreached(visit, "it is not HTML, and only HTML was asked for")
            return
        self._store(exchange)
        if 200 <= exchange.status < 300:
            self.report.pages += 1
            self._follow_links(visit, exchange)
        elif 300 <= exchange.status < 400:
            self._follow_redirect(visit, exchange)
        if not 200 <= exchange.status < 300:
            self._unreached(visit, f"status {exchange.status}")
        if self._on_page:
            self._on_page(CrawledPage(visit.url, exchange.status, len(exchange.received), visit.depth))

    def _unreached(self, visit: _Visit, cause: str) -> None:
        """Remember why what a person named gave no page."""
        if visit.depth == 0:
            self._causes[visit.url] = cause

    def _follow_redirect(self, visit: _Visit, exchange: Exchange) -> None:
        target = resolve(exchange.headers.get("location", ""), visit.url)
        if target is None or visit.hops >= MAX_HOPS:
            self.report.skipped["bad_redirect"] += 1
            return
        if visit.depth == 0:
            self._hosts.add(host_of(target))
        self._enqueue(_Visit(target, visit.depth, visit.hops + 1), first=True)

    def _follow_links(self, visit: _Visit, exchange: Exchange) -> None:
        media_type, charset = split_content_type(exchange.headers.get("content-type", ""))
        if media_type not in HTML_TYPES or exchange.truncated:
            return
        message = parse_response(exchange.received, self._limits.page_bytes)
        html = decode_html(message.body, charset) if not message.fault else None
        for link in find_links(html, visit.url, message.headers) if html else []:
            self._enqueue(_Visit(link, visit.depth + 1))

    def _wants(self, status: int, headers: Mapping[str, str]) -> bool:
        media_type = split_content_type(headers.get("content-type", ""))[0]
        if status != 200 or not self._limits.only_html or media_type in HTML_TYPES or not media_type:
            return True
        self.report.skipped["not_html"] += 1
        return False

    def _fetch_robots(self, url: str) -> Exchange:
        exchange = self._fetch(url, ROBOTS_BYTES, lambda status, headers: True, is_robots=True)
        if exchange is None:
            raise FetchError("refused")
        self._store(exchange)
        return exchange

    def _fetch(
        self, url: str, max_bytes: int, wants: Callable[[int, Mapping[str, str]], bool], is_robots: bool = False
    ) -> Exchange | None:
        """Wait for the host's turn and fetch; raises `FetchError`."""
        host = host_of(url)
        least = self._limits.delay_seconds
        if least is None:
            least = 0.0 if is_loopback(url) else DELAY_SECONDS
        delay = least if is_robots else max(least, self._robots.delay_seconds(url))
        if not self._wait_until(self._next_at.get(host, 0.0)):
            self._cut_short = True
            raise FetchError("out_of_time")
        self.report.requests += 1
        left = self._started + self._limits.seconds - time.monotonic()
        timeout_seconds = min(self._limits.timeout_seconds, max(left, 0.1))
        try:
            return fetch(self._session, url, max_bytes, timeout_seconds, wants, self._expired)
        finally:
            self._next_at[host] = time.monotonic() + delay

    def _wait_until(self, moment: float) -> bool:
        """Sleep until then, but not beyond the end of the crawl; tell whether the moment came."""
        end = self._started + self._limits.seconds
        time.sleep(max(0.0, min(moment, end) - time.monotonic()))
        return moment < end

    def _store(self, exchange: Exchange) -> None:
        self._archive.write(exchange)
        self.report.bytes += len(exchange.received)
        self.report.statuses[exchange.status] += 1
        if exchange.truncated:
            self.report.skipped[f"truncated_{exchange.truncated}"] += 1
            self._cut_short = self._cut_short or exchange.truncated == "time"
