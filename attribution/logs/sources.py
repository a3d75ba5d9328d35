"""Where a verification gets its facts: logs (a ledger directory, a public folder, any tiled log) and evidence files.

A source brings no trust of its own: a checkpoint counts if the policy accepts it, an entry if its inclusion and its
author's signature do. Only a ledger that the verifier opens himself, with its private half, may stand in for a missing
policy, and then every answer is called self-attested.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ledger.absence.store import AbsenceStore
from ...ledger.entries.authors import Authors
from ...ledger.keys.keyhistory import KeyHistory
from ...ledger.ledger import Ledger
from ...ledger.merkle.reader import DirectorySource, TiledLog
from ...ledger.merkle.tree import inclusion_path, verify_consistency
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note
from ...ledger.notes.policy import AcceptedCheckpoint, Policy
from ...ledger.notes.proof import make_proof
from ...ledger.seeds.epochs import EpochIndex
from ...ledger.storage.archive import dated_by
from ...schemas.errors import EvidenceError, PeerError, PlausibleError, PolicyError, SetupError, UsageError
from ..stages.findings import Trust
from .coverage import LogScan, scan_log

PROOF_SUFFIX = ".tlog-proof"
OPENING_SUFFIX = ".opening.json"
EPOCH_SUFFIX = ".epoch-proof"
_LARGEST_FILE = 64 * 1024 * 1024

LogLike = Ledger | TiledLog | str | Path


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """A tlog-proof and, if there is one, the opening beside it, as bytes; `name` for the report."""

    name: str
    proof: bytes
    opening: bytes | None = None
    epoch: bytes | None = None
    """A tlog-proof of the seed epoch that the opened record names."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the log `origin` says of authors' keys; with `size` all that it says below that size."""

    origin: str
    history: KeyHistory
    size: int | None

    def judge(self, authors: Authors) -> Authors:
        """These authors, held against it."""
        return authors.with_history(self.origin, self.history, self.size)


@dataclass(slots=True)
class LogSource:
    """One log under the policy that judges it. `accepted` is its checkpoint, or `problem` says why there is none."""

    name: str
    log: TiledLog
    policy: Policy | None
    authors: Authors | None
    ledger: Ledger | None = None
    opened: bool = False  # here, from a path: so it is closed here too
    accepted: AcceptedCheckpoint | None = None
    problem: str | None = None
    head: Checkpoint | None = None  # of the checkpoint that is served, accepted or not
    note: bytes = field(default=b"", repr=False)
    keys: KeyFacts | None = field(default=None, repr=False)  # what the log says of its authors' keys; `authors` follow
    epochs: EpochIndex | None = field(default=None, repr=False)  # the log's seed epochs, as far as it was read
    absence: AbsenceStore | None = field(default=None, repr=False)  # its absence index, once it was asked for
    _scan: LogScan | None = field(default=None, repr=False)
    _scan_problem: str | None = None

    @property
    def origin(self) -> str:
        """The log's origin as its checkpoint says, else the name the source was given."""
        return self.head.origin if self.head is not None else self.name

    def scan(self, progress: Callable[[int, int], None] | None = None) -> LogScan | None:
        """The full scan up to the served checkpoint, made once; None with `scan_problem` set if it cannot be.

        Whether that checkpoint is `accepted` is for the caller to ask before anything is said about absence.
        """
        if self._scan is None and self._scan_problem is None:
            if self.head is None:
                self._scan_problem = self.problem or "no checkpoint is served"
            else:
                try:
                    self._scan = scan_log(self.log, self.head, progress=progress)
                    if self.accepted is not None and self._scan.contradiction is None:
                        self.judge_keys(self._scan.key_history(), self._scan.size)
                        self.epochs = self._scan.epoch_index()
                except PlausibleError as error:
                    self._scan_problem = str(error)
        return self._scan

    def judge_keys(self, history: KeyHistory, size: int | None) -> None:
        """Hold the log's own revocations against its authors; `size`: read from every entry below it."""
        self.keys = KeyFacts(self.origin, history, size)
        if self.authors is not None:
            self.authors = self.keys.judge(self.authors)

    def find(self, *, pixels: bytes, file: bytes) -> list[int]:
        """Indices of entries that name these digests, ascending: by the ledger's index, else by the full scan.

        Raises `EvidenceError` if the log contradicts its checkpoint before anything can be looked up.
        """
        if self.ledger is not None and self.accepted is not None:
            with contextlib.suppress(PolicyError):  # the ledger's own policy may ask for more than the verifier's
                return sorted({*self.ledger.find(pixels=pixels), *self.ledger.find(file=file)})
        scan = self.scan()
        if scan is None:
            raise PeerError(self._scan_problem or "the log cannot be read")
        return scan.find(pixels=pixels, file=file)

    def leaf(self, index: int) -> bytes:
        """An entry's bytes as served, compared with nothing."""
        if self.ledger is not None and self.accepted is not None:
            with contextlib.suppress(PolicyError):
                return self.ledger.entry(index)
        scan = self.scan()
        leaf = None if scan is None else scan.leaf(index)
        if leaf is None:
            raise PeerError(f"entry {index} cannot be read")
        return leaf

    @property
    def scan_problem(self) -> str | None:
        """Why the log could not be scanned."""
        return self._scan_problem

    def proof(self, index: int, leaf: bytes) -> bytes:
        """A tlog-proof of the leaf at an index under the served checkpoint; made, not verified."""
        if self.head is None:
            raise UsageError("a proof needs a checkpoint")
        size = self.head.size
        path = inclusion_path(lambda level, i: self.log.hash(level, i, size), index, size)
        return make_proof(index, path, self.note, leaf).encode()

    def opening(self, index: int) -> bytes | None:
        """An opening for a replay, tolerance included, if this source has the private half and still the record."""
        if self.ledger is None:
            return None
        from ...schemas.record import REPLAY_FIELDS

        try:
            return self.ledger.opening(index, (*REPLAY_FIELDS, "tolerance"))
        except (SetupError, UsageError):
            return None

    def existence_time(self, index: int) -> int | None:
        """POSIX seconds at which the quorum had seen the entry; None without witnesses."""
        policy = self.policy
        if policy is not None and isinstance(self.log.source, DirectorySource):
            with contextlib.suppress(PlausibleError):
                return dated_by(self.log, index, policy).existence_time
        return None if self.accepted is None else self.accepted.existence_time


def open_logs(
    ledgers: Sequence[LogLike], policy: Policy | None, authors: Authors | None
) -> tuple[list[LogSource], Trust]:
    """The sources of a verification and what decides about trust.

    `policy` and `authors` go together. Without them a ledger opened with its private half is judged by its own policy
    and authors (trust `own`); any other log by none (`none`).
    """
    if (policy is None) != (authors is None):
        raise UsageError("give a policy and authors together: one says which logs count, the other whom to believe")
    sources = [_open(item, policy, authors) for item in ledgers]
    if policy is not None:
        return sources, "policy"
    own = bool(sources) and all(source.ledger is not None for source in sources)
    return sources, "own" if own else "none"


def _open(item: LogLike, policy: Policy | None, authors: Authors | None) -> LogSource:
    if isinstance(item, Ledger):
        source = LogSource(item.name, item.log, policy or item.policy, authors or item.authors, item)
    elif isinstance(item, TiledLog):
        source = LogSource("log", item, policy, authors)
    else:
        path = Path(item)
        if (path / "log.toml").is_file():
            ledger = Ledger.open(path, mode="read")
            source = LogSource(
                path.name, ledger.log, policy or ledger.policy, authors or ledger.authors, ledger, opened=True
            )
        elif (path / "checkpoint").is_file() or (path / "tile").is_dir():
            source = LogSource(path.name, TiledLog(DirectorySource(path)), policy, authors)
        elif not path.is_dir():
            raise UsageError(f"{item} is not a folder: give a ledger directory or the public folder of a log")
        else:
            raise UsageError(f"{item} is neither a ledger directory (log.toml) nor a log's public folder (checkpoint)")
    _accept(source, own=policy is None)
    return source


def _accept(source: LogSource, *, own: bool) -> None:
    try:
        source.note = source.log.checkpoint_bytes()
        source.head = Checkpoint.parse(Note.parse(source.note).text)
        if source.policy is None:
            source.problem = "no policy says whose checkpoints count"
            return
        source.accepted = source.policy.check(source.note, now=int(time.time()))
        if source.ledger is not None:
            # found by an index that is not the verifier's own unless the ledger is: what it names counts, what it
            # leaves out says nothing
            with contextlib.suppress(PlausibleError):  # a log whose entries are not its tree's is found out below
                source.judge_keys(source.ledger.key_history(), source.head.size if own else None)
                source.epochs = source.ledger.epoch_index()
                if own:
                    source.epochs.complete[source.origin] = source.head.size
    except PlausibleError as error:
        source.problem = str(error)


def read_evidence(items: Sequence[EvidenceFiles | str | Path]) -> list[EvidenceFiles]:
    """Evidence from files: each `X.tlog-proof`, with `X.opening.json` beside it or given too.

    `SetupError` if a file cannot be read, `UsageError` for an opening without its proof.
    """
    found: dict[str, EvidenceFiles] = {}
    openings: dict[str, Path] = {}
    for item in items:
        if isinstance(item, EvidenceFiles):
            found[item.name] = item
            continue
        path = Path(item)
        if path.name.endswith(OPENING_SUFFIX):
            openings[str(path)[: -len(OPENING_SUFFIX)]] = path
            continue
        stem = str(path).removesuffix(PROOF_SUFFIX)
        beside = Path(stem + OPENING_SUFFIX)
        opening = _read(beside) if path.name.endswith(PROOF_SUFFIX) and beside.is_file() else None
        epoch = Path(stem + EPOCH_SUFFIX)
        found[stem] = EvidenceFiles(path.name, _read(path), opening, _read(epoch) if epoch.is_file() else None)
    for stem, path in openings.items():
        if stem in found:
            known = found[stem]
            found[stem] = EvidenceFiles(known.name, known.proof, _read(path), known.epoch)
            continue
        proof = Path(stem + PROOF_SUFFIX)
        if not proof.is_file():
            raise UsageError(f"{path.name} is an opening without its proof: give {proof.name} too")
        found[stem] = EvidenceFiles(proof.name, _read(proof), _read(path))
    return list(found.values())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise EvidenceError(f"{path.name} has more than {_LARGEST_FILE} bytes and is no evidence")
    return data


def split_view(given: AcceptedCheckpoint | None, sources: Sequence[LogSource]) -> str | None:
    """Why an accepted checkpoint in evidence and one of the same log here cannot both be true; None if they agree.

    Two signed trees of one log must be prefixes of each other. Consistency is recomputed from the log's own tiles.
    """
    if given is None:
        return None
    for source in sources:
        here = source.accepted
        if here is None or here.origin != given.origin:
            continue
        small, large = sorted((given, here), key=lambda c: c.size)
        if small.size == large.size:
            if small.root != large.root:
                return f"split view: {here.origin} signed two roots for size {here.size}"
            continue
        if large is not here:
            continue  # the newer tree is not served here, so nothing can be recomputed
        try:
            path = source.log.consistency(small.size, large.size)
            verify_consistency(small.size, small.root, large.size, large.root, path)
        except EvidenceError:
            return (
                f"split view: the tree of {here.origin} of size {small.size} (in the evidence) is no prefix of the "
                f"served one of size {large.size}"
            )
        except PlausibleError:
            continue
    return None
