"""What a witness decides: the order of checks of C2SP tlog-witness over one state file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..merkle import tree
from ..notes.checkpoint import Checkpoint
from ..notes.cosignature import cosign, cosign_subtree
from ..notes.keytypes import COSIGNATURE_ML_DSA_44
from ..notes.note import Note, SignerKey, VerifierKey, split_note
from ..notes.wire import NonCanonicalBase64Error
from .answer import Conflict, Cosigned, Outcome, OutOfStep, Refused, SubtreeSigned, WatchedLog
from .guard import Guard
from .request import (
    MAX_PROOF,
    AddCheckpointRequest,
    SignSubtreeRequest,
    parse_add_checkpoint_request,
    parse_sign_subtree_request,
)
from .state import WitnessState

_MAX_CONFLICTS = 16


@dataclass(frozen=True, slots=True)
class _Known:
    """A request whose log and signature are known: worth the write lock."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    keys: str
    kept: Note
    by_us: bool


class Witness:
    """A witness over a state file. Threads may share one; processes open the same file each for themselves."""

    def __init__(
        self,
        name: str,
        signers: SignerKey | Sequence[SignerKey],
        state_path: Path | str,
        *,
        guard: Path | str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the existing state of the witness `name`; `SetupError` if it is missing, another's, unreadable or old.

        Several signers (all cosignature keys under `name`) are for rotation and for Ed25519 beside ML-DSA-44. `guard`
        is the counter outside the state (guard.py): with it a state restored from a backup is not opened. With no
        signers it keeps heads by the same rules and signs nothing: a mirror's pending checkpoints.
        """
        self.name = name
        self.signers = (signers,) if isinstance(signers, SignerKey) else tuple(signers)
        if any(s.name != name or not s.verifier.timed for s in self.signers):
            raise UsageError(f"a witness needs cosignature keys under its own name {name}")
        self._clock = clock
        self._keys = tuple(signer.verifier for signer in self.signers)
        opened = None if guard is None else Guard(Path(guard), name)
        try:
            self._state = WitnessState(Path(state_path), name, opened)
        except BaseException:
            if opened is not None:
                opened.close()
            raise

    @classmethod
    def create(
        cls,
        name: str,
        signers: SignerKey | Sequence[SignerKey],
        state_path: Path | str,
        *,
        guard: Path | str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Witness:
        """Make the state file (and guard) of a new witness and open it; `UsageError` if one exists."""
        WitnessState.create(Path(state_path), name)
        if guard is not None:
            Guard.create(Path(guard), name).close()
        return cls(name, signers, state_path, guard=guard, clock=clock)

    def close(self) -> None:
        """Close the state file."""
        self._state.close()

    def __enter__(self) -> Witness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- whom it watches ---

    def add_log(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """Watch a log, from where it was left; nothing if it is watched under these keys, `UsageError` under others."""
        self.add_logs([(origin, keys)])

    def add_logs(self, logs: Sequence[tuple[str, Sequence[VerifierKey]]]) -> None:
        """Watch several logs in one transaction."""
        spelt = [(origin, _spell_keys(origin, keys)) for origin, keys in logs]
        with self._state.transaction() as db:
            for origin, keys in spelt:
                row = db.execute("SELECT keys FROM logs WHERE origin = ?", (origin,)).fetchone()
                if row is None:
                    db.execute("INSERT INTO logs VALUES (?, ?, 0, ?, NULL)", (origin, keys, tree.EMPTY_ROOT))
                elif not row[0]:
                    db.execute("UPDATE logs SET keys = ? WHERE origin = ?", (keys, origin))
                elif row[0] != keys:
                    raise UsageError(f"the log {origin} is watched under other keys: change them on purpose")

    def change_keys(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """Accept other keys for a watched log; what was cosigned stays."""
        self._set_keys(origin, _spell_keys(origin, keys))

    def remove_log(self, origin: str) -> None:
        """Watch a log no more: it is unknown (404) until it is added again, which goes on where it was left."""
        self._set_keys(origin, "")

    def _set_keys(self, origin: str, keys: str) -> None:
        with self._state.transaction() as db:
            if db.execute("UPDATE logs SET keys = ? WHERE origin = ? AND keys <> ''", (keys, origin)).rowcount != 1:
                raise UsageError(f"the log {origin} is not watched")

    def logs(self) -> list[WatchedLog]:
        """Every log ever watched with its last cosigned head, by origin; without keys where it is watched no more."""
        rows = self._state.read("SELECT origin, keys, size, root FROM logs ORDER BY origin")
        return [WatchedLog(origin, _read_keys(keys), size, root) for origin, keys, size, root in rows]

    def log(self, origin: str) -> WatchedLog | None:
        """One log that is or was watched; None if it never was."""
        rows = self._state.read("SELECT keys, size, root FROM logs WHERE origin = ?", origin)
        return WatchedLog(origin, _read_keys(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    def origins(self) -> list[str]:
        """The origins of every log ever watched."""
        return [row[0] for row in self._state.read("SELECT origin FROM logs ORDER BY origin")]

    def count(self) -> int:
        """How many logs were ever watched."""
        return self._state.read("SELECT count(*) FROM logs")[0][0]

    def checkpoint(self, origin: str) -> bytes | None:
        """The last cosigned checkpoint with the log's and our signatures; None if there is none."""
        rows = self._state.read("SELECT note FROM logs WHERE origin = ?", origin)
        return rows[0][0] if rows else None

    def conflicts(self) -> list[Conflict]:
        """Pairs of checkpoints that a log signed and that cannot both be true (at most 16 kept a log)."""
        rows = self._state.read("SELECT origin, time, ours, theirs FROM conflicts ORDER BY rowid")
        return [Conflict(*row) for row in rows]

    @property
    def frozen(self) -> str | None:
        """Why this witness signs nothing any more, or None while it does."""
        return self._state.read("SELECT frozen FROM witness")[0][0]

    # --- add-checkpoint ---

    def handle(self, body: bytes) -> Outcome:
        """Answer one add-checkpoint request body."""
        return self.handle_all([body])[0]

    def handle_all(self, bodies: Sequence[bytes]) -> list[Outcome]:
        """Answer add-checkpoint bodies, in this order, in one durable commit."""
        requests: list[AddCheckpointRequest | Refused] = []
        for body in bodies:
            try:
                requests.append(parse_add_checkpoint_request(body))
            except EvidenceError as error:
                requests.append(Refused(400, str(error)))
        return self._answer(requests)

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        """Cosign a signed checkpoint that continues the one of `old_size`, or say why not.

        The order is tlog-witness's: parse 400, origin 404, signature 403, old size above the new 400, old size not ours
        409, roots and proof 422, record, cosign 200. Only trouble with the state file raises (`SetupError`).
        """
        return self._answer([AddCheckpointRequest(old_size, tuple(proof), note)])[0]

    def _answer(self, requests: Sequence[AddCheckpointRequest | Refused]) -> list[Outcome]:
        # whoever cannot sign for a log never gets as far as the write lock
        looked = [request if isinstance(request, Refused) else self._look(request) for request in requests]
        if all(isinstance(found, Refused) for found in looked):
            return [found for found in looked if isinstance(found, Refused)]
        with self._state.transaction() as db:
            return [found if isinstance(found, Refused) else self._advance(db, found) for found in looked]

    def _look(self, request: AddCheckpointRequest) -> _Known | Refused:
        """The checks that need no write lock, in their order."""
        if len(request.proof) > MAX_PROOF:
            return Refused(400, f"a consistency proof has at most {MAX_PROOF} hashes")
        found = self._known(request.note)
        if isinstance(found, Refused):
            return found
        checkpoint, keys, parsed = found
        try:
            by_log = parsed.verify(_read_keys(keys))
        except EvidenceError as error:
            return Refused(403, str(error))
        if request.old_size > checkpoint.size:
            return Refused(400, f"the old size {request.old_size} is above the checkpoint's size {checkpoint.size}")
        # what is kept and served is our own spelling, with no line of strangers
        kept = Note(checkpoint.text, tuple(v.signature for v in by_log))
        return _Known(request.old_size, request.proof, checkpoint, keys, kept, self._by_us(parsed))

    def _known(self, note: bytes) -> tuple[Checkpoint, str, Note] | Refused:
        """(checkpoint, the keys of its log, the note), or 400 for what does not parse and 404 for a log not watched."""
        try:
            text, _ = split_note(note)
            parsed = _parse_signatures(note)
            checkpoint = Checkpoint.parse(text, check_empty=False)
        except EvidenceError as error:
            return Refused(400, str(error))
        rows = self._state.read("SELECT keys FROM logs WHERE origin = ?", checkpoint.origin)
        if not rows or not rows[0][0]:
            return Refused(404, f"unknown log {checkpoint.origin}")
        if parsed is None:
            return Refused(403, "invalid signature: its base64 is not canonical")
        return checkpoint, str(rows[0][0]), parsed

    def _by_us(self, note: Note) -> bool:
        """Whether a cosignature of our own stands under the note and verifies."""
        try:
            return bool(note.known_signatures(self._keys))
        except EvidenceError:  # somebody's line under our name: says nothing
            return False

    def _advance(self, db: sqlite3.Connection, known: _Known) -> Outcome:
        """Compare with the stored head and replace it, inside one write transaction."""
        checkpoint, origin = known.checkpoint, known.checkpoint.origin
        (frozen,) = db.execute("SELECT frozen FROM witness").fetchone()
        if frozen is not None:
            return Refused(503, frozen)
        stored = db.execute("SELECT size, root, note FROM logs WHERE origin = ? AND keys = ?", (origin, known.keys))
        row = stored.fetchone()
        if row is None:
            return Refused(403, f"the keys of {origin} changed meanwhile: ask again")
        size, root, ours = row
        if known.by_us and (checkpoint.size > size or (checkpoint.size == size and checkpoint.root != root)):
            return self._freeze(db, checkpoint, size)
        if known.old_size != size:
            return OutOfStep(size)
        now = int(self._clock())
        try:
            tree.verify_consistency(size, root, checkpoint.size, checkpoint.root, known.proof)
        except EvidenceError as error:
            if ours is not None and checkpoint.size == size and checkpoint.root != root:
                self._keep_conflict(db, origin, now, ours, known.kept.encode())
            return Refused(422, str(error))
        signatures = tuple(cosign(checkpoint, signer, now) for signer in self.signers)
        moved = db.execute(
            "UPDATE logs SET size = ?, root = ?, note = ? WHERE origin = ? AND size = ? AND root = ?",
            (checkpoint.size, checkpoint.root, known.kept.add(*signatures).encode(), origin, size, root),
        ).rowcount
        if moved != 1:  # cannot happen inside BEGIN IMMEDIATE; if it does, nothing may be signed
            raise SetupError(f"the witness state {self._state.path} changed under a transaction")
        return Cosigned(checkpoint, signatures)

    def _freeze(self, db: sqlite3.Connection, checkpoint: Checkpoint, size: int) -> Refused:
        """Our own key signed what our state does not know: the state is an old copy, or the key is in other hands.

        Which of its logs are behind cannot be known, so nothing is signed for any of them, for good.
        """
        reason = (
            f"this witness cosigned size {checkpoint.size} of {checkpoint.origin}, its state knows {size}: the state "
            "was restored from a backup or the key is used elsewhere; it signs nothing any more, make a new one with "
            "a new key"
        )
        db.execute("UPDATE witness SET frozen = ?", (reason,))
        return Refused(503, reason)

    def _keep_conflict(self, db: sqlite3.Connection, origin: str, now: int, ours: bytes, theirs: bytes) -> None:
        known = db.execute("SELECT count(*), total(theirs = ?) FROM conflicts WHERE origin = ?", (theirs, origin))
        count, same = known.fetchone()
        if count < _MAX_CONFLICTS and not same:
            db.execute("INSERT INTO conflicts VALUES (?, ?, ?, ?)", (origin, now, ours, theirs))

    # --- sign-subtree ---

    @property
    def signs_subtrees(self) -> bool:
        """Whether one of its keys can sign subtrees: only ML-DSA-44 cosignature keys do."""
        return any(signer.kind == COSIGNATURE_ML_DSA_44 for signer in self.signers)

    def handle_subtree(self, body: bytes) -> SubtreeSigned | Refused:
        """Answer one sign-subtree request body."""
        try:
            request = parse_sign_subtree_request(body)
        except EvidenceError as error:
            return Refused(400, str(error))
        return self.sign_subtree(request)

    def sign_subtree(self, request: SignSubtreeRequest) -> SubtreeSigned | Refused:
        """Sign a subtree of a tree that this witness cosigned, or say why not; changes no state.

        Parse 400, origin 404, the log's signature and one of our own under the checkpoint 403, range 400, proof 422.
        """
        found = self._known(request.note)
        if isinstance(found, Refused):
            return found
        checkpoint, keys, parsed = found
        if self.frozen is not None:
            return Refused(503, str(self.frozen))
        try:
            parsed.verify(_read_keys(keys))
        except EvidenceError as error:
            return Refused(403, str(error))
        if not self._by_us(parsed):
            return Refused(403, f"the checkpoint carries no cosignature by {self.name}")
        try:
            tree.require_subtree(request.start, request.end, checkpoint.size)
        except EvidenceError as error:
            return Refused(400, str(error))
        try:
            tree.verify_subtree_consistency(
                request.start, request.end, checkpoint.size, request.root, checkpoint.root, request.proof
            )
        except EvidenceError as error:
            return Refused(422, str(error))
        return SubtreeSigned(
            tuple(
                cosign_subtree(signer, checkpoint.origin, request.start, request.end, request.root)
                for signer in self.signers
                if signer.kind == COSIGNATURE_ML_DSA_44
            )
        )


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
    return tuple(VerifierKey.parse(line) for line in text.split("\n")) if text else ()
