"""The threads of a running mirror: one for each log that is followed, one for all absence indexes."""

from __future__ import annotations

import contextlib
import logging
import threading

from ...schemas.errors import EvidenceError, PeerError, PlausibleError, SetupError
from .archive import keep_archive
from .follow import follow_once, open_source
from .index import sign_index
from .mirror import Mirror
from .signatures import SignatureCheck

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
        self._archived: dict[str, int] = {}
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
                if not settings.source or not self._mirror.keys(origin):
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
                        size = self._mirror.head(log.origin).size
                        if source is not None and self._archived.get(log.origin) != size:
                            keep_archive(self._mirror, log.origin, source)
                            self._archived[log.origin] = size
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


__all__ = ["POLL_SECONDS", "Followers"]
