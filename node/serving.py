"""Running an application on a socket, with limits on what a client may hold: time, bytes, connections.

uvicorn with h11. A connection that has not sent a whole request head within `HEAD_SECONDS` is cut off (uvicorn itself
waits for ever), a body is read by `read_body` within a limit of bytes and seconds, and beyond `CONNECTIONS` at once a
client gets 503. SIGTERM and Ctrl-C stop taking requests, finish those in hand, then return.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from ..schemas.errors import PlausibleError, SetupError
from .observing import observe

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

HEAD_SECONDS = 10.0
"""How long a client may take to send a request's head, from its first byte or from the connection."""
BODY_SECONDS = 20.0
CONNECTIONS = 1024
DRAIN_SECONDS = 30
_EXTRA = "pip install 'plausible-deniability[node]'"


def application(title: str, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """An application without routes; 404 and 405 are sentences, and no path is another one's.

    `SetupError` names the `node` extra if it is missing.
    """
    try:
        from fastapi import FastAPI
    except ImportError:
        raise SetupError(f"a node needs FastAPI: {_EXTRA}") from None
    from starlette.exceptions import HTTPException

    async def refused(_request: Request, error: Exception) -> Response:
        status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
        return text_answer(status, "not found" if status == 404 else f"refused: {status}", **(headers or {}))

    app = FastAPI(
        title=title,
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, refused)
    return app


class BodyRefused(Exception):  # noqa: N818  an answer, not a fault of ours
    """A request body that is not read to its end; `status` is 413, 408, or 400 if the client went away."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(request: Request, limit: int, *, seconds: float = BODY_SECONDS) -> bytes:
    """The body, of at most `limit` bytes, read within `seconds`; else `BodyRefused`."""
    from starlette.requests import ClientDisconnect

    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise BodyRefused(413, f"a body here has at most {limit} bytes")
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                data += part
                if len(data) > limit:
                    raise BodyRefused(413, f"a body here has at most {limit} bytes")
    except TimeoutError:
        raise BodyRefused(408, f"the body did not arrive within {seconds:g} seconds") from None
    except ClientDisconnect:  # nobody reads the answer, but it is no fault of ours that should fill the operator's log
        raise BodyRefused(400, "the request ends before its body") from None
    return bytes(data)


def posting(
    handler: Callable[[bytes], Awaitable[Response]], limit: int, *, seconds: float = BODY_SECONDS
) -> Callable[[Request], Awaitable[Response]]:
    """A route over a body of at most `limit` bytes: 408 and 413 for what is not read, 500 for what is raised."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(await read_body(request, limit, seconds=seconds))
        except BodyRefused as error:
            return text_answer(error.status, str(error), Connection="close")
        except PlausibleError as error:
            return text_answer(500, f"nothing was signed: {error}")

    return route(handle)


def route(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler that FastAPI gives the request: it looks annotations up by name, and here they are no names."""
    from starlette.requests import Request
    from starlette.responses import Response

    async def call(request: Request) -> Response:
        return await handle(request)

    call.__annotations__ = {"request": Request, "return": Response}
    return call


def text_answer(
    status: int, body: bytes | str, content_type: str = "text/plain; charset=utf-8", **headers: str
) -> Response:
    """An answer of bytes, or of one sentence to which a newline is added."""
    from starlette.responses import Response

    # set as a header: given as a media type, a charset would be added to text/x.tlog.size
    data = body if isinstance(body, bytes) else (body + "\n").encode("utf-8", "replace")
    common = {"Content-Type": content_type, "X-Content-Type-Options": "nosniff"}
    return Response(data, status_code=status, headers={**common, **headers})


def run(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None] = lambda _address: None,
    head_seconds: float = HEAD_SECONDS,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until interrupted; `ready` gets the address once it is listened on (port 0: the one the system chose).

    `stopping` is called when the end has begun, before the requests in hand are waited for.

    Raises `SetupError` if the address is taken or the extra is missing.
    """
    try:
        import uvicorn
    except ImportError:
        raise SetupError(f"serving needs uvicorn: {_EXTRA}") from None
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise SetupError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    with listener:
        # asyncio does it only for sockets that name their protocol, which accepted ones do not: without it the body of
        # a small answer waits for the client's delayed acknowledgement of its head, 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound = listener.getsockname()[1]
        ready(f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}")
        config = uvicorn.Config(
            observe(app),
            http=_timed_protocol(head_seconds),
            log_config=None,
            log_level="error",  # a line for each malformed request would let strangers fill the operator's disk
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )

        class Server(uvicorn.Server):
            """Tells when it begins to stop."""

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                stopping()
                await super().shutdown(sockets)

        with _ended_by_sigterm():
            Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """uvicorn sends itself a SIGTERM once more when it is done: let it end the block, not the process.

    Whoever runs a service has state to close after it.
    """

    def end(_number: int, _frame: object) -> None:
        raise _Ended

    if threading.current_thread() is not threading.main_thread():  # there are no signals elsewhere
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        with contextlib.suppress(_Ended):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Ended(BaseException):
    """SIGTERM while no server handled it."""


def _timed_protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's h11 protocol, which cuts off a connection whose first request head is not whole after `seconds`.

    Later heads on a kept connection are bounded by uvicorn's keep-alive time until their first byte; then the clock
    here starts again.
    """
    from h11 import LocalProtocolError
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):
        """Bounded time for request heads."""

        _clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._clock = self.loop.call_later(seconds, self._cut)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            idle = not before or before.response_complete  # there is none before the first request
            if idle and self._clock is None:
                self._clock = self.loop.call_later(seconds, self._cut)
            super().data_received(data)
            if self._clock is not None and self.cycle is not before:
                self._stop_clock()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_clock()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            cycle = self.cycle
            if cycle and not cycle.response_complete:  # there is none before the first request
                # a body that stops being HTTP while it is read: the application's answer must not follow this one
                cycle.disconnected = True
                cycle.message_event.set()
            # an answer that has begun, or was made before the body came, is the only one; to a HEAD none has a body
            try:
                super().send_400_response(msg)
            except LocalProtocolError:
                self.transport.close()

        def _stop_clock(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

        def _cut(self) -> None:
            self._clock = None
            self.transport.abort()

    return TimedProtocol
