"""The thread behind `append`: group commit in the order of formats, durable spooling, second writers, forks.

Callers hand over a function that makes a `Submission` (sealing a record costs about a millisecond, so it happens here,
not in the caller's thread) and get a `Receipt`. One round of the thread takes whatever waits:

    seal → vault.db commit → (if this process holds the lock) accept → tiles → head → cosignatures

A process without the lock stops after the vault commit: the holder takes its submissions from there, and if the holder
goes away this process takes the lock itself. Whatever fails is either still in the vault, or in the journal
(`on_error="spool"`), or reported by the receipt *and* by the next `append`, `flush` or `close`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...schemas.errors import PlausibleError, SetupError, UsageError
from ..absence.follow import Follower
from ..config import LedgerConfig
from ..keys.authorkeys import AuthorKeys
from ..notes.note import SignerKey
from ..notes.policy import Policy
from ..recorder.journal import Journal
from ..seeds.draws import BLOCK, DrawPool
from ..storage.disk import StorageBroken, StorageFull
from ..storage.lock import LOCK_FILE, SequencerLock
from ..storage.state import STATE_FILE, RolledBack, State
from ..vault.vault import VAULT_FILE, Submission, Vault
from ..vault.vaultkey import VaultKey
from .cosigning import PATIENCE_SECONDS, Cosigner
from .following import Following
from .receipt import ACCEPTED, PENDING, QUEUED, SEQUENCED, SPOOLED, WITNESSED, NotYet, Progress, Receipt
from .sending import Sender
from .sequencer import Accepted, Sequencer
from .witnesses import open_witnesses

_log = logging.getLogger("plausible.ledger")

MAX_WAITING = 2048
"""Submissions in memory at most; above it `submit` waits, so nothing is dropped and memory stays bounded."""
HEAD_SECONDS = 1.0
"""Without anybody waiting, a head is signed this long after the first entry it is to cover."""
POLL_SECONDS = 0.2
"""How often submissions of other processes are looked for."""
FOLLOW_SECONDS = 0.02
"""The same while somebody waits for what another process sequences."""
START_SECONDS = 3.0
"""How long opening waits for witnesses to say how far they are, if too few have."""
CLOSE_SECONDS = 5.0
"""How long closing waits for the quorum of a last head."""
BREATH_SECONDS = 0.001
"""How long the thread works on at most before other threads get a turn, while somebody waits for a receipt."""
RETRY_SECONDS = 1.0
"""How long after a failed write, or a quorum that was not met, the next try is made."""


@dataclass(frozen=True, slots=True)
class WriterKeys:
    """The private keys a sequencing process holds."""

    authors: AuthorKeys
    logs: tuple[SignerKey, ...]
    witnesses: tuple[tuple[SignerKey, ...], ...]
    """The keys of each witness of log.toml, in its order."""
    index: SignerKey | None = None
    """The key that signs the absence index, if log.toml wants it kept up."""


@dataclass(slots=True)
class Counters:
    """What this process did since it opened the ledger; for status lines and tests."""

    submitted: int = 0
    accepted: int = 0
    spooled: int = 0
    flushed: int = 0
    failed: int = 0
    torn_bytes: int = 0
    exceptions: int = 0
    """Exceptions of wrapped calls, which pass through and are not logged."""


def _without_record(submission: Submission) -> Submission:
    """What following an entry needs; records and secrets stay in memory no longer than it takes to store them."""
    return replace(submission, record=None, secret=None)


class Writer:
    """See the module. Thread-safe; `close` must be called (an exit handler does, a kill does not)."""

    def __init__(
        self,
        directory: Path,
        config: LedgerConfig,
        *,
        keys: WriterKeys,
        policy: Policy,
        on_error: str,
        second_writer: str,
        spool: Path,
        vault_key: VaultKey | None = None,
        sender: Sender | None = None,
    ) -> None:
        self._directory = directory
        self._sender = sender
        self._config = config
        self._keys = keys
        self._policy = policy
        self._spooling = on_error == "spool"
        self.progress = Progress()
        self.counters = Counters()
        self.state = State(directory / STATE_FILE)
        try:
            self.vault = Vault(directory / VAULT_FILE, key=vault_key)
        except BaseException:
            self.state.close()
            raise
        try:
            keys.authors.require(self.state.chain.author)
        except BaseException:
            self.vault.close()
            self.state.close()
            raise
        self.following = Following(directory, self.state)
        self.journal = Journal(spool, lambda: self.vault.seal)
        self.draws = DrawPool(self.state, keep=8 * BLOCK, blocks=16) if self._spooling else DrawPool(self.state)
        self._lock = SequencerLock(directory / LOCK_FILE)
        self._sequencer: Sequencer | None = None
        self._witnesses: list[Cosigner] = []
        self._queue: deque[tuple[Callable[[], Submission], Receipt]] = deque()
        self._later: deque[Callable[[], None]] = deque()
        self._unresolved: dict[bytes, Receipt] = {}
        self._queued: dict[bytes, tuple[int, Submission]] = {}
        self._broken: PlausibleError | None = None
        self._busy = threading.Lock()
        self._sleeping = False
        self._closing = False
        self._wake = self.progress.wanted
        self._retry_at = 0.0
        self._breathed = 0.0
        self._sequence_at = 0.0
        self._head_due: float | None = None
        self._spool_warned = False
        self._held: RolledBack | None = None
        self._trouble: str | None = None
        self.index: Follower | None = None
        """What keeps the absence index up, where this process sequences and log.toml wants it."""
        try:
            if self._lock.acquire():
                self._become_sequencer()
                self._recover()
            elif second_writer == "error":
                raise SetupError(
                    f"another process writes to {directory}: close it there, or open with second_writer='enqueue'"
                )
            if self._spooling:
                # in hand before the first call: when the disk is full there are no new ones
                with contextlib.suppress(StorageFull):
                    self.draws.refill()
            self._look_held()
            self._publish()
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._run, name=f"plausible-writer {directory.name}", daemon=True)
        self._thread.start()

    # --- for callers ---

    @property
    def sequencing(self) -> bool:
        """Whether this process holds the ledger's lock."""
        return self._sequencer is not None

    def submit(self, key: bytes, seal: Callable[[], Submission]) -> Receipt:
        """Queue one submission; `seal` runs in the writer's thread. Raises what an earlier submission died of."""
        self.check()
        while len(self._queue) >= MAX_WAITING:
            self._wake.set()
            with self.progress.condition:
                self.progress.condition.wait(0.05)
            self.check()
        receipt = Receipt(key, self.progress)
        self._unresolved[key] = receipt
        self._queue.append((seal, receipt))
        self.counters.submitted += 1
        if self._sleeping:
            self._wake.set()
        return receipt

    def erase(self, commitment: bytes) -> bool:
        """`Vault.erase`, after the journal was emptied into the vault: a copy there would come back."""
        with self._busy:
            self._flush_journal()
            return self.vault.erase(commitment)

    def later(self, task: Callable[[], None]) -> None:
        """Run `task` in the writer's thread after its next round; it must not raise."""
        self._later.append(task)

    def check(self) -> None:
        """Raise what went wrong since the last call, once."""
        if self._closing:
            raise UsageError("the ledger is closed")
        if self._broken is not None and not self._spooling:
            raise self._broken
        if self.progress.failures:
            raise self._take_failure()

    def flush(self, state: str, timeout: float | None) -> None:
        """Wait until all that was submitted so far has reached `state`; see `Ledger.flush`."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        waiting = list(self._unresolved.values())
        for receipt in waiting:
            if receipt.error is None:
                receipt.wait(state, left())
        if self.progress.failures:
            raise self._take_failure()
        if state != ACCEPTED:
            self._wait_for_size(state, left())

    def _wait_for_size(self, state: str, timeout: float | None) -> None:
        size = self.state.accepted
        deadline = None if timeout is None else time.monotonic() + timeout
        progress = self.progress
        with progress.condition:
            progress.waiting += 1
            self._wake.set()
            try:
                while (progress.witnessed if state == WITNESSED else progress.sequenced) < size:
                    if progress.stopped is not None:
                        raise SetupError(f"the log will not move on here: {progress.stopped}") from progress.stopped
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        reason = f" ({progress.trouble})" if progress.trouble else ""
                        raise NotYet(f"not everything is {state} after {timeout} s{reason}")
                    progress.condition.wait(left)
            finally:
                progress.waiting -= 1

    def close(self) -> None:
        """Store everything, sequence what can be sequenced, give the lock back. Raises what was not reported yet."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._release()
        self.progress.stop(UsageError("the ledger is closed"))
        if self.progress.failures:
            raise self._take_failure()
        if self._broken is not None and not self._spooling:
            raise self._broken

    def _take_failure(self) -> PlausibleError:
        count, first = len(self.progress.failures), self.progress.failures[0]
        self.progress.failures.clear()
        lost = f"{count} generations are" if count > 1 else "a generation is"
        error = SetupError(f"{lost} not on the record: {first}")
        error.__cause__ = first
        return error

    # --- forks ---

    def before_fork(self) -> None:
        """Bring the thread to rest and close every database: SQLite's locks must not be inherited."""
        self._busy.acquire()
        if self.index is not None:
            self.index.suspend()
        for witness in self._witnesses:
            witness.close()
        self.vault.db.suspend()
        self.state.db.suspend()
        if self._sender is not None:
            self._sender.suspend()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._sender is not None:
            self._sender.resume()
        self.state.db.resume()
        self.vault.db.resume()
        if self._sequencer is not None:
            self._sequencer.replace_witnesses(self._open_witnesses())
        if self.index is not None:
            self.index.resume()
        self._busy.release()

    def forget(self) -> None:
        """In the child: this writer belongs to the parent. Nothing is flushed or closed here."""
        self._closing = True
        if self._sender is not None:
            self._sender.forget()
        self._lock.forget()

    # --- the thread ---

    def _run(self) -> None:
        while True:
            self._rest()
            stop = self._closing
            items: list[tuple[Callable[[], Submission], Receipt]] = []
            while self._queue and len(items) < self._config.batch_entries:
                items.append(self._queue.popleft())
            with self._busy:
                try:
                    self._round(items, last=stop and not self._queue)
                except PlausibleError as error:
                    self._break(error)
                except Exception as error:  # noqa: BLE001  (a bug must not let callers wait for ever)
                    _log.exception("the ledger's writer stops")
                    self._break(SetupError(f"the ledger's writer stopped: {type(error).__name__}: {error}"))
                while self._later and not stop:
                    self._later.popleft()()
            if stop and not self._queue:
                return

    def _rest(self) -> None:
        """Wait for work: at once if somebody waits for a receipt, after `wait_ms` of company otherwise."""
        if self._closing:
            return
        if not self._queue:
            self._sleeping = True
            # looked at again after the flag is up: `submit` sets the event only for a sleeping thread
            if not self._queue:
                self._wake.wait(self._idle_seconds())
            self._sleeping = False
        if self._queue and not self.progress.waiting and not self._closing:
            self._wake.clear()
            self._wake.wait(self._config.batch_wait_ms / 1000)
        self._wake.clear()

    def _idle_seconds(self) -> float:
        """How long there is nothing to do, at most; 0 only where the very next round does something."""
        now = time.monotonic()
        seconds = POLL_SECONDS
        sequencer = self._sequencer
        if self._broken is not None:
            return seconds
        if sequencer is None:
            return FOLLOW_SECONDS if self.progress.waiting else seconds
        # a failed write or a quorum out of reach is retried, not hammered
        retry = max(self._retry_at, self._sequence_at)
        unsigned, uncosigned = sequencer.accepted > sequencer.size, sequencer.size > sequencer.cosigned_size
        if unsigned and self._head_due is not None:
            seconds = min(seconds, max(self._head_due, retry) - now)
        if uncosigned and sequencer.cosigning:
            seconds = min(seconds, retry - now)
        if self.progress.waiting and (unsigned or uncosigned):
            seconds = min(seconds, retry - now)
        return max(0.0, seconds)

    def _round(self, items: Sequence[tuple[Callable[[], Submission], Receipt]], *, last: bool) -> None:
        if self._broken is not None:
            self._store_broken(items)
            return
        sealed = self._seal(items)
        if sealed:
            self._store(sealed)
        now = time.monotonic()
        if now < self._retry_at and not last and not sealed:
            return
        try:
            self._flush_journal()
            self.draws.refill()
            if self._sequencer is None and self._lock.acquire():
                self._become_sequencer()
            if self._sequencer is None:
                self._follow()
            else:
                self._advance(self._sequencer, last=last)
        except StorageBroken:
            raise
        except StorageFull as error:
            # everything stored so far stays stored; what waits in the vault or journal is taken up again later
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._trouble = str(error)
            _log.warning("%s; trying again", error)
            if not self._spooling:
                with self.progress.condition:
                    self.progress.stalled = error
                    if sealed or last:
                        self.progress.failures.append(error)
        else:
            self._trouble = None
            self._look_held()
        self._publish()

    def _seal(self, items: Sequence[tuple[Callable[[], Submission], Receipt]]) -> list[tuple[Submission, Receipt]]:
        sealed: list[tuple[Submission, Receipt]] = []
        for seal, receipt in items:
            try:
                sealed.append((seal(), receipt))
            except PlausibleError as error:
                self._fail(receipt, error)
            except Exception as error:  # noqa: BLE001  (one bad argument must not stop the others)
                _log.exception("a generation could not be recorded")
                self._fail(receipt, SetupError(f"a generation could not be recorded: {type(error).__name__}: {error}"))
            self._breathe()
        return sealed

    def _breathe(self) -> None:
        """Let a recording thread have the interpreter.

        A thread that waits for the interpreter's lock asks for it only after 5 ms, and `sleep(0)` would take the lock
        back before it wakes: a generator whose every operation gives the lock away would wait at each of them. A real
        sleep, if short, gives it to whoever wants it. While somebody waits for this thread's work, it does so less.
        """
        if self.progress.waiting and time.monotonic() - self._breathed < BREATH_SECONDS:
            return
        time.sleep(0.00005)
        self._breathed = time.monotonic()

    def _store(self, sealed: Sequence[tuple[Submission, Receipt]]) -> None:
        submissions = [submission for submission, _ in sealed]
        try:
            self.vault.add(submissions)
        except SetupError as error:
            if not self._spooling:
                for _, receipt in sealed:
                    self._fail(receipt, error)
            else:
                self._spool(sealed, error)
            if isinstance(error, StorageBroken):
                raise
            return
        for submission, receipt in sealed:
            receipt.moved_to(QUEUED)
            self._queued[submission.key] = (-1, _without_record(submission))

    def _spool(self, sealed: Sequence[tuple[Submission, Receipt]], reason: PlausibleError) -> None:
        try:
            self.journal.append([submission for submission, _ in sealed])
        except SetupError as error:
            for _, receipt in sealed:
                self._fail(receipt, SetupError(f"{reason}; and the journal took nothing either: {error}"))
            return
        self.counters.spooled += len(sealed)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        for submission, receipt in sealed:
            receipt.moved_to(SPOOLED)
            self._queued[submission.key] = (-1, _without_record(submission))
        _log.warning("%d generations spooled to %s: %s", len(sealed), self.journal.path, reason)
        if not self._spool_warned:
            self._spool_warned = True
            warnings.warn(
                f"the ledger cannot be written ({reason}); generations are kept in {self.journal.path}", RuntimeWarning,
                stacklevel=2,
            )  # fmt: skip

    def _store_broken(self, items: Sequence[tuple[Callable[[], Submission], Receipt]]) -> None:
        reason = self._broken or SetupError("the writer stopped")
        sealed = self._seal(items)
        if not sealed:
            return
        if self._spooling:
            self._spool(sealed, reason)
            return
        for _, receipt in sealed:
            self._fail(receipt, reason)

    def _fail(self, receipt: Receipt, error: PlausibleError) -> None:
        self._unresolved.pop(receipt.key, None)
        self.counters.failed += 1
        self.progress.failures.append(error)
        with self.progress.condition:
            receipt.failed_with(error)
            self.progress.condition.notify_all()

    def _flush_journal(self) -> None:
        if not self.journal.exists():
            return
        taken, torn = self.journal.flush(self.vault.add)
        self.counters.flushed += taken
        self.counters.torn_bytes += torn
        if taken:
            _log.warning("%d generations moved from %s into the vault", taken, self.journal.path)
        if torn:
            _log.error("%s ended in %d bytes that are no whole entry; they were set aside", self.journal.path, torn)

    def _advance(self, sequencer: Sequencer, *, last: bool) -> None:
        while accepted := sequencer.accept(self._config.batch_entries):
            self._resolve(accepted)
            if self._head_due is None:
                self._head_due = time.monotonic() + HEAD_SECONDS
        urgent = last or self.progress.waiting > 0
        due = self._head_due is not None and time.monotonic() >= self._head_due
        full = sequencer.accepted - sequencer.size >= self._config.batch_entries
        for key, reason in sequencer.take_refused():
            self._queued.pop(key, None)
            receipt = self._unresolved.get(key)
            if receipt is not None:
                self._fail(receipt, SetupError(reason))
        now = time.monotonic()
        if (urgent or due or full) and sequencer.accepted > sequencer.size and (last or now >= self._sequence_at):
            # what keeps it from signing (witnesses that do not answer) is asked again later, not at once
            if sequencer.sequence():
                self._head_due = None
            else:
                self._head_due = self._sequence_at = now + RETRY_SECONDS
            self._publish()
        may_ask = last or time.monotonic() >= self._retry_at
        patience = CLOSE_SECONDS if last else PATIENCE_SECONDS
        if sequencer.cosigned_size < sequencer.size and may_ask and not sequencer.witness(patience):
            # a round that is under way is looked at again soon; one that failed is retried, not hammered
            self._retry_at = time.monotonic() + (FOLLOW_SECONDS if sequencer.cosigning else RETRY_SECONDS)
        if not last:
            sequencer.complete()
        sequencer.sync(force=last)

    def _resolve(self, accepted: Sequence[Accepted]) -> None:
        with self.progress.condition:
            for item in accepted:
                self._queued.pop(item.key, None)
                receipt = self._unresolved.pop(item.key, None)
                if receipt is not None:
                    receipt.accepted_as(item.index, item.leaf)
            self.counters.accepted += len(accepted)
            self.progress.condition.notify_all()

    def _follow(self) -> None:
        """Without the lock: see how far the holder has taken what this process put into the vault."""
        if not self._queued:
            return
        taken = self.state.submission
        resolved: list[Accepted] = []
        for key, (known, submission) in list(self._queued.items()):
            number = self.vault.id_of(key) if known < 0 else known
            if number is None:  # still in the journal
                continue
            self._queued[key] = (number, submission)
            if number > taken:
                continue
            index = self.following.index_of(submission)
            if index is None:
                receipt = self._unresolved.get(key)
                self._queued.pop(key)
                if receipt is not None:
                    self._fail(receipt, SetupError("the process that sequences did not take this entry; see its log"))
                continue
            resolved.append(Accepted(key, index, self.following.leaf_hash(index)))
        if resolved:
            self._resolve(resolved)

    def _publish(self) -> None:
        sequencer = self._sequencer
        if self._sender is not None:
            self._sender.wake()
            self._sent(self._sender)
        elif sequencer is not None:
            self.progress.advance(sequencer.size, sequencer.cosigned_size, sequencer.trouble or self._trouble)
        else:
            self.progress.advance(
                self.state.head.size, self.following.witnessed(self.progress.witnessed), self._trouble
            )

    def _sent(self, sender: Sender) -> None:
        """What counts is the log elsewhere: its heads, not ours."""
        held = self._sequencer is not None and self._sequencer.held is not None
        trouble = str(self._sequencer.held) if self._sequencer is not None and held else self._trouble
        self.progress.advance(sender.sequenced, sender.witnessed, trouble or sender.trouble)

    # --- sequencing ---

    def _become_sequencer(self) -> None:
        closed = LedgerConfig.read(self._directory).successor
        if closed:  # since this process opened it
            self._lock.release()
            raise SetupError(f"the log of {self._directory} was closed and continues as {closed}")
        if self._policy.quorum is None and self._sender is None:
            _log.warning(
                "%s has no witnesses (quorum none): nothing dates its entries, and if it is restored from a backup "
                "nobody notices that its log forks",
                self._directory,
            )
        self._sequencer = Sequencer(
            self._directory,
            state=self.state,
            vault=self.vault,
            authors=self._keys.authors,
            log_keys=self._keys.logs,
            policy=self._policy,
            witnesses=self._open_witnesses(),
            strict=self._config.sync == "strict",
            breathe=self._breathe,
        )
        if self._keys.index is not None:
            self.index = Follower(
                self._directory,
                signer=self._keys.index,
                policy=self._policy,
                strict=self._config.sync == "strict",
                witnessed=lambda: self.progress.witnessed,
                busy=lambda: bool(self._queue) or self._busy.locked(),
            )

        if self._sender is not None:
            sender, self.progress.place = self._sender, self._sender.place
            sender.start(self.state, self.following.log, lambda: self._sent(sender))

    def _look_held(self) -> None:
        """Tell those who wait, and once whoever looks at warnings, that nothing gets a place in the log here."""
        held = None if self._sequencer is None else self._sequencer.held
        self.progress.stalled = held
        if held is not None and self._held is None:
            self._held = held
            self.draws.forget()
            warnings.warn(str(held), RuntimeWarning, stacklevel=2)

    def _open_witnesses(self) -> list[Cosigner]:
        self._witnesses = open_witnesses(self._directory, self._config, self._keys.witnesses, self._policy)
        return self._witnesses

    def _recover(self) -> None:
        """What a killed or spooling process left behind: the journal, and submissions that were not accepted yet."""
        try:
            self._flush_journal()
            if self._sequencer is not None:
                self._sequencer.hear_witnesses(START_SECONDS)
                while accepted := self._sequencer.accept(self._config.batch_entries):
                    _log.warning("%d submissions of an earlier run were accepted now", len(accepted))
                self._head_due = time.monotonic()
        except StorageFull as error:
            if not self._spooling:
                raise
            _log.warning("%s", error)

    def _break(self, error: PlausibleError) -> None:
        self._broken = error
        _log.error("the ledger's writer stopped: %s", error)
        self.progress.stop(error)

    def _release(self) -> None:
        if self._sender is not None:
            self._sender.close()
        if self.index is not None:
            self.index.close()
        if self._sequencer is not None:
            self._sequencer.close()
        for witness in self._witnesses:
            witness.close()
        self._witnesses = []
        self.vault.close()
        self.state.close()
        self._lock.release()


__all__ = ["PENDING", "SEQUENCED", "Counters", "Writer", "WriterKeys"]
