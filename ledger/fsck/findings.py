"""What fsck found, what it looked at and what it did not, and the exit code that follows.

    0  sound, as far as it was looked at    1  something is false    5  the policy is not met    4  could not look

The worst decides, in the order of docs/verdicts.md. Findings beyond `KEPT` are counted, not kept: a log of a million
false entries must not fill the memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ...schemas.errors import EvidenceError, PeerError, PolicyError, SetupError
from ...schemas.verdict import Verdict, worst_exit
from ..notes.note import VerifierKey

KEPT = 1000

RESTORE = "restore the file from a mirror or a backup of public/"
RESTORE_STATE = "open the ledger no more; restore state.db from a backup that is not older than any witnessed head"
RESTORE_VAULT = "restore vault.db from a backup that is not older than state.db"
DELETE_LOOKUP = "delete lookup.db: it is rebuilt from the entries"
READ_ACCESS = "make the file readable, or restore it, and check again"

Progress = Callable[[str, int, int], None]
"""(stage, done, total), for people who wait."""


class Kind(StrEnum):
    """What a finding says about the file it names."""

    FALSE = "false"
    UNTRUSTED = "untrusted"
    UNREAD = "not read"

    @property
    def exit_code(self) -> int:
        """The exit code of a check whose worst finding is of this kind."""
        return _VERDICTS[self].exit_code


_VERDICTS = {
    Kind.FALSE: Verdict.REFUTED,
    Kind.UNTRUSTED: Verdict.UNTRUSTED,
    Kind.UNREAD: Verdict.INCOMPLETE,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: in which file, about which entry (if one), and what to do."""

    kind: Kind
    file: str
    index: int | None
    what: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in `pd fsck --json`."""
        return {
            "kind": self.kind.value, "file": self.file, "index": self.index, "what": self.what, "remedy": self.remedy,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check. `uncounted` findings were made beyond those in `findings`."""

    origin: str | None
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    uncounted: int
    done: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0, 1, 4 or 5: see the module."""
        return worst_exit({0, *(finding.kind.exit_code for finding in self.findings)})

    def to_json(self) -> dict[str, Any]:
        """The body of `pd fsck --json`."""
        return {
            "origin": self.origin,
            "size": self.size,
            "root": self.root.hex(),
            "sound": not self.findings,
            "exit_code": self.exit_code,
            "findings": [finding.to_json() for finding in self.findings],
            "findings_not_listed": self.uncounted,
            "done": list(self.done),
            "skipped": [{"check": name, "reason": reason} for name, reason in self.skipped],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Findings:
    """Collects while the checks run."""

    done: list[str] = field(default_factory=list[str])
    skipped: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    notes: list[str] = field(default_factory=list[str])
    uncounted: int = 0
    retired: list[VerifierKey] | None = None
    """Keys that signed this log before and sign no more; None where nobody can say: of a log read from outside."""
    _kept: dict[Finding, None] = field(default_factory=dict[Finding, None])

    def add(self, kind: Kind, file: str, what: str, remedy: str, index: int | None = None) -> None:
        """Keep a finding; the same one twice is one. The first of each kind is kept whatever came before."""
        finding = Finding(kind, file, index, what, remedy)
        if len(self._kept) < KEPT or all(known.kind != kind for known in self._kept):
            self._kept[finding] = None
        elif finding not in self._kept:
            self.uncounted += 1

    def false(self, file: str, what: str, remedy: str, index: int | None = None) -> None:
        """What is there contradicts what was signed, or itself."""
        self.add(Kind.FALSE, file, what, remedy, index)

    def unread(self, file: str, what: str, remedy: str = READ_ACCESS, index: int | None = None) -> None:
        """Nothing can be said: missing, unreachable, unreadable."""
        self.add(Kind.UNREAD, file, what, remedy, index)

    @contextlib.contextmanager
    def reading(self, file: str, remedy: str, index: int | None = None) -> Generator[None, None, None]:
        """Turn what goes wrong while `file` is read into a finding: malformed is false, unreachable is not read."""
        try:
            yield
        except EvidenceError as error:
            self.false(file, str(error), remedy, index)
        except PolicyError as error:
            self.add(
                Kind.UNTRUSTED, file, str(error), "ask the witnesses again, or give the policy it was made for", index
            )
        except (PeerError, SetupError) as error:
            self.unread(file, str(error), remedy, index)

    @property
    def found(self) -> tuple[Finding, ...]:
        """All kept findings, in the order in which they were made."""
        return tuple(self._kept)

    def report(self, origin: str | None, size: int, root: bytes) -> Report:
        """Everything collected, as a value."""
        return Report(
            origin, size, root, self.found, self.uncounted, tuple(self.done), tuple(self.skipped), tuple(self.notes)
        )
