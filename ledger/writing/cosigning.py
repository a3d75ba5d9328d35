"""Collecting cosignatures: the log's side of its witnesses, in this process or elsewhere.

All witnesses are asked at once and nobody waits for the slowest: a round is over as soon as the policy's quorum has
signed, or when every witness has answered or run out of time. The writer's thread never waits long for a round: it
comes back to it, and the head it is about stays the same although the log grows meanwhile. A witness whose answer to an
earlier round is still out is not asked again, so one that hangs costs the log a thread and no time.

Whoever has not cosigned a head when its quorum is met is asked again while no newer head comes, ever more rarely: a
witness that was away has the head soon after it returns, and nobody waits for it.

A witness that has cosigned what this log does not know proves that the log's state was restored or copied; then nothing
is signed any more. Before the first signature after a start enough witnesses must have said that they have not (n-k+1
of a k-of-n quorum, so that no quorum could have gone ahead).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from ...schemas.errors import PlausibleError, SetupError
from ..notes.note import Note, NoteSignature
from ..notes.policy import Policy
from ..storage.disk import StorageBroken
from ..storage.state import Head
from ..witness import Cosigned, Outcome, OutOfStep, Refused

_log = logging.getLogger("plausible.ledger")

ROUND_SECONDS = 12.0
"""How long a round may take without a quorum; above a remote witness's own deadline."""
PATIENCE_SECONDS = 0.25
"""How long the writer's thread waits for a round before it does something else."""
REST_SECONDS = 1.0
"""How long a head that met its quorum stays the newest before the remaining witnesses are asked again."""
MAX_REST_SECONDS = 30.0
"""The pause between such questions doubles up to this."""


class Ahead(SetupError):  # noqa: N818  (named by what happened)
    """A witness has cosigned what this log's state does not know; the message is the beginning of a sentence."""


class Cosigner(Protocol):
    """A witness, near or far."""

    @property
    def name(self) -> str:
        """The name of its keys."""
        ...

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        """Ask for cosignatures; `PlausibleError` if it cannot be asked."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


Proof = Callable[[int, int], list[bytes]]


@dataclass(slots=True)
class _Round:
    """One head shown to the witnesses: what is still out, what came back, since when.

    `later` are those that still owe an answer to something earlier; they are asked once it is there. Of a head that met
    its quorum, the remaining witnesses are asked `at` a time, and again after `pause` seconds.
    """

    head: Head
    began: float
    out: dict[str, Future[Outcome]] = field(default_factory=dict)
    signed: list[NoteSignature] = field(default_factory=list)
    by: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    ready: float = 0.0
    at: float = 0.0
    pause: float = REST_SECONDS


class Cosigners:
    """The witnesses that can be asked, and how far each is known to be. Used by one thread."""

    def __init__(self, policy: Policy, cosigners: Iterable[Cosigner], proof: Proof) -> None:
        """`proof(old, new)` makes consistency proofs of the log."""
        self._policy = policy
        self._proof = proof
        self._sizes: dict[str, int] = {}
        self._complaints: dict[str, str] = {}
        self._heard: set[str] = set()
        self.trouble: str | None = None
        """What the last witness that did not help said."""
        self.replace(cosigners)

    def replace(self, cosigners: Iterable[Cosigner]) -> None:
        """Use these connections from now on (the old ones were closed for a fork)."""
        self._cosigners = {cosigner.name: cosigner for cosigner in cosigners}
        self._round: _Round | None = None
        self._rest: _Round | None = None
        self._hearing: dict[str, Future[Outcome]] = {}
        self._late: dict[str, Future[Outcome]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Start nothing any more; answers that are still out are not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    @property
    def busy(self) -> bool:
        """Whether answers are out that a round waits for."""
        return self._round is not None and bool(self._round.out or self._round.later)

    # --- before the first signature ---

    def heard(self, head: Head, patience: float = PATIENCE_SECONDS) -> bool:
        """Whether enough witnesses are known not to be ahead of `head`; asks those of the policy.

        Waits `patience` seconds at most; ask again for the rest. Raises `SetupError` if a witness has cosigned what
        this log's state does not know.
        """
        for name in self._names():
            if name not in self._heard and name not in self._hearing and name in self._cosigners:
                self._hearing[name] = self._submit(name, head.size, [], head.note)
        end = time.monotonic() + patience
        while self._hearing and not self._enough_heard() and (left := end - time.monotonic()) > 0:
            wait(self._hearing.values(), timeout=left, return_when=FIRST_COMPLETED)
            self._take_heard(head)
        self._take_heard(head)
        if self._enough_heard():
            self._late.update(self._hearing)
            self._hearing = {}
            return True
        missing = sorted(w.name for w in self._policy.witnesses if w.key.name not in self._heard)
        reason = "; ".join(self._complaints[name] for name in self._names() if name in self._complaints)
        self.trouble = f"no head is signed before these witnesses answer: {', '.join(missing)}"
        if reason:
            self.trouble += f" ({reason})"
        return False

    def _enough_heard(self) -> bool:
        unheard = {w.name for w in self._policy.witnesses if w.key.name not in self._heard}
        return self._policy.quorum is None or not unheard or not self._policy.satisfied_by(unheard)

    def _take_heard(self, head: Head) -> None:
        for name in [name for name, future in self._hearing.items() if future.done()]:
            outcome = self._result(name, self._hearing.pop(name))
            if outcome is None:
                continue
            if isinstance(outcome, Refused):
                if outcome.status == 422:
                    raise Ahead(f"witness {name} has cosigned another head of size {head.size} than state.db knows")
                self._complain(name, f"witness {name} refused ({outcome.status}): {outcome.reason}")
                continue
            size = head.size if isinstance(outcome, Cosigned) else outcome.size
            if size > head.size:
                raise Ahead(f"witness {name} has cosigned size {size}, state.db knows size {head.size}")
            self._sizes[name] = size
            self._heard.add(name)

    # --- each head ---

    def collect(self, head: Head, patience: float = PATIENCE_SECONDS) -> tuple[Head, list[NoteSignature]] | None:
        """(the head that was shown, its cosignatures), or None while the round is not over: then come again.

        A round that is under way goes on with its own head, whatever `head` is. Others than the quorum may be missing.
        Raises `StorageBroken` if a witness contradicts this log: then the writer must stop.
        """
        if self._round is None:
            self._leave_rest()
            self._round = _Round(head, time.monotonic())
            for name in self._names():
                self._show(self._round, name)
        current = self._round
        end = time.monotonic() + patience
        while True:
            self._show_later(current)
            self._take(current)
            awaited = [*current.out.values(), *(self._late[name] for name in current.later)]
            if not awaited or self._quorum(current) or time.monotonic() - current.began > ROUND_SECONDS:
                break
            left = end - time.monotonic()
            if left <= 0:
                return None
            wait(awaited, timeout=left, return_when=FIRST_COMPLETED)
        self._round, self._rest = None, self._rest_of(current.head, current.out)
        return current.head, current.signed

    def _show_later(self, current: _Round) -> None:
        """Ask those whose earlier answer has come meanwhile."""
        for name in [name for name in current.later if self._late[name].done()]:
            current.later.discard(name)
            self._show(current, name)

    # --- a head that met its quorum ---

    def rest(self, head: Head, served: bytes) -> list[NoteSignature]:
        """Cosignatures of `head`, the newest one, that are not in `served`, its note that met the quorum; never waits.

        Asks the witnesses whose are missing, if it is time; come again for their answers. Raises `StorageBroken` as
        `collect` does.
        """
        current, now = self._rest, time.monotonic()
        if current is None or current.head.size != head.size:
            self._leave_rest()
            current = self._rest = self._rest_of(head, {})
        if now < current.ready or (now < current.at and not any(future.done() for future in current.out.values())):
            return []
        self._take(current)
        identities = {(witness.key.name, witness.key.key_id) for witness in self._policy.witnesses}
        lines = {(line.name, line.key_id) for line in Note.parse(served).signatures} & identities
        if now >= current.at:
            have = current.by | {name for name, _ in lines}
            current.again.clear()
            for name in self._names():
                if name not in have and name not in current.out:
                    self._show(current, name)
            current.at = now + current.pause
            current.pause = min(2 * current.pause, MAX_REST_SECONDS)
        signed, current.signed = current.signed, []
        return [line for line in signed if (line.name, line.key_id) not in lines]

    def _rest_of(self, head: Head, out: dict[str, Future[Outcome]]) -> _Round:
        now = time.monotonic()
        # answers that come right after the quorum's are taken together, and not while the next head is being made
        return _Round(head, now, out, ready=now + REST_SECONDS, at=now + REST_SECONDS)

    def _leave_rest(self) -> None:
        """There is a newer head: what is still out is waited for no more."""
        if self._rest is not None:
            self._late.update(self._rest.out)
            self._rest = None

    def _take(self, current: _Round) -> None:
        for name in [name for name, future in current.out.items() if future.done()]:
            outcome = self._result(name, current.out.pop(name))
            if isinstance(outcome, Cosigned):
                self._complaints.pop(name, None)
                self._sizes[name] = current.head.size
                current.signed += outcome.signatures
                current.by.add(name)
            elif isinstance(outcome, OutOfStep):
                if outcome.size > current.head.size:
                    raise StorageBroken(
                        f"witness {name} has cosigned size {outcome.size}, this ledger only {current.head.size}: "
                        "another writer signs this log, the writer stops"
                    )
                self._sizes[name] = outcome.size
                if name not in current.again:
                    current.again.add(name)
                    self._show(current, name)
            elif isinstance(outcome, Refused):
                text = f"witness {name} refused ({outcome.status}): {outcome.reason}"
                if outcome.status == 422:
                    raise StorageBroken(f"{text}; this log contradicts what was witnessed, the writer stops")
                self._complain(name, text)

    def _quorum(self, current: _Round) -> bool:
        """Whether the witnesses that signed make the quorum by themselves."""
        return self._policy.satisfied_by({w.name for w in self._policy.witnesses if w.key.name in current.by})

    def _show(self, current: _Round, name: str) -> None:
        """Ask one witness, unless its answer to something earlier is still out."""
        late = self._late.get(name)
        if late is not None and not late.done():
            current.later.add(name)
            return
        if late is not None:
            self._result(name, self._late.pop(name))  # too late to count; what went wrong is told
        if name not in self._cosigners:
            return
        old, new = self._sizes.get(name, 0), current.head.size
        try:
            proof = self._proof(old, new) if 0 < old < new else []
        except PlausibleError as error:
            self._complain(name, f"witness {name} cannot be asked: {error}")
            return
        current.out[name] = self._submit(name, old, proof, current.head.note)

    def _names(self) -> list[str]:
        # one witness may stand in the policy under several keys; asked once it signs with all of them
        return list(dict.fromkeys(witness.key.name for witness in self._policy.witnesses))

    def _submit(self, name: str, old: int, proof: list[bytes], note: bytes) -> Future[Outcome]:
        if self._pool is None:
            # one thread for each, and one more for each whose earlier answer may still be out
            self._pool = ThreadPoolExecutor(2 * len(self._cosigners), thread_name_prefix="witness")
        return self._pool.submit(self._cosigners[name].add_checkpoint, old, proof, note)

    def _result(self, name: str, future: Future[Outcome]) -> Outcome | None:
        try:
            return future.result()
        except PlausibleError as error:
            self._complain(name, f"witness {name} failed: {error}")
            return None

    def _complain(self, name: str, text: str) -> None:
        """Asked again every second, a witness that is away is logged once."""
        self.trouble = text
        if self._complaints.get(name) != text:
            self._complaints[name] = text
            _log.warning("%s", text)
