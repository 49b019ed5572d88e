"""robots.txt by RFC 9309: whether an address may be fetched, and how long to wait between two.

A file that is not there (4xx) allows all; one that cannot be had (5xx, 429, no connection) forbids all. At most five
redirects are followed and 500 KiB read.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

from headrace.pipeline.crawling.addresses import robots_address
from headrace.pipeline.crawling.wire import Exchange, FetchError
from headrace.pipeline.readers.http_message import parse_response

MAX_ROBOTS_BYTES = 500 << 10
MAX_REDIRECTS = 5


class Robots:
    """The rules of every host met so far; `fetch` gets one address and may raise `FetchError`."""

    def __init__(self, agent: str, fetch: Callable[[str], Exchange]) -> None:
        self._agent, self._fetch = agent, fetch
        self._rules: dict[str, Any] = {}
        self._causes: dict[str, str] = {}

    def refusal(self, url: str) -> str | None:
        """Return why an address may not be fetched (`robots`, `robots_unreachable`), None if it may."""
        rules = self._rules_for(url)
        if rules is None:
            return "robots_unreachable"
        return None if rules.can_fetch(url, self._agent) else "robots"

    def explain(self, url: str) -> str:
        """Return in words why an address was refused."""
        address = robots_address(url)
        cause = self._causes.get(address)
        return f"{address} forbids it" if cause is None else f"{address} cannot be had: {cause}"

    def delay_seconds(self, url: str) -> float:
        """Return the crawl delay that the host asks for, 0 if it asks for none."""
        rules = self._rules_for(url)
        return float(rules.crawl_delay(self._agent) or 0) if rules else 0.0

    def _rules_for(self, url: str) -> Any:
        """Return the parsed rules of a host, None if they cannot be had."""
        address = robots_address(url)
        if address not in self._rules:
            self._rules[address] = self._load(address)
        return self._rules[address]

    def _load(self, address: str) -> Any:
        from protego import Protego

        try:
            exchange = self._follow(address)
        except FetchError as error:
            self._causes[address] = error.cause
            return None
        if exchange.status >= 500 or exchange.status == 429:
            self._causes[address] = f"status {exchange.status}"
            return None
        if not 200 <= exchange.status < 300:
            return Protego.parse("")
        body = parse_response(exchange.received, MAX_ROBOTS_BYTES).body
        return Protego.parse(body[:MAX_ROBOTS_BYTES].decode("utf-8-sig", errors="replace"))

    def _follow(self, address: str) -> Exchange:
        exchange = self._fetch(address)
        for _ in range(MAX_REDIRECTS):
            target = exchange.headers.get("location")
            if not (300 <= exchange.status < 400 and target):
                break
            address = urljoin(address, target)
            exchange = self._fetch(address)
        return exchange
