"""A mirror over HTTP, as C2SP tlog-mirror says: uploads, copies as static files, and the threads that follow logs.

    POST /add-checkpoint              as a witness's, moves the pending head; 200 is empty, nothing is signed
    POST /add-entries                 200 cosignature lines; 202 and 409 `text/x.tlog.mirror-info`; 400, 404, 422
    POST /sign-subtree                200 signature lines with time 0; only with an ML-DSA-44 key, else 404
    GET  /HASH/checkpoint             the last cosigned head, with the log's and the mirror's signatures
    GET  /HASH/tile/..., /HASH/index/latest, /HASH/checkpoints/SIZE     the copy (C2SP tlog-tiles)
    GET  /healthz, /readyz            alive; able to sign (503 once frozen)

HASH is the SHA-256 of the log's origin in lowercase hex. Everything is served as a log's own files are (server.py).

Beyond the specification: 408 and 413 for bodies that are slow or large, 429 with Retry-After while too many wait, 415
for entries in another content type or coding, 503 once the mirror may not sign any more, 500 while its disk fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from ...ledger.merkle.reader import DirectorySource
from ...ledger.witness import MAX_REQUEST_BYTES
from ...schemas.errors import PlausibleError
from ..server import answer_file
from ..serving import BODY_SECONDS, application, posting, route, text_answer
from ..witness.committer import RETRY_SECONDS, Committer
from .followers import POLL_SECONDS, Followers
from .mirror import Mirror
from .upload import receive

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

UPLOADS = 16


class Copies:
    """From the hash in a path to the folder of a copy; read anew when a log was added."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._lock = threading.Lock()
        self._count = -1
        self._origins: dict[str, str] = {}

    def find(self, digest: str) -> DirectorySource | None:
        """The files of the log whose origin has this lowercase hex SHA-256, or None."""
        with self._lock:
            if digest not in self._origins and (count := self._mirror.count()) != self._count:
                self._origins = {hashlib.sha256(o.encode()).hexdigest(): o for o in self._mirror.origins()}
                self._count = count
            origin = self._origins.get(digest)
        return None if origin is None else DirectorySource(self._mirror.copy(origin).public.folder)


class Uploads:
    """add-entries requests at work: at most `UPLOADS` at once, since each holds a package in memory."""

    def __init__(self, mirror: Mirror, idle: float) -> None:
        self._mirror, self._idle = mirror, idle
        self._count = 0

    async def answer(self, request: Request) -> Response:
        """The answer to one request."""
        accepts = {"Accept-Encoding": "gzip"}
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if kind != "application/octet-stream" or coding not in ("identity", "gzip"):
            return text_answer(415, "entries come as application/octet-stream, plain or gzip", **accepts)
        if self._count >= UPLOADS:
            return text_answer(429, "too many uploads are at work", **{"Retry-After": str(RETRY_SECONDS)})
        self._count += 1
        try:
            answer = await receive(self._mirror, request, idle=self._idle)
        except PlausibleError as error:
            return text_answer(500, f"nothing was signed: {error}", Connection="close")
        finally:
            self._count -= 1
        # most of what is refused is refused before its entries were read
        more = {} if answer.status in (200, 202) else {"Connection": "close"}
        return text_answer(answer.status, answer.body, answer.content_type, **accepts, **more)


def create_app(
    mirror: Mirror, *, poll_seconds: float | None = POLL_SECONDS, body_seconds: float = BODY_SECONDS
) -> FastAPI:
    """The application of one mirror. Needs the `node` extra (`SetupError` names it). Without `poll_seconds` no log is
    followed."""
    copies = Copies(mirror)
    followers = None if poll_seconds is None else Followers(mirror, poll_seconds)

    committer = Committer(mirror)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        if followers is not None:
            followers.start()
        yield
        if followers is not None:
            await asyncio.to_thread(followers.close)
        await asyncio.to_thread(committer.close)

    app = application("plausible mirror", lifespan)

    async def sign_subtree(body: bytes) -> Response:
        if not mirror.signs_subtrees:
            return text_answer(404, "this mirror has no ML-DSA-44 key and signs no subtrees")
        outcome = await asyncio.to_thread(mirror.handle_subtree, body)
        return text_answer(outcome.status, outcome.body, outcome.content_type)

    def file(digest: str, path: str) -> Response:
        try:
            source = copies.find(digest)
        except PlausibleError as error:
            return text_answer(500, str(error))
        if source is None:
            return text_answer(404, "this mirror has no copy of that log")
        return answer_file(source, path)

    def healthz() -> Response:
        return text_answer(200, "alive")

    def readyz() -> Response:
        try:
            frozen = mirror.frozen
        except PlausibleError as error:
            frozen = str(error)
        return text_answer(200, "ready") if frozen is None else text_answer(503, frozen)

    uploads = Uploads(mirror, body_seconds)
    shown, subtree = (
        posting(handler, MAX_REQUEST_BYTES, seconds=body_seconds) for handler in (committer.answer, sign_subtree)
    )
    app.add_api_route("/add-checkpoint", shown, methods=["POST"], response_model=None)
    app.add_api_route("/add-entries", route(uploads.answer), methods=["POST"], response_model=None)
    app.add_api_route("/sign-subtree", subtree, methods=["POST"], response_model=None)
    app.add_api_route("/healthz", healthz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/{digest}/{path:path}", file, methods=["GET", "HEAD"], response_model=None)
    return app


__all__ = ["create_app"]
