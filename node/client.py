"""Reading a log over HTTP: `HttpSource` gives `ledger.reader.TiledLog` its files. The one module that uses httpx.

A peer is not trusted to be right, small, quick or alive: an answer has a byte limit, silence and body have time limits,
and whatever goes wrong is one `PeerError` that names the URL. Compressed answers are neither asked for nor accepted, so
a small answer cannot become a large one; redirects are not followed, so the log read is the log named.
"""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Self

import httpx

from ..schemas.errors import EvidenceError, PeerError, UsageError

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_GONE = (404, 410)
_PASSING = (429, 500, 502, 503, 504)


class HttpSource:
    """A log's files below `url`. Safe to share between threads.

    `timeout` is the seconds a peer may stay silent, `deadline` those one file may take in all, `tries` how often a
    failure that may pass (refused connection, 429, 5xx) is tried, `pause` the seconds before the second try (doubled
    after each). `transport` replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        deadline: float = 60.0,
        tries: int = 3,
        pause: float = 0.25,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            base = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise UsageError(f"{url!r} is not a URL: {error}") from None
        if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment:
            raise UsageError(f"{url!r} is not the address of a log: give https://HOST/PREFIX")
        self.url = str(base).rstrip("/")
        self._deadline, self._tries, self._pause = deadline, tries, pause
        headers = {"Accept-Encoding": "identity", "User-Agent": "plausible-deniability"}
        try:
            self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False, transport=transport)
        except (ValueError, OSError) as error:  # a proxy or a certificate file of the environment
            raise UsageError(f"the network settings of the environment do not work: {error}") from None

    def fetch(self, path: str, limit: int) -> bytes | None:
        """The file at `path`, or None if the log has none. `EvidenceError` beyond `limit` bytes, else `PeerError`."""
        if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
            raise EvidenceError(f"{path[:80]!r} is not a path inside a log")
        return self._fetch(f"{self.url}/{path}", limit)

    def _fetch(self, url: str, limit: int) -> bytes | None:
        pause = self._pause
        for attempt in range(1, self._tries + 1):
            try:
                return self._get(url, limit)
            except _Passing as passing:
                if attempt == self._tries:
                    raise PeerError(str(passing)) from None
                time.sleep(passing.wait if passing.wait is not None else pause)
                pause *= 2
        raise PeerError(f"{url}: never tried")

    def fetch_base(self, limit: int) -> bytes | None:
        """The file at `url` itself; as `fetch`."""
        return self._fetch(self.url, limit)

    def _get(self, url: str, limit: int) -> bytes | None:
        end = time.monotonic() + self._deadline
        try:
            with self._client.stream("GET", url) as answer:
                if answer.status_code in _GONE:
                    return None
                if answer.status_code in _PASSING:
                    raise _Passing(f"{url} answered {answer.status_code}", _retry_after(answer))
                if answer.status_code != 200:
                    target = answer.headers.get("Location")
                    hint = f", pointing at {target[:200]!r}: give that address if you trust it" if target else ""
                    raise PeerError(f"{url} answered {answer.status_code}{hint}")
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise PeerError(f"{url} answered with a compressed body, which was not asked for")
                data = bytearray()
                for part in answer.iter_raw():
                    data += part
                    if len(data) > limit:
                        raise EvidenceError(f"{url} has more than {limit} bytes")
                    if time.monotonic() > end:
                        raise PeerError(f"{url} took longer than {self._deadline:g} seconds")
                return bytes(data)
        except httpx.TransportError as error:
            raise _Passing(f"{url} cannot be read: {error or type(error).__name__}", None) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise PeerError(f"{url} cannot be read: {error or type(error).__name__}") from None

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Passing(Exception):  # noqa: N818  a failure that may pass; never leaves this module
    def __init__(self, message: str, wait: float | None) -> None:
        super().__init__(message)
        self.wait = wait


def _retry_after(answer: httpx.Response) -> float | None:
    """The seconds a peer asks us to wait, at most five."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 5.0) if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) else None


def fetch_file(url: str, limit: int) -> bytes:
    """One file of at most `limit` bytes at a URL; `PeerError` if there is none, `EvidenceError` if it is larger."""
    with HttpSource(url) as source:
        data = source.fetch_base(limit)
    if data is None:
        raise PeerError(f"there is nothing at {url}")
    return data
