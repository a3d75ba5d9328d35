"""What a service tells its operator about requests: counts, times, one log line each, and nothing of what is in them.

A request is named by its method and by the route that answered it (`/{digest}/checkpoint`), never by its path, query,
body or address: digests of pictures and people's addresses stay out of metrics and logs, and strangers cannot make new
time series. `observe` wraps an application; without a recorder (`recording`) it is left as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
log = logging.getLogger("plausible.requests")


class Recorder(Protocol):
    """Takes what is known about requests."""

    def begin(self) -> None:
        """A request came in."""
        ...

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """It was answered (status 0: it was not)."""
        ...


_current: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Generator[None]:
    """Applications that are run inside the block are observed."""
    token = _current.set(recorder)
    try:
        yield
    finally:
        _current.reset(token)


def observe(app: ASGIApp) -> ASGIApp:
    """The application, observed by the recorder of the moment."""
    recorder = _current.get()
    return app if recorder is None else _Observed(app, recorder)


class _Observed:
    def __init__(self, app: ASGIApp, recorder: Recorder) -> None:
        self._app, self._recorder = app, recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size = 0, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        start = time.perf_counter()
        self._recorder.begin()
        try:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = str(getattr(scope.get("route"), "path", "none"))
            self._recorder.end(method, route, status, seconds)
            fields = {"method": method, "route": route, "status": status, "bytes": size, "ms": round(seconds * 1e3, 3)}
            log.info("request", extra={"fields": fields})


__all__ = ["Recorder", "observe", "recording"]
