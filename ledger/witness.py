"""The witness without HTTP: cosigns a checkpoint only if it continues the last one it cosigned (C2SP tlog-witness).

Promises: for each origin the cosigned trees never shrink and never contradict each other, whatever is asked, by however
many threads and processes at once, through crashes. The check of the old size, the new state and the commit are one
SQLite transaction that is durable (WAL, synchronous=FULL) before the answer exists. Whom it trusts: its own state file,
nothing else; a log's key only decides which checkpoints are worth a look.

A state file is made once, by `Witness.create`. A witness whose file is missing refuses to open: starting from nothing
under the same key would cosign a fork. Never restore it from a backup. What a thief of the key and file can do: one
vote of every quorum that counts this witness.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..schemas.errors import EvidenceError, SetupError, UsageError
from . import tree
from .checkpoint import Checkpoint
from .cosignature import cosign
from .note import Note, NoteSignature, SignerKey, VerifierKey, split_note
from .wire import NonCanonicalBase64Error, decode_hash, encode_base64, parse_decimal

MAX_REQUEST_BYTES = 128 * 1024
MAX_PROOF = 63
_MAX_CONFLICTS = 16
WITNESS_VERSION = 1
WITNESS_DDL = """
CREATE TABLE witness (name TEXT NOT NULL) STRICT;
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    keys TEXT NOT NULL,             -- verifier keys, one a line
    size INTEGER NOT NULL,          -- of the last checkpoint cosigned; 0 with the empty root before the first
    root BLOB NOT NULL,
    note BLOB                       -- that checkpoint with the log's and our own signatures; NULL before the first
) STRICT;
CREATE TABLE conflicts (            -- two checkpoints signed by the log that cannot both be true
    origin TEXT NOT NULL,
    time INTEGER NOT NULL,
    ours BLOB NOT NULL,
    theirs BLOB NOT NULL
) STRICT;
"""


# --- the request ---


@dataclass(frozen=True, slots=True)
class AddCheckpointRequest:
    """A parsed add-checkpoint body: the size the client believes we have, the consistency proof, the signed note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body's bytes."""
        lines = [f"old {self.old_size}", *(encode_base64(value) for value in self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.note


def parse_add_checkpoint_request(body: bytes) -> AddCheckpointRequest:
    """Read an add-checkpoint body of at most 128 KiB and 63 proof lines; the note is not looked into."""
    if len(body) > MAX_REQUEST_BYTES:
        raise EvidenceError(f"an add-checkpoint request has at most {MAX_REQUEST_BYTES} bytes")
    head, empty_line, note = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise EvidenceError("invalid input: the head of an add-checkpoint request is ASCII text") from None
    if not empty_line or not lines[0].startswith("old "):
        raise EvidenceError("invalid input: the request begins with its old size and has an empty line before the note")
    old_size = parse_decimal(lines[0].removeprefix("old "), "the old size")
    if len(lines) - 1 > MAX_PROOF:
        raise EvidenceError(f"a consistency proof has at most {MAX_PROOF} hashes")
    return AddCheckpointRequest(old_size, tuple(decode_hash(line, "a proof hash") for line in lines[1:]), note)


# --- the answer ---


@dataclass(frozen=True, slots=True)
class Cosigned:
    """200: recorded and cosigned."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    @property
    def body(self) -> bytes:
        """One cosignature line per key of the witness."""
        return "".join(signature.line for signature in self.signatures).encode()


@dataclass(frozen=True, slots=True)
class OutOfStep:
    """409: the old size is not the size we last cosigned; `size` is."""

    size: int
    status: int = 409
    content_type: str = "text/x.tlog.size"

    @property
    def body(self) -> bytes:
        """Our size in decimal, with a newline."""
        return f"{self.size}\n".encode()


@dataclass(frozen=True, slots=True)
class Refused:
    """400 malformed, 403 no valid log signature, 404 unknown origin, 422 not consistent; `reason` is one sentence."""

    status: int
    reason: str
    content_type: str = "text/plain; charset=utf-8"

    @property
    def body(self) -> bytes:
        """The reason, with a newline."""
        return (self.reason + "\n").encode("utf-8", "replace")


Outcome = Cosigned | OutOfStep | Refused


@dataclass(frozen=True, slots=True)
class WatchedLog:
    """A log the witness knows: its keys, and the last size and root it cosigned (0 and the empty root before)."""

    origin: str
    keys: tuple[VerifierKey, ...]
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """Proof that a log lied: two notes it signed, of one size and with different roots."""

    origin: str
    time: int
    ours: bytes
    theirs: bytes


# --- the witness ---


class Witness:
    """A witness over a state file. Threads may share one; processes open the same file each for themselves."""

    def __init__(
        self,
        name: str,
        signers: SignerKey | Sequence[SignerKey],
        state_path: Path | str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the existing state of the witness `name`; `SetupError` if it is missing, another's or unreadable.

        Several signers (all cosignature keys under `name`) are for rotation and for Ed25519 beside ML-DSA-44.
        """
        self.name = name
        self.signers = (signers,) if isinstance(signers, SignerKey) else tuple(signers)
        if not self.signers or any(s.name != name or not s.verifier.timed for s in self.signers):
            raise UsageError(f"a witness needs cosignature keys under its own name {name}")
        self._path = Path(state_path)
        self._clock = clock
        self._lock = threading.Lock()
        if not self._path.is_file():
            raise SetupError(
                f"there is no witness state at {self._path}: make a new witness with a new key, and never let one "
                "that lost its state sign again"
            )
        self._db = _connect(self._path)
        try:
            self._check_state()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(
        cls,
        name: str,
        signers: SignerKey | Sequence[SignerKey],
        state_path: Path | str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> Witness:
        """Make the state file of a new witness and open it; `UsageError` if the file exists."""
        path = Path(state_path)
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise UsageError(f"{path} exists already: open it, or choose another place") from None
        except OSError as error:
            raise SetupError(f"cannot create {path}: {error.strerror}") from None
        db = _connect(path)
        try:
            # one transaction: a file that is half made has version 0 and is refused
            db.executescript(f"BEGIN IMMEDIATE;\n{WITNESS_DDL}\nPRAGMA user_version = {WITNESS_VERSION};")
            db.execute("INSERT INTO witness VALUES (?)", (name,))
            db.execute("COMMIT")
        finally:
            db.close()
        return cls(name, signers, path, clock=clock)

    def _check_state(self) -> None:
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version != WITNESS_VERSION:
                raise SetupError(
                    f"{self._path} has state version {version}; this program reads version {WITNESS_VERSION}"
                )
            (stored,) = self._db.execute("SELECT name FROM witness").fetchone()
        except sqlite3.Error as error:
            raise SetupError(f"{self._path} is not a witness state file: {error}") from None
        if stored != self.name:
            raise SetupError(f"{self._path} is the state of the witness {stored}, not of {self.name}")

    def close(self) -> None:
        """Close the state file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Witness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """A write transaction that has the file to itself; committed and durable when the block is left."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.rollback()
                raise SetupError(f"the witness state {self._path} failed: {error}") from None

    def add_log(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """Watch a log from size 0; a no-op if it is watched under the same keys, `UsageError` under others."""
        spelt = _spell_keys(origin, keys)
        with self._transaction() as db:
            row = db.execute("SELECT keys FROM logs WHERE origin = ?", (origin,)).fetchone()
            if row is None:
                db.execute("INSERT INTO logs VALUES (?, ?, 0, ?, NULL)", (origin, spelt, tree.EMPTY_ROOT))
            elif row[0] != spelt:
                raise UsageError(f"the log {origin} is watched under other keys: change them on purpose")

    def change_keys(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """Accept other keys for a watched log; what was cosigned stays."""
        spelt = _spell_keys(origin, keys)
        with self._transaction() as db:
            if db.execute("UPDATE logs SET keys = ? WHERE origin = ?", (spelt, origin)).rowcount != 1:
                raise UsageError(f"the log {origin} is not watched")

    def logs(self) -> list[WatchedLog]:
        """Every watched log with its last cosigned head, by origin."""
        rows = self._read("SELECT origin, keys, size, root FROM logs ORDER BY origin")
        return [WatchedLog(origin, _read_keys(keys), size, root) for origin, keys, size, root in rows]

    def checkpoint(self, origin: str) -> bytes | None:
        """The last cosigned checkpoint with the log's and our signatures; None if there is none."""
        rows = self._read("SELECT note FROM logs WHERE origin = ?", origin)
        return rows[0][0] if rows else None

    def conflicts(self) -> list[Conflict]:
        """Pairs of checkpoints that a log signed and that cannot both be true (at most 16 kept a log)."""
        return [Conflict(*row) for row in self._read("SELECT origin, time, ours, theirs FROM conflicts ORDER BY rowid")]

    def _read(self, query: str, *values: str) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise SetupError(f"the witness state {self._path} failed: {error}") from None

    def handle(self, body: bytes) -> Outcome:
        """Answer one add-checkpoint request body."""
        try:
            request = parse_add_checkpoint_request(body)
        except EvidenceError as error:
            return Refused(400, str(error))
        return self.add_checkpoint(request.old_size, request.proof, request.note)

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        """Cosign a signed checkpoint that continues the one of `old_size`, or say why not.

        The order is tlog-witness's: parse 400, origin 404, signature 403, old size above the new 400, old size not ours
        409, roots and proof 422, record, cosign 200. Only trouble with the state file raises (`SetupError`).
        """
        if len(proof) > MAX_PROOF:
            return Refused(400, f"a consistency proof has at most {MAX_PROOF} hashes")
        try:
            text, _ = split_note(note)
            parsed = _parse_signatures(note)
            checkpoint = Checkpoint.parse(text, check_empty=False)
        except EvidenceError as error:
            return Refused(400, str(error))
        # whoever cannot sign for a log never gets as far as the write lock
        rows = self._read("SELECT keys FROM logs WHERE origin = ?", checkpoint.origin)
        if not rows:
            return Refused(404, f"unknown log {checkpoint.origin}")
        keys = str(rows[0][0])
        try:
            if parsed is None:
                raise EvidenceError("invalid signature: its base64 is not canonical")
            by_log = parsed.verify(_read_keys(keys))
        except EvidenceError as error:
            return Refused(403, str(error))
        if old_size > checkpoint.size:
            return Refused(400, f"the old size {old_size} is above the checkpoint's size {checkpoint.size}")
        # what is kept and served is our own spelling, with no line of strangers
        kept = Note(checkpoint.text, tuple(v.signature for v in by_log))
        with self._transaction() as db:
            return self._advance(db, keys, old_size, proof, checkpoint, kept)

    def _advance(
        self,
        db: sqlite3.Connection,
        keys: str,
        old_size: int,
        proof: Sequence[bytes],
        checkpoint: Checkpoint,
        kept: Note,
    ) -> Outcome:
        """Compare with the stored head and replace it, inside one write transaction."""
        origin = checkpoint.origin
        stored = db.execute("SELECT size, root, note FROM logs WHERE origin = ? AND keys = ?", (origin, keys))
        row = stored.fetchone()
        if row is None:
            return Refused(403, f"the keys of {origin} changed meanwhile: ask again")
        size, root, ours = row
        if old_size != size:
            return OutOfStep(size)
        now = int(self._clock())
        try:
            tree.verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
        except EvidenceError as error:
            if ours is not None and checkpoint.size == size and checkpoint.root != root:
                self._keep_conflict(db, origin, now, ours, kept.encode())
            return Refused(422, str(error))
        signatures = tuple(cosign(checkpoint, signer, now) for signer in self.signers)
        moved = db.execute(
            "UPDATE logs SET size = ?, root = ?, note = ? WHERE origin = ? AND size = ? AND root = ?",
            (checkpoint.size, checkpoint.root, kept.add(*signatures).encode(), origin, size, root),
        ).rowcount
        if moved != 1:  # cannot happen inside BEGIN IMMEDIATE; if it does, nothing may be signed
            raise SetupError(f"the witness state {self._path} changed under a transaction")
        return Cosigned(checkpoint, signatures)

    def _keep_conflict(self, db: sqlite3.Connection, origin: str, now: int, ours: bytes, theirs: bytes) -> None:
        known = db.execute("SELECT count(*), total(theirs = ?) FROM conflicts WHERE origin = ?", (theirs, origin))
        count, same = known.fetchone()
        if count < _MAX_CONFLICTS and not same:
            db.execute("INSERT INTO conflicts VALUES (?, ?, ?, ?)", (origin, now, ours, theirs))


def _parse_signatures(note: bytes) -> Note | None:
    """The note, or None if a signature's base64 only fails to be canonical: to a client that is a false signature."""
    try:
        return Note.parse(note)
    except NonCanonicalBase64Error:
        return None


def _spell_keys(origin: str, keys: Sequence[VerifierKey]) -> str:
    if not keys:
        raise UsageError(f"a watched log needs a key: none given for {origin}")
    Checkpoint(origin, 1, tree.EMPTY_ROOT)  # an origin that no checkpoint can carry is refused here
    return "\n".join(sorted(key.encode() for key in keys))


def _read_keys(text: str) -> tuple[VerifierKey, ...]:
    return tuple(VerifierKey.parse(line) for line in text.split("\n"))


def _connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return; `SetupError` if SQLite would not promise it."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
        synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
        if (mode, synchronous) != ("wal", 2):
            raise SetupError(f"SQLite cannot keep {path} durable here (journal {mode}, synchronous {synchronous})")
    except sqlite3.Error as error:
        db.close()
        raise SetupError(f"{path} is not a usable state file: {error}") from None
    except BaseException:
        db.close()
        raise
    return db
