"""A witness over HTTP, exactly as C2SP tlog-witness says.

    POST /add-checkpoint              200 cosignature lines; 400, 403, 404, 409 (`text/x.tlog.size`), 422
    POST /sign-subtree                200 signature lines with time 0; only with an ML-DSA-44 key, else 404
    GET  /HASH/checkpoint             the last cosigned checkpoint; HASH is the origin's SHA-256 in lowercase hex
    GET  /healthz, /readyz            alive; able to sign (503 once frozen, or while the state cannot be read)

Beyond the specification: 408 and 413 for bodies that are slow or large, 429 with Retry-After while too many wait, 503
once the witness may not sign any more, 500 while its disk fails. An answer leaves after the state is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from ...ledger.witness import MAX_REQUEST_BYTES, Witness
from ...schemas.errors import PlausibleError
from ..serving import BODY_SECONDS, application, posting, text_answer
from .committer import QUEUE, Committer

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response


class Origins:
    """From the hash in a monitoring path to the origin; read anew when a log was added."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._lock = threading.Lock()
        self._count = -1
        self._origins: dict[str, str] = {}

    def find(self, digest: str) -> str | None:
        """The origin with this lowercase hex SHA-256, or None."""
        with self._lock:
            if digest not in self._origins and (count := self._witness.count()) != self._count:
                self._origins = {hashlib.sha256(o.encode()).hexdigest(): o for o in self._witness.origins()}
                self._count = count
            return self._origins.get(digest)


def create_app(witness: Witness, *, queue: int = QUEUE, body_seconds: float = BODY_SECONDS) -> FastAPI:
    """The application of one witness. Needs the `node` extra (`SetupError` names it). Closing it drains the queue."""
    committer = Committer(witness, limit=queue)
    origins = Origins(witness)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        await asyncio.to_thread(committer.close)

    app = application("plausible witness", lifespan)

    async def sign_subtree(body: bytes) -> Response:
        if not witness.signs_subtrees:
            return text_answer(404, "this witness has no ML-DSA-44 key and signs no subtrees")
        outcome = await asyncio.to_thread(witness.handle_subtree, body)
        return text_answer(outcome.status, outcome.body, outcome.content_type)

    def checkpoint(digest: str) -> Response:
        try:
            origin = origins.find(digest)
            found = None if origin is None else witness.checkpoint(origin)
        except PlausibleError as error:
            return text_answer(500, str(error))
        if found is None:
            return text_answer(404, "this witness has cosigned no checkpoint of that log")
        return text_answer(200, found, **{"Cache-Control": "public, max-age=2"})

    def healthz() -> Response:
        return text_answer(200, "alive")

    def readyz() -> Response:
        try:
            frozen = witness.frozen
        except PlausibleError as error:
            frozen = str(error)
        return text_answer(200, "ready") if frozen is None else text_answer(503, frozen)

    app.add_api_route(
        "/add-checkpoint",
        posting(committer.answer, MAX_REQUEST_BYTES, seconds=body_seconds),
        methods=["POST"],
        response_model=None,
    )
    app.add_api_route(
        "/sign-subtree",
        posting(sign_subtree, MAX_REQUEST_BYTES, seconds=body_seconds),
        methods=["POST"],
        response_model=None,
    )
    app.add_api_route("/healthz", healthz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/{digest}/checkpoint", checkpoint, methods=["GET", "HEAD"], response_model=None)
    return app
