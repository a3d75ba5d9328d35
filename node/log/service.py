"""A log over HTTP: authors write, everybody reads.

    POST /entry, /entries       200 a receipt (a line each for a batch), or the tlog-proof of one that is witnessed;
                                202 the receipt, if what was waited for did not come in time;
                                400 malformed, 403 whose entries are not taken, 409 the chain's head (fork or gap),
                                413 large, 408 slow, 422 never acceptable, 429 full queue, 503 nothing can be stored
    GET  /lookup, /similar      entries about a picture with proofs, or none (lookup.py, similar.py)
    GET  /healthz, /readyz      alive; serving a checkpoint whose signatures hold and are not too old
    GET  anything else          the log's static files (server.py)

An answer leaves after what it says is durable. The same request may come again: it gets the same places, and what is
known of them by then. Strangers are turned away before anything of theirs is verified, and not quickly: up to half of
the connections are held for a second each, so that who knocks again and again knocks slowly; the rest is shut out at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from ...ledger.merkle.public import CHECKPOINT
from ...ledger.merkle.reader import DirectorySource, TiledLog
from ...ledger.merkle.tiles import MAX_ENTRY_BYTES
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note
from ...ledger.notes.proof import make_proof
from ...schemas.errors import EvidenceError, PlausibleError
from ..server import SHORT, answer_file
from ..serving import BODY_SECONDS, CONNECTIONS, BodyRefused, application, read_body, route
from ..serving import text_answer as answer
from .chains import OutOfStep, Refused
from .directory import OpenLog
from .keeper import Request as Entries
from .keeper import Unavailable
from .readiness import Readiness
from .requests import DEFAULT, MAX_BATCH_BYTES, Wish, chain_head, claimed_key, read_batch, read_wish, receipt

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

Split = Callable[[bytes], tuple[bytes, ...]]
"""From a body to its entries."""
JSON, LINES = "application/json", "application/jsonl"
_AGAIN = {"Retry-After": "1"}
SWITCH_SECONDS = 0.0005
"""How long one of the two threads (requests, keeper) may keep the other from the interpreter after a system call."""
STRANGERS_HELD = CONNECTIONS // 2
STRANGER_SECONDS = 1.0


def create_app(log: OpenLog, *, body_seconds: float = BODY_SECONDS) -> FastAPI:
    """The application of an open log. Needs the `node` extra (`SetupError` names it). Closing it drains the queue."""
    keeper, held = log.keeper, 0
    reader = TiledLog(DirectorySource(log.public))
    readiness = Readiness(log)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        keeper.deliver = asyncio.get_running_loop().call_soon_threadsafe
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        yield
        await asyncio.to_thread(keeper.close)
        sys.setswitchinterval(before)

    app = application("plausible log", lifespan)

    def unavailable(error: PlausibleError) -> Response:
        return answer(503, f"not taken: {error}", **_AGAIN)

    async def stranger() -> Response:
        nonlocal held
        if held < STRANGERS_HELD:
            held += 1
            try:
                await asyncio.sleep(STRANGER_SECONDS)
            finally:
                held -= 1
        return answer(403, "this log takes no entries by that key", Connection="close")

    def posted(
        limit: int, split: Callable[[bytes], tuple[bytes, ...]] | None
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                wish = read_wish(request.query_params) if request.scope["query_string"] else DEFAULT
                body = await read_body(request, limit, seconds=body_seconds)
                leaves = (body,) if split is None else split(body)
                key = claimed_key(leaves)
                if not log.allowlist.knows(key):
                    return await stranger()
                return await take(key, leaves, wish, single=split is None)
            except BodyRefused as error:
                return answer(error.status, str(error), Connection="close")
            except EvidenceError as error:
                return answer(400, str(error))
            except PlausibleError as error:
                return unavailable(error)

        return route(handle)

    async def take(key: bytes, leaves: tuple[bytes, ...], wish: Wish, *, single: bool) -> Response:
        end = time.monotonic() + wish.timeout
        waiting = Entries(leaves)
        if not keeper.submit(key, waiting):
            return answer(429, "too many entries are waiting", **_AGAIN)
        # not `wrap_future`, which would wake the loop for each: `deliver` calls back inside it, for a whole commit
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.answer.add_done_callback(lambda _: done.done() or done.set_result(None))
        await done
        outcome = waiting.answer.result()
        if isinstance(outcome, OutOfStep):
            return answer(409, chain_head(outcome), JSON)
        if isinstance(outcome, Refused):
            return answer(outcome.status, outcome.reason)
        status = 200
        if wish.wait != "accepted":
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await asyncio.wrap_future(keeper.reached(wish.wait, max(outcome.positions)))
            except (TimeoutError, Unavailable):  # it is accepted all the same: the receipt says how far it came
                status = 202
        if single and status == 200 and wish.wait == "witnessed":
            proof = await asyncio.to_thread(prove, outcome.positions[0], leaves[0])
            return answer(200, proof)
        sizes = {"sequenced": keeper.sequenced, "witnessed": keeper.witnessed}
        receipts = [
            receipt(leaf, place, **sizes).to_jcs() for leaf, place in zip(leaves, outcome.positions, strict=True)
        ]
        if single:
            return answer(status, receipts[0], JSON)
        return answer(status, b"".join(line + b"\n" for line in receipts), LINES)

    def prove(index: int, leaf: bytes) -> bytes:
        note = reader.checkpoint_bytes(CHECKPOINT)
        size = Checkpoint.parse(Note.parse(note).text).size
        return make_proof(index, reader.path(index, size), note, leaf).encode()

    def lookup(request: Request) -> Response:
        try:
            return answer(200, log.finder.answer(request.query_params), JSON, **{"Cache-Control": SHORT})
        except EvidenceError as error:
            return answer(400, str(error))
        except PlausibleError as error:
            return answer(503, str(error), **_AGAIN)

    def similar(request: Request) -> Response:
        if log.similar is None:
            return answer(404, "this log answers nobody about perceptual hashes")
        if not log.similar.allows(request.headers.get("authorization", "")):
            return answer(401, "ask the log's operator", **{"WWW-Authenticate": "Bearer"})
        try:
            return answer(200, log.similar.answer(request.query_params), JSON, **{"Cache-Control": "no-store"})
        except EvidenceError as error:
            return answer(400, str(error))
        except PlausibleError as error:
            return answer(503, str(error), **_AGAIN)

    def files(path: str) -> Response:
        return answer_file(reader.source, path)

    def threaded(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await asyncio.to_thread(handler, request)

        return route(handle)

    def healthz() -> Response:
        return answer(200, "alive")

    def readyz() -> Response:
        state = readiness.look(int(time.time()))
        return answer(200 if state.ready else 503, state.text)

    app.add_api_route("/entry", posted(MAX_ENTRY_BYTES, None), methods=["POST"], response_model=None)
    app.add_api_route("/entries", posted(MAX_BATCH_BYTES, read_batch), methods=["POST"], response_model=None)
    app.add_api_route("/lookup", threaded(lookup), methods=["GET"], response_model=None)
    app.add_api_route("/similar", threaded(similar), methods=["GET"], response_model=None)
    app.add_api_route("/healthz", healthz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/{path:path}", files, methods=["GET", "HEAD"], response_model=None)
    return app
