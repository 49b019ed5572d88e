"""Fetching with every byte on the wire kept.

An archive must hold what was received: header lines as they came, chunk sizes, compressed bodies. So the file that
`http.client` reads a response from is replaced by one that keeps what is read, on connections of our own session;
nothing global is patched. Redirects are not followed and cookies not kept: each is the crawler's affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

READ_BYTES = 1 << 16
RETRY_STATUSES = (429, 502, 503, 504)


class FetchError(Exception):
    """Nothing usable came back; its text is a short class of error, `cause` what a person should read."""

    def __init__(self, kind: str, cause: str = "") -> None:
        super().__init__(kind)
        self.cause = cause or kind


@dataclass(frozen=True)
class Exchange:
    """One request and what came back, byte for byte; `truncated` says which limit cut it short, if one did."""

    url: str
    sent: bytes
    received: bytes
    status: int
    headers: Mapping[str, str]
    date: str
    address: str | None
    truncated: str | None = None


class _Tape:
    """A binary file that keeps what is read from it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.data = bytearray()

    def read(self, *size: int) -> bytes:
        return self._keep(self._file.read(*size))

    def read1(self, *size: int) -> bytes:
        return self._keep(self._file.read1(*size))

    def readline(self, *size: int) -> bytes:
        return self._keep(self._file.readline(*size))

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)
        self.data += memoryview(buffer)[:count]
        return count

    def _keep(self, data: bytes) -> bytes:
        self.data += data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _TapedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.tape = _Tape(self.fp)
        self.fp = self.tape  # type: ignore[assignment]  # a file in all that http.client asks of it
        self.sent = b""
        self.address: str | None = None


class _Taped:
    """Mixed into a connection: keeps what is sent and hands it, with the peer's address, to the response."""

    response_class: Any = _TapedResponse
    sock: Any

    def putrequest(self, *args: Any, **options: Any) -> None:
        self._sent = bytearray()
        super().putrequest(*args, **options)  # type: ignore[misc]  # the connection it is mixed into has it

    def send(self, data: Any) -> None:
        self._sent += data
        super().send(data)  # type: ignore[misc]  # as above

    def getresponse(self) -> Any:
        address = self.sock.getpeername()[0]
        response = super().getresponse()  # type: ignore[misc]  # as above
        response._original_response.sent = bytes(self._sent)
        response._original_response.address = address
        return response


class _TapedHTTPConnection(_Taped, HTTPConnection):
    pass


class _TapedHTTPSConnection(_Taped, HTTPSConnection):
    pass


class _TapedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _TapedHTTPConnection


class _TapedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _TapedHTTPSConnection


class _TapedAdapter(HTTPAdapter):
    _pools = {"http": _TapedHTTPPool, "https": _TapedHTTPSPool}  # never changed

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _Retry(Retry):
    """Tries again what may be better the second time; a server that kept silent is not asked again."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: TracebackType | None = None,
    ) -> "_Retry":
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def open_session(user_agent: str) -> Session:
    """Return a session that keeps bytes, retries what is worth retrying twice, and remembers no cookies."""
    session = Session()
    retry = _Retry(
        connect=2,
        read=1,
        status=2,
        other=0,
        redirect=False,
        status_forcelist=RETRY_STATUSES,
        backoff_factor=0.25,
        retry_after_max=30,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, _TapedAdapter(max_retries=retry))
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"User-Agent": user_agent, "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.5"})
    return session


def fetch(
    session: Session,
    url: str,
    max_bytes: int,
    timeout_seconds: float,
    wants: Callable[[int, Mapping[str, str]], bool] = lambda status, headers: True,
    expired: Callable[[], bool] = lambda: False,
) -> Exchange | None:
    """Fetch one address; None if `wants` refuses it by status and header, with the body left unread.

    Raises:
        FetchError: no connection, no whole answer, or one that is not HTTP.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        with session.get(url, stream=True, allow_redirects=False, timeout=timeout_seconds) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            if not wants(response.status_code, headers):
                return None
            raw: Any = response.raw._original_response
            truncated = _read_body(response.raw, raw.tape, max_bytes, expired)
            received = bytes(raw.tape.data)
            return Exchange(url, raw.sent, received, response.status_code, headers, date, raw.address, truncated)
    except (RequestException, HTTPError, OSError, ValueError) as error:
        raise FetchError(_name_error(error), _cause(error)) from error


def _cause(error: BaseException) -> str:
    """Return what the operating system said, which libraries wrap in errors of their own, else the innermost text."""
    innermost: BaseException | None = error
    while innermost is not None:
        error = innermost
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            return error.strerror.lower()
        inside = [item for item in (getattr(error, "reason", None), *error.args) if isinstance(item, BaseException)]
        innermost = error.__cause__ or (inside[0] if inside else error.__context__)
    return str(error)


def _name_error(error: Exception) -> str:
    name = type(error).__name__
    known = {"Timeout": "timeout", "SSL": "tls", "Connection": "connection", "Protocol": "broken", "Chunked": "broken"}
    return next((ours for theirs, ours in known.items() if theirs in name), name)


def _read_body(response: Any, tape: _Tape, max_bytes: int, expired: Callable[[], bool]) -> str | None:
    """Read until the end or a limit; return WARC's word for the limit (`length`, `time`)."""
    for _ in response.stream(READ_BYTES, decode_content=False):
        if len(tape.data) > max_bytes:
            return "length"
        if expired():
            return "time"
    return None
