"""One look at one log: views, comparison, entries, index notes, evidence, in this order.

A log that was caught is not looked at again before a person lifts it: every look says again that it is false. What was
proven is written as a file before the state knows of it, so a kill in between finds it again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...ledger.fsck import Kind
from ...ledger.merkle.reader import TiledLog
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note
from ...ledger.storage.disk import storage, write_file
from ...schemas.errors import EvidenceError, PeerError, PolicyError, SetupError, UsageError
from ...schemas.verdict import BATCH_ORDER, worst_exit
from .compare import Caught, compare
from .config import INDEXES, MonitorConfig, WatchedLog
from .follow import Follower, store
from .hook import MAX_TRIES, run_hook
from .indexes import Indexes
from .state import MonitorState
from .views import Finding, View, Views, look, origin_hash

MAX_STANDING = 16
"""Findings kept against one signer of index roots whose lies say nothing against the log."""
MAX_WAITING = 64
"""Heads of one log kept until they can be compared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look gave: 0 sound as far as the places go, 1 false, 5 not accepted, 4 could not look; the worst."""

    origin: str
    size: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """See the class."""
        return worst_exit({0, *(finding.kind.exit_code for finding in self.findings)})


class Watch:
    """Looks at one log, each time where it left off."""

    def __init__(self, config: MonitorConfig, log: WatchedLog, state: MonitorState) -> None:
        self._config, self._log, self._state = config, log, state
        self._findings: list[Finding] = []

    def look(self) -> Outcome:
        """One look. Never raises for what a log does; `SetupError` if the monitor's own state fails."""
        self._findings = []
        if not any(found.stops for found in self._state.found(self._log.origin)):
            self._look()
        for found in self._state.found(self._log.origin):
            kind = Kind.UNTRUSTED if found.kind == "revoked-key" else Kind.FALSE
            where = f"; evidence: {found.file}" if found.file else ""
            self._tell(Finding(kind, found.accused, f"{found.what}{where}"))
        self._hooks()
        size = self._state.checked(self._log.origin).edge.size
        worst_first = sorted(dict.fromkeys(self._findings), key=lambda one: BATCH_ORDER.index(one.kind.exit_code))
        outcome = Outcome(self._log.origin, size, tuple(worst_first))
        self._state.keep_look(self._log.origin, outcome.exit_code, [str(one) for one in outcome.findings])
        return outcome

    def _tell(self, finding: Finding) -> None:
        self._findings.append(finding)

    def _look(self) -> None:
        with look(self._log, self._tell) as seen:
            if seen.served is not None:
                self._accept(seen.served)
            found = compare(self._log.origin, self._log.keys, self._heads(seen), seen.readers, self._tell)
            # the smallest are the first that can be compared; a log that shows ever more to others fills no disk
            waiting = sorted(found.waiting, key=lambda one: one.head.size)[:MAX_WAITING]
            self._state.set_open_heads(
                self._log.origin, [(one.head.size, one.head.root, one.place, one.note) for one in waiting]
            )
            if self._keep(found.caught) or found.measure is None or found.reader is None:
                return
            if self._follow(found.measure, found.reader):
                return
            file = self._config.folder / INDEXES / f"{origin_hash(self._log.origin)}.db"
            with storage(f"making {file.parent}"):
                file.parent.mkdir(mode=0o700, exist_ok=True)
            indexes = Indexes(self._log, self._state, file, found.measure, found.reader, self._tell)
            self._keep(indexes.check(seen.notes))

    def _accept(self, served: View) -> None:
        """The log's own checkpoint under the policy."""
        now = int(time.time())
        try:
            met = self._log.policy.check(served.note, now=now)
            age, most = now - (met.existence_time or now), self._log.max_age
            if most is not None and age > most:
                what = f"the quorum cosigned its head {age} seconds ago: is this the head that others see?"
                self._tell(Finding(Kind.UNREAD, served.place, what))
        except PolicyError as error:
            self._tell(Finding(Kind.UNTRUSTED, served.place, str(error)))
        except EvidenceError as error:
            self._tell(Finding(Kind.UNREAD, served.place, str(error)))

    def _heads(self, seen: Views) -> list[View]:
        """What is shown now, what could not be compared before, and the head that vouches for what was checked."""
        heads = list(seen.heads)
        remembered = self._state.open_heads(self._log.origin)
        anchor = self._state.checked(self._log.origin).anchor
        if anchor is not None:
            remembered.append(("what was checked before", anchor))
        for place, note in remembered:
            heads.append(View(place, Checkpoint.parse(Note.parse(note).text), note))
        return heads

    def _follow(self, measure: View, reader: TiledLog) -> bool:
        """Check all new entries; True if the log was caught."""
        follower = Follower(self._log.origin, self._log.keys, self._state, measure, reader)
        end = time.monotonic() + self._config.look_seconds
        try:
            checked = self._state.checked(self._log.origin)
            while (batch := follower.next(checked)) is not None:
                caught = self._keep(batch.caught)
                store(self._state, self._log.origin, batch)
                if caught:
                    return True
                checked = batch.checked
                if checked.edge.size < measure.head.size and time.monotonic() > end:
                    what = f"{checked.edge.size} of {measure.head.size} entries are checked; the next look goes on"
                    self._tell(Finding(Kind.UNREAD, measure.place, what))
                    break
        except (EvidenceError, PeerError, UsageError) as error:
            self._tell(Finding(Kind.UNREAD, measure.place, f"entries could not be checked: {error}"))
        return False

    def _keep(self, caught: Sequence[Caught]) -> bool:
        """Write the files of what is new, then remember it; whether any of it stops the log."""
        stops = False
        for one in caught:
            if self._state.known(self._log.origin, one.kind, one.subject):
                continue
            if not one.stops and self._standing(one) >= MAX_STANDING:
                continue  # a signer who lies at every look is caught once too often already, and fills no disk
            stops |= one.stops
            file = self._write(one)
            with self._state.transaction() as db:
                self._state.keep_found(
                    db, self._log.origin, accused=one.accused, kind=one.kind, subject=one.subject, what=one.what,
                    file=file, stops=one.stops,
                )  # fmt: skip
        return stops

    def _standing(self, caught: Caught) -> int:
        return sum(found.accused == caught.accused for found in self._state.found(self._log.origin))

    def _write(self, caught: Caught) -> str | None:
        """The evidence file's path; None, and a finding, if it could not be written."""
        name = f"{origin_hash(self._log.origin)[:16]}-{caught.kind}-{hashlib.sha256(caught.data).hexdigest()[:16]}.json"
        path = self._config.evidence / name
        try:
            with storage(f"writing {path}"):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_file(path, caught.data)
        except SetupError as error:
            self._tell(Finding(Kind.UNREAD, "evidence", f"{caught.kind}: {error}"))
            return None
        return str(path)

    def _hooks(self) -> None:
        if not self._config.hook:
            return
        for found in self._state.found(self._log.origin):
            if found.told or found.tries >= MAX_TRIES or found.file is None:
                continue
            trouble = run_hook(self._config.hook, found.file, self._config.hook_seconds)
            self._state.hooked(found.id, trouble is None)
            if trouble is not None:
                self._tell(Finding(Kind.UNREAD, "hook", trouble))


__all__ = ["Outcome", "Watch"]
