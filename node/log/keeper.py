"""The thread that keeps a log: requests in, many of them under one durable commit, then heads and cosignatures.

    take      requests of all authors, a turn for each (fairness.py)
    check     form, allowlist, signature: what is refused here costs nobody else a commit
    accept    one state.db commit for all of them: chains, places, entries; after it a request is answered
    sequence  tiles and a signed head, at once while somebody waits for it, otherwise within a second
    witness   the quorum's cosignatures, then `checkpoint` moves

A request that was answered is durable: a kill loses answers, never what an answer said. Where the disk is full a
request fails with 503 and nothing of it happened; after a failed flush nothing is accepted or signed any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ...ledger.storage.disk import StorageBroken, StorageFull
from ...ledger.writing.witnessed import WitnessedLog
from ...schemas.errors import EvidenceError, PlausibleError, PolicyError, SetupError
from .admission import Candidate, read_candidate
from .allowlist import Allowlist
from .chains import ChainStore, OutOfStep, Refused, Taken
from .fairness import FairQueue

_log = logging.getLogger("plausible.log")

BATCH = 256
"""Entries in one commit, about."""
COMPANY_SECONDS = 0.003
"""How long a commit is put off where the last one had several requests: less than a flush costs."""
HEAD_SECONDS = 1.0
"""Without anybody waiting, a head is signed this long after the first entry it is to cover."""
RETRY_SECONDS = 1.0
"""How long after a failed write, or a quorum that was not met, the next try is made."""
SOON_SECONDS = 0.005
"""How soon a round of the witnesses is looked at again; entries are accepted meanwhile."""
IDLE_SECONDS = 0.5
START_SECONDS = 3.0
"""How long opening waits for witnesses to say how far they are."""
CLOSE_SECONDS = 5.0
"""How long closing waits for the quorum of a last head."""

Outcome = Taken | OutOfStep | Refused
SEQUENCED, WITNESSED = "sequenced", "witnessed"


@dataclass(frozen=True, slots=True)
class Request:
    """Entries of one author and chain that wait for their places."""

    leaves: tuple[bytes, ...] = field(repr=False)
    answer: Future[Outcome] = field(default_factory=Future[Outcome], repr=False)

    @property
    def count(self) -> int:
        """Entries."""
        return len(self.leaves)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.leaves))


class Unavailable(SetupError):  # noqa: N818  (named by what is the case)
    """The log takes nothing at the moment; the message says why."""


class Keeper:
    """See the module. `submit` and `reached` from any thread; `close` answers what was taken, then ends the thread."""

    def __init__(
        self,
        log: WitnessedLog,
        store: ChainStore,
        allowlist: Allowlist,
        *,
        refresh: float = 3600.0,
        queue: FairQueue[Request] | None = None,
    ) -> None:
        """`refresh`: seconds after which a head that does not move is cosigned again, so that it tells a later time."""
        self._witnessed_log = log
        self._store = store
        self._allowlist = allowlist
        self._origin = store.origin
        self._refresh = refresh
        self._queue: FairQueue[Request] = FairQueue() if queue is None else queue
        self._waiting: dict[str, list[tuple[int, Future[None]]]] = {SEQUENCED: [], WITNESSED: []}
        self._lock = threading.Lock()
        self.deliver: Callable[[Callable[[], None]], object] = lambda run: run()
        """How answers are given: here and now, or all of a commit at once in an event loop (`call_soon_threadsafe`)."""
        self._answered: set[int] = set()
        self._company = 0
        self._closing = False
        self._broken: PlausibleError | None = None
        self._full: PlausibleError | None = None
        self._head_due: float | None = None
        self._sequence_at = self._witness_at = self._retry_at = 0.0
        self._refreshed = time.monotonic()
        self._served = bool(store.cosigned[1])
        self.commits = 0
        self.sequenced = log.size
        """Entries under the last signed head."""
        self.witnessed = log.cosigned_size
        """Entries under the last head that met the quorum."""
        log.hear_witnesses(START_SECONDS)
        self._head_due = time.monotonic() if log.accepted > log.size else None
        self._thread = threading.Thread(target=self._run, name="log-keeper", daemon=True)
        self._thread.start()

    # --- for the service ---

    @property
    def trouble(self) -> str | None:
        """Why nothing is accepted, or what keeps heads from being signed or witnessed; None: all is well."""
        return self.stopped or self._witnessed_log.trouble

    @property
    def stopped(self) -> str | None:
        """Why nothing can be accepted at the moment; None if it can."""
        reason = self._unavailable()
        return None if reason is None else str(reason)

    def _unavailable(self) -> PlausibleError | None:
        return self._broken or self._witnessed_log.held or self._full

    def submit(self, author: bytes, request: Request) -> bool:
        """Let a request wait for its answer; False if there is no room. `author` is whose line it waits in.

        The answer raises `Unavailable` if it cannot be stored; so does this where nothing can be.
        """
        reason = self._broken or self._witnessed_log.held
        if reason is not None:
            raise Unavailable(str(reason))
        with self._lock:  # nothing may come behind the end
            if self._closing:
                raise Unavailable("the log is closing")
            return self._queue.put(author, request)

    def reached(self, state: str, index: int) -> Future[None]:
        """Done once entry `index` is sequenced or witnessed; `Unavailable` if the log closes or breaks before."""
        done: Future[None] = Future()
        with self._lock:
            if index < (self.sequenced if state == SEQUENCED else self.witnessed):
                done.set_result(None)
            elif self._closing or self._broken is not None:
                done.set_exception(Unavailable("the log is closing" if self._closing else str(self._broken)))
            else:
                self._waiting[state].append((index, done))
                self._queue.wake()
        return done

    def hurry(self) -> None:
        """Nobody waits for heads any more, and nothing more is taken: the service is about to end."""
        with self._lock:
            self._closing = True
            self._give_up("the log is closing")
        self._queue.wake()

    def close(self) -> None:
        """Answer everything that was taken, publish it, and stop."""
        self.hurry()
        self._thread.join()

    # --- the thread ---

    def _run(self) -> None:
        while True:
            if self._company > 1 and not self._closing:
                # whoever was answered together may come back together: one flush for all of them again
                self._queue.gather(self._company, COMPANY_SECONDS)
            requests = self._queue.take(BATCH, self._idle_seconds())
            self._company = max(sum(request.count for request in requests), self._company // 2)
            last = self._closing and not requests and not len(self._queue)
            try:
                self._accept(requests)
                self._advance(last=last)
            except StorageBroken as error:
                self._break(error)
            except StorageFull as error:
                self._full = error
                self._retry_at = time.monotonic() + RETRY_SECONDS
                _log.warning("%s; trying again", error)
            except PlausibleError as error:
                self._break(error)
            except Exception as error:  # noqa: BLE001
                # a bug: what was answered is durable, what was not was rolled back; nothing is built on it
                _log.exception("the log stops")
                self._break(SetupError(f"the log stopped: {type(error).__name__}"))
            finally:
                reason = Unavailable(self.trouble or "the log takes nothing at the moment")
                self._answer([(request, reason) for request in requests if id(request) not in self._answered])
                self._answered.clear()
            if last:
                break
        self._witnessed_log.close()

    def _idle_seconds(self) -> float:
        """How long there is nothing to do, at most."""
        if self._closing:
            return 0.0
        log, now, seconds = self._witnessed_log, time.monotonic(), IDLE_SECONDS
        if self._unavailable() is not None and self._full is None:
            return seconds
        if log.accepted > log.size:
            due = now if self._waited_for() else (self._head_due or now)
            seconds = min(seconds, max(due, self._sequence_at, self._retry_at) - now)
        elif log.size > log.cosigned_size or log.cosigning:
            seconds = min(seconds, max(self._witness_at, self._retry_at) - now)
        return max(0.0, seconds)

    def _waited_for(self) -> bool:
        with self._lock:
            return any(self._waiting.values())

    # --- accepting ---

    def _accept(self, requests: Sequence[Request]) -> None:
        live = [request for request in requests if request.answer.set_running_or_notify_cancel()]
        if not live or self._broken is not None or self._witnessed_log.held is not None:
            return
        checked: list[tuple[Request, list[Candidate]]] = []
        refused: list[tuple[Request, Outcome | Unavailable]] = []
        for request in live:
            found = self._check(request)
            if isinstance(found, Refused):
                refused.append((request, found))
            else:
                checked.append((request, found))
        self._answer(refused)
        if not checked:
            return
        log = self._witnessed_log
        with self._store.accepting(self._leaf_hash) as acceptance:
            taken = [(request, acceptance.take(entries)) for request, entries in checked]
        self._full = None
        self.commits += 1
        log.log.took(acceptance.rows)
        if acceptance.rows and self._head_due is None:
            self._head_due = time.monotonic() + HEAD_SECONDS
        self._answer([*taken])

    def _answer(self, answers: Sequence[tuple[Request, Outcome | Unavailable]]) -> None:
        if not answers:
            return
        self._answered.update(id(request) for request, _ in answers)

        def give() -> None:
            for request, outcome in answers:
                if request.answer.done():
                    continue
                if isinstance(outcome, Unavailable):
                    request.answer.set_exception(outcome)
                else:
                    request.answer.set_result(outcome)

        try:
            self.deliver(give)
        except RuntimeError:  # the event loop is closed: nobody waits there any more
            give()

    def _check(self, request: Request) -> list[Candidate] | Refused:
        """The entries of a request, their form and signatures verified."""
        entries: list[Candidate] = []
        for number, leaf in enumerate(request.leaves):
            where = f"entry {number}: " if request.count > 1 else ""
            try:
                entry = read_candidate(leaf)
            except EvidenceError as error:
                return Refused(400, f"{where}{error}")
            try:
                author = self._allowlist.check(entry.author, self._witnessed_log.accepted, self._origin)
                entry.verify(author.key)
            except (EvidenceError, PolicyError) as error:
                return Refused(403, f"{where}{error}")
            entries.append(entry)
        return entries

    def _leaf_hash(self, position: int) -> bytes | None:
        """Of an entry whose tile is written. Called inside a transaction: state.db must not be asked here."""
        size = self._witnessed_log.size
        return self._witnessed_log.log.reader.hash(0, position, size) if position < size else None

    # --- heads ---

    def _advance(self, *, last: bool) -> None:
        log, now = self._witnessed_log, time.monotonic()
        if self._broken is not None or log.held is not None or (now < self._retry_at and not last):
            return
        if log.accepted > log.size and (last or now >= self._sequence_at):
            due = self._head_due is None or now >= self._head_due
            if last or due or self._waited_for():
                if log.sequence():
                    self._head_due = None
                else:  # too few witnesses have said how far they are
                    self._sequence_at = time.monotonic() + RETRY_SECONDS
                self._publish()
        now = time.monotonic()
        again = now - self._refreshed > self._refresh and log.size == log.cosigned_size
        if (log.size > log.cosigned_size or again or not self._served) and (last or now >= self._witness_at):
            if log.witness(CLOSE_SECONDS if last else 0.0, again=again):
                self._refreshed, self._served = time.monotonic(), True
            elif not last:
                self._witness_at = time.monotonic() + (SOON_SECONDS if log.cosigning else RETRY_SECONDS)
            self._publish()
        if not last:
            log.complete()
        log.sync(force=last)

    def _publish(self) -> None:
        """Tell those who wait."""
        log = self._witnessed_log
        with self._lock:
            self.sequenced, self.witnessed = log.size, log.cosigned_size
            for state, size in ((SEQUENCED, self.sequenced), (WITNESSED, self.witnessed)):
                for index, done in self._waiting[state]:
                    if index < size and done.set_running_or_notify_cancel():
                        done.set_result(None)
                self._waiting[state] = [
                    (index, done) for index, done in self._waiting[state] if index >= size and not done.cancelled()
                ]

    def _break(self, error: PlausibleError) -> None:
        _log.error("%s", error)
        self._broken = error
        with self._lock:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        """The caller holds the lock."""
        for waiting in self._waiting.values():
            for _, done in waiting:
                if done.set_running_or_notify_cancel():
                    done.set_exception(Unavailable(reason))
            waiting.clear()
