"""A mirror over HTTP: its copies as static files, and the threads that follow logs.

    GET  /HASH/checkpoint             the last cosigned head, with the log's and the mirror's signatures
    GET  /HASH/tile/..., /HASH/index/latest, /HASH/checkpoints/SIZE     the copy (C2SP tlog-tiles)
    GET  /healthz, /readyz            alive; able to sign (503 once frozen)

HASH is the SHA-256 of the log's origin in lowercase hex. Everything is served as a log's own files are (server.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from ...ledger.merkle.reader import DirectorySource
from ...schemas.errors import EvidenceError, PeerError, PlausibleError, SetupError
from ..server import answer_file
from ..serving import text_answer
from .follow import follow_once, open_source
from .index import sign_index
from .mirror import Mirror
from .signatures import SignatureCheck

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response

POLL_SECONDS = 5.0
_MOST_SECONDS = 300.0
_log = logging.getLogger("plausible.mirror")


class Followers:
    """One thread for each log that has a source: looks at it every `seconds`, seldomer while it cannot be read.

    One more signs the absence indexes.
    """

    def __init__(self, mirror: Mirror, seconds: float = POLL_SECONDS) -> None:
        self._mirror, self._seconds = mirror, seconds
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._checks: SignatureCheck | None = None
        self._lock = threading.Lock()
        self._indexer = threading.Thread(target=self._index, name="mirror-index", daemon=True)
        self._watch = threading.Thread(target=self._run, name="mirror-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow; logs that are added later are taken up within a few seconds."""
        self._watch.start()
        self._indexer.start()

    def close(self) -> None:
        """Let each finish the run of entries it is at, then end."""
        self._stop.set()
        self._watch.join()
        self._indexer.join()
        for thread in self._threads.values():
            thread.join()
        if self._checks is not None:
            self._checks.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                for log in self._mirror.watched():
                    known = self._threads.get(log.origin)
                    if (known is None or not known.is_alive()) and self._mirror.settings(log.origin).source:
                        thread = threading.Thread(target=self._follow, args=(log.origin,), daemon=True)
                        self._threads[log.origin] = thread
                        thread.start()
            except PlausibleError as error:
                _log.error("%s", error)
            self._stop.wait(min(self._seconds, 2.0))

    def _signatures(self) -> SignatureCheck:
        with self._lock:
            self._checks = self._checks or SignatureCheck()
            return self._checks

    def _follow(self, origin: str) -> None:
        wait = self._seconds
        while not self._stop.is_set():
            try:
                settings = self._mirror.settings(origin)
                if not settings.source or origin not in {log.origin for log in self._mirror.watched()}:
                    return
                checks = self._signatures() if settings.signatures else None
                follow_once(self._mirror, origin, signatures=checks, progress=self._progress)
                self._said(origin, "log")
                wait = self._seconds
            except _Stopped:
                return
            except PlausibleError as error:
                self._said(origin, "log", error)
                wait = min(max(wait * 2, 1.0), _MOST_SECONDS)
            except Exception as error:  # noqa: BLE001  a bug must not end the following of a log in silence
                _log.exception("following %s failed", origin)
                self._said(origin, "log", SetupError(f"following failed: {type(error).__name__}"))
                wait = _MOST_SECONDS
            self._stop.wait(wait)

    def _progress(self, _done: int, _total: int) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _index(self) -> None:
        """One thread signs the absence indexes of all copies: what that costs must not hold up the copying."""
        while not self._stop.is_set():
            for log in self._mirror.watched():
                if self._stop.is_set():
                    return
                try:
                    with contextlib.ExitStack() as stack:
                        place = self._mirror.settings(log.origin).source
                        source = stack.enter_context(open_source(place)) if place else None
                        sign_index(self._mirror, log.origin, source, progress=self._progress)
                    self._said(log.origin, "index")
                except _Stopped:
                    return
                except PeerError:
                    pass  # the follower says so
                except PlausibleError as error:
                    self._said(log.origin, "index", error)
                except Exception:  # noqa: BLE001  as above
                    _log.exception("the absence index of %s failed", log.origin)
            self._stop.wait(self._seconds)

    def _said(self, origin: str, part: str, error: PlausibleError | None = None) -> None:
        kind = "" if error is None else ("false" if isinstance(error, EvidenceError) else "unreachable")
        text = "" if error is None else str(error)
        if self._mirror.say(origin, part, kind, text):
            if kind:
                _log.error("%s: %s", origin, text)
            else:
                _log.warning("%s: all is well again", origin)


class _Stopped(Exception):  # noqa: N818  asked to end between two runs
    pass


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


def create_app(mirror: Mirror, *, poll_seconds: float | None = POLL_SECONDS) -> FastAPI:
    """The application of one mirror. Needs the `node` extra (`SetupError` names it). Without `poll_seconds` no log is
    followed."""
    try:
        from fastapi import FastAPI
    except ImportError:
        raise SetupError("a mirror needs FastAPI: pip install 'plausible-deniability[node]'") from None

    copies = Copies(mirror)
    followers = None if poll_seconds is None else Followers(mirror, poll_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        import asyncio

        if followers is not None:
            followers.start()
        yield
        if followers is not None:
            await asyncio.to_thread(followers.close)

    app = FastAPI(
        title="plausible mirror", version="1", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )

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

    app.add_api_route("/healthz", healthz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/{digest}/{path:path}", file, methods=["GET", "HEAD"], response_model=None)
    return app


__all__ = ["POLL_SECONDS", "Followers", "create_app"]
