"""One bounded request to somebody else's service: what conformance cases and clients of mirrors stand on."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from ..schemas.errors import PeerError, UsageError

MAX_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a content type without parameters, and a body of at most 1 MiB."""

    status: int
    kind: str
    body: bytes
    caching: str = ""
    """Cache-Control."""

    @property
    def told(self) -> str:
        """For messages."""
        return f"{self.status} {self.body[:80].decode('utf-8', 'replace')!r}"


class TooLong(PeerError):  # noqa: N818  (named by what happened)
    """An answer had more bytes than any answer has."""


def make_client(seconds: float) -> httpx.Client:
    """A client that follows no redirects and asks for no packed answers; `UsageError` for a broken environment."""
    try:
        return httpx.Client(timeout=seconds, headers={"Accept-Encoding": "identity"}, follow_redirects=False)
    except (ValueError, OSError) as error:  # a proxy or a certificate file of the environment
        raise UsageError(f"the network settings of the environment do not work: {error}") from None


def ask(client: httpx.Client, method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
    """One request; `PeerError` if it is not answered, `TooLong` if the answer has no end."""
    try:
        with client.stream(method, url, content=body, headers=headers) as answer:
            data = bytearray()
            for part in answer.iter_raw():
                data += part
                if len(data) > MAX_ANSWER:
                    raise TooLong(f"{url} answered with more than {MAX_ANSWER} bytes")
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return Answer(answer.status_code, kind, bytes(data), answer.headers.get("Cache-Control", ""))
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        raise PeerError(f"{url} cannot be reached: {error or type(error).__name__}") from None


__all__ = ["MAX_ANSWER", "Answer", "TooLong", "ask", "make_client"]
