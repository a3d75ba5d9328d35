"""Many add-checkpoint requests, one durable commit: a thread that answers what has come in since the last commit.

A flush of the disk costs as much for one request as for a hundred. While one batch is being flushed the next collects;
no request waits for company. The queue is bounded: beyond it a client is told to come again (429).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from ...ledger.witness import Outcome
from ...schemas.errors import PlausibleError, SetupError
from ..serving import text_answer

if TYPE_CHECKING:
    from starlette.responses import Response

QUEUE = 1024
RETRY_SECONDS = 1
BATCH = 256

_log = logging.getLogger("plausible.witness")


class Heads(Protocol):
    """What answers bodies: a witness, or a mirror's pending heads."""

    def handle_all(self, bodies: Sequence[bytes]) -> list[Outcome]:
        """Answer add-checkpoint bodies, in this order, in one durable commit."""
        ...


class Committer:
    """Answers bodies through one thread; `submit` is safe from any. `close` answers what was taken, then ends it."""

    def __init__(self, witness: Heads, *, limit: int = QUEUE, batch: int = BATCH) -> None:
        self._witness = witness
        self._batch = batch
        self._queue: queue.Queue[tuple[bytes, Future[Outcome]] | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._run, name="witness-committer", daemon=True)
        self._lock = threading.Lock()
        self._closed = False
        self.batches = 0
        self.answered = 0
        self._thread.start()

    def submit(self, body: bytes) -> Future[Outcome] | None:
        """The future answer to a body, or None if the queue is full. It raises `SetupError` if the state fails."""
        answer: Future[Outcome] = Future()
        with self._lock:  # nothing may come behind the end that `close` puts in
            if self._closed:
                return None
            try:
                self._queue.put_nowait((body, answer))
            except queue.Full:
                return None
        return answer

    async def answer(self, body: bytes) -> Response:
        """The answer to a posted body, after it is durable; 429 while too many wait."""
        waiting = self.submit(body)
        if waiting is None:
            return text_answer(429, "too many requests are waiting", **{"Retry-After": str(RETRY_SECONDS)})
        outcome = await asyncio.wrap_future(waiting)
        return text_answer(outcome.status, outcome.body, outcome.content_type)

    def close(self) -> None:
        """Answer everything that was taken and stop."""
        with self._lock:
            again, self._closed = self._closed, True
        if not again:
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            taken: list[tuple[bytes, Future[Outcome]]] = []
            item = self._queue.get()
            while item is not None:
                taken.append(item)
                if len(taken) == self._batch:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            going = item is not None
            if taken:
                self._answer(taken)

    def _answer(self, taken: list[tuple[bytes, Future[Outcome]]]) -> None:
        live = [(body, answer) for body, answer in taken if answer.set_running_or_notify_cancel()]
        try:
            outcomes = self._witness.handle_all([body for body, _ in live])
        except PlausibleError as error:
            _log.error("%s", error)
            for _, answer in live:
                answer.set_exception(error)
            return
        except Exception as error:  # noqa: BLE001
            # a bug: nothing was signed (the transaction was rolled back); it must not take the thread along
            _log.exception("answering a batch failed")
            for _, answer in live:
                answer.set_exception(SetupError(f"the witness failed: {type(error).__name__}"))
            return
        self.batches += 1
        self.answered += len(live)
        for (_, answer), outcome in zip(live, outcomes, strict=True):
            answer.set_result(outcome)
