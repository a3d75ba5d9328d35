"""Policies: which logs count, and whose cosignatures make their checkpoints believable (C2SP tlog-policy).

    log example.com/log+33d7b496+AeHT...
    witness w1 one.example+f3c28cf6+BAOh... https://one.example/
    witness w2 two.example+...
    witness w3 three.example+...
    group three 2 w1 w2 w3
    quorum three

A policy is the verifier's own choice and trusted; checkpoints are not. `check` fails closed: a missing cosignature is
a `PolicyError`, a false one an `EvidenceError`. Existence time comes from the witnesses, never from the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError, PolicyError
from .checkpoint import Checkpoint
from .note import Note, VerifierKey
from .wire import parse_decimal

MAX_POLICY_BYTES = 1 << 20
# the last second of the year 9999, which a calendar can still name
_LAST_SECOND = 253_402_300_799
_NEVER = _LAST_SECOND + 1


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log whose checkpoints count; its origin is its key's name."""

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A cosigner under the policy's own short name."""

    name: str
    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """`threshold` of `members` (witnesses or earlier groups)."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness of the policy that verifiably cosigned a checkpoint: short name, key, time in POSIX seconds."""

    name: str
    key: VerifierKey
    time: int


@dataclass(frozen=True, slots=True)
class AcceptedCheckpoint:
    """A checkpoint that met a policy.

    `existence_time` (POSIX seconds) is the earliest time t such that the cosignatures with times up to t meet the
    quorum; None where the policy asks for no witness.
    """

    checkpoint: Checkpoint
    log: VerifierKey
    cosigners: tuple[Cosigner, ...]
    existence_time: int | None
    note: bytes = field(repr=False)

    @property
    def origin(self) -> str:
        """The log's identity."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The RFC 6962 root, 32 bytes."""
        return self.checkpoint.root


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy. `quorum` names a witness or group, None stands for `quorum none`."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str | None
    source: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """Read a policy file; each mistake is an `EvidenceError` that names its line."""
        return _Reader(data).read()

    def satisfied_by(self, names: Iterable[str]) -> bool:
        """Whether cosignatures by the witnesses with these short names meet the quorum."""
        return self._quorum_time(dict.fromkeys(names, 0)) < _NEVER

    def existence_time(self, times: Mapping[str, int]) -> int | None:
        """Earliest time at which the witnesses' `times` (by short name) meet the quorum; None if never or no quorum."""
        time = self._quorum_time(times)
        return time if self.quorum is not None and time < _NEVER else None

    def _quorum_time(self, times: Mapping[str, int]) -> int:
        if self.quorum is None:
            return 0
        # groups name only what stands before them, so one pass from the top decides all
        reached: dict[str, int] = {w.name: times.get(w.name, _NEVER) for w in self.witnesses}
        for group in self.groups:
            reached[group.name] = sorted(reached[member] for member in group.members)[group.threshold - 1]
        return reached[self.quorum]

    def _wanted(self) -> list[str]:
        """Short names of the witnesses that the quorum can use."""
        wanted = {self.quorum}
        for group in reversed(self.groups):
            if group.name in wanted:
                wanted.update(group.members)
        return [w.name for w in self.witnesses if w.name in wanted]

    def _rule(self) -> str:
        for group in self.groups:
            if group.name == self.quorum:
                return f"{group.threshold} of {', '.join(group.members)}"
        return str(self.quorum)

    def check(self, note_bytes: bytes, *, now: int | None = None, skew: int = 300) -> AcceptedCheckpoint:
        """The checkpoint in a signed note, if this policy accepts it.

        With `now` (POSIX seconds) a cosignature more than `skew` seconds ahead of it does not count. Cosignatures
        without a time (0) never count, nor do untimed keys in witness lines. Raises `EvidenceError` for malformed notes
        and false signatures, `PolicyError` for an unknown log, a missing log signature or a quorum that is not met.
        """
        note = Note.parse(note_bytes)
        checkpoint = Checkpoint.parse(note.text)
        log_keys = [log.key for log in self.logs if log.key.name == checkpoint.origin]
        if not log_keys:
            raise PolicyError(f"the policy does not name the log {checkpoint.origin!r}")
        verified = note.known_signatures([*log_keys, *(w.key for w in self.witnesses)])
        by_log = [v.key for v in verified if v.key in log_keys]
        if not by_log:
            raise PolicyError(f"the checkpoint carries no signature by the policy's key of {checkpoint.origin}")
        latest = _LAST_SECOND if now is None else min(_LAST_SECOND, now + skew)
        cosigners: list[Cosigner] = []
        for witness in self.witnesses:
            times = [v.time for v in verified if v.key == witness.key and v.time and v.time <= latest]
            if times:
                cosigners.append(Cosigner(witness.name, witness.key, min(times)))
        times_by_name = {c.name: c.time for c in cosigners}
        if not self.satisfied_by(times_by_name):
            missing = [name for name in self._wanted() if name not in times_by_name]
            raise PolicyError(
                f"the quorum ({self._rule()}) is not met: no cosignature that counts by {', '.join(missing)}"
            )
        return AcceptedCheckpoint(
            checkpoint, by_log[0], tuple(cosigners), self.existence_time(times_by_name), note_bytes
        )


class _Reader:
    """Reads a policy line by line, keeping what is defined so far."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._logs: list[PolicyLog] = []
        self._witnesses: list[PolicyWitness] = []
        self._groups: list[PolicyGroup] = []
        self._quorum: list[str] = []
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._publics: set[bytes] = set()

    def read(self) -> Policy:
        if len(self._data) > MAX_POLICY_BYTES:
            raise EvidenceError(f"a policy has at most {MAX_POLICY_BYTES} bytes")
        try:
            text = self._data.decode("ascii")
        except UnicodeDecodeError:
            raise EvidenceError("a policy is ASCII text") from None
        for number, line in enumerate(text.split("\n"), 1):
            try:
                self._line(line)
            except EvidenceError as error:
                raise EvidenceError(f"policy line {number}: {error}") from None
        if not self._quorum:
            raise EvidenceError("the policy has no quorum line")
        quorum = self._quorum[0]
        return Policy(
            tuple(self._logs),
            tuple(self._witnesses),
            tuple(self._groups),
            None if quorum == "none" else quorum,
            self._data,
        )

    def _line(self, line: str) -> None:
        if any((c < " " and c != "\t") or c == "\x7f" for c in line):
            raise EvidenceError("a control character (lines end with a newline alone)")
        words = re.split("[ \t]+", line.strip(" \t"))
        if not words[0] or words[0].startswith("#"):
            return
        read = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._set_quorum}
        if words[0] not in read:
            raise EvidenceError(f"{words[0]!r} is not log, witness, group or quorum")
        read[words[0]](words[1:])

    def _key(self, text: str) -> VerifierKey:
        key = VerifierKey.parse(text)
        if key.public in self._publics:
            raise EvidenceError(f"the public key of {key.name} is listed twice, if under another name")
        self._publics.add(key.public)
        return key

    def _define(self, name: str) -> str:
        if name == "none":
            raise EvidenceError("the name none is reserved")
        if name in self._names:
            raise EvidenceError(f"the name {name} is defined twice")
        self._names.add(name)
        return name

    def _log(self, words: list[str]) -> None:
        if not 1 <= len(words) <= 2:
            raise EvidenceError("a log line has the form: log VKEY [URL]")
        self._logs.append(PolicyLog(self._key(words[0]), words[1] if len(words) == 2 else None))

    def _witness(self, words: list[str]) -> None:
        if not 2 <= len(words) <= 3:
            raise EvidenceError("a witness line has the form: witness NAME VKEY [URL]")
        name = self._define(words[0])
        self._witnesses.append(PolicyWitness(name, self._key(words[1]), words[2] if len(words) == 3 else None))

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise EvidenceError("a group line has the form: group NAME all|any|K MEMBER...")
        name, rule, *members = words
        for member in members:
            if member not in self._names:
                raise EvidenceError(f"the member {member} is not defined before the group {name}")
            if member in self._members:
                raise EvidenceError(f"{member} is a member twice")
            self._members.add(member)
        threshold = {"all": len(members), "any": 1}.get(rule)
        if threshold is None:
            threshold = parse_decimal(rule, "the threshold")
        if not 1 <= threshold <= len(members):
            raise EvidenceError(f"{threshold} of {len(members)} members cannot be asked for")
        self._groups.append(PolicyGroup(self._define(name), threshold, tuple(members)))

    def _set_quorum(self, words: list[str]) -> None:
        if len(words) != 1:
            raise EvidenceError("a quorum line has the form: quorum NAME|none")
        if self._quorum:
            raise EvidenceError("a second quorum line")
        if words[0] != "none" and words[0] not in self._names:
            raise EvidenceError(f"the quorum {words[0]} is not defined before it")
        self._quorum.append(words[0])
