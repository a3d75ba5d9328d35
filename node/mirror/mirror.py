"""A mirror without HTTP: heads it has seen, copies of the entries under them, and the heads that it cosigned.

Two states of the witness's kind (ledger/witness) stand behind it. `pending.db` keeps the last head of each log that was
shown and continues the one before; nothing is signed with it. `mirror.db`, with its guard, moves only to a head whose
every entry is verified, on the disk and served here, by a consistency proof out of the copy's own tiles: then the
mirror's key cosigns. So it never signs backwards or a fork, through crashes, races and restored backups, for the same
reasons that a witness does not. If a cosignature of its own comes back that it does not know, it stops for good.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.mirror_body import origin_hash
from ...ledger.notes.note import Note, NoteSignature, SignerKey, VerifierKey
from ...ledger.storage.disk import storage, write_file
from ...ledger.witness import (
    Cosigned,
    Outcome,
    OutOfStep,
    Refused,
    SubtreeSigned,
    WatchedLog,
    Witness,
    parse_add_checkpoint_request,
)
from ...schemas.errors import EvidenceError, SetupError, UsageError
from .copy import Copy
from .directory import LOGS, PENDING, STATE, LogSettings, MirrorConfig, read_config, read_keys, read_log, write_log

RECENT = 16
"""Earlier pending heads of a log that an upload may still be about, beside those in tickets."""
_STATUS = "status.json"
_REFUSED = "refused"
_MAX_REFUSED = 16
_MAX_LINES = 64


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a log: `kind` "false" or "unreachable", one sentence, since when (POSIX seconds)."""

    kind: str
    text: str
    time: int


class Mirror:
    """The mirror in a folder. Threads share one; one process at a time serves it (service.py holds the lock)."""

    def __init__(self, folder: Path) -> None:
        """Open; `SetupError` if anything of it is missing or its state was restored from a backup."""
        self.folder = folder
        self.config: MirrorConfig = read_config(folder)
        self.signers, self.index_key = read_keys(folder, self.config)
        self._lock = threading.Lock()
        self._copies: dict[str, Copy] = {}
        self._recent: dict[str, OrderedDict[int, bytes]] = {}
        with contextlib.ExitStack() as opened:
            self._heads = opened.enter_context(Witness(self.config.name, (), folder / PENDING))
            self._cosigned = opened.enter_context(
                Witness(self.config.name, self.signers, folder / STATE, guard=self.config.guard)
            )
            for log in self._heads.logs():
                self._level(log)
            opened.pop_all()

    def close(self) -> None:
        """Close the states."""
        self._heads.close()
        self._cosigned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _level(self, log: WatchedLog) -> None:
        """After a kill between two commits, or a restored `pending.db`: both know the log, and no head is pending that
        is smaller than the cosigned one.
        """
        self._allow(log.origin, log.keys)
        ours = self._cosigned.log(log.origin)
        if ours is None or not log.keys or ours.size <= log.size:
            return
        copy = self.copy(log.origin)
        with copy.lock:
            same = copy.root(log.size) == log.root and copy.root(ours.size) == ours.root
            proof = copy.consistency(log.size, ours.size) if same else []
        outcome = self._heads.add_checkpoint(log.size, proof, self.cosigned_note(log.origin))
        if not isinstance(outcome, Cosigned):
            raise SetupError(
                f"{self.folder / PENDING} knows size {log.size} of {log.origin}, {self.folder / STATE} cosigned size "
                f"{ours.size}, and the copy does not join them: was one of them another mirror's?"
            )

    def _allow(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        log = self._cosigned.log(origin)
        known = None if log is None else log.keys
        if keys and known and known != tuple(keys):
            self._cosigned.change_keys(origin, keys)
        elif keys and not known:
            self._cosigned.add_log(origin, keys)
        elif not keys and known:
            self._cosigned.remove_log(origin)

    # --- which logs ---

    @property
    def name(self) -> str:
        """The name of its keys."""
        return self.config.name

    @property
    def signer(self) -> SignerKey:
        """The first of its cosignature keys."""
        return self.signers[0]

    def add_log(self, origin: str, keys: Sequence[VerifierKey], settings: LogSettings) -> None:
        """Mirror a log, from where it was left; `UsageError` if it is mirrored under other keys."""
        self._heads.add_log(origin, keys)
        self._allow(origin, keys)
        write_log(self.log_folder(origin), settings)

    def change_keys(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """Accept other keys for a log that changes its key (docs/spec/log-keys.md); what was cosigned stays."""
        self._heads.change_keys(origin, keys)
        self._allow(origin, keys)

    def remove_log(self, origin: str) -> None:
        """Mirror a log no more. Its copy stays and is served; what was cosigned is kept."""
        self._heads.remove_log(origin)
        self._allow(origin, ())

    def logs(self) -> list[WatchedLog]:
        """Every log ever mirrored with the last head that was cosigned; without keys where it is mirrored no more."""
        return self._cosigned.logs()

    def watched(self) -> list[WatchedLog]:
        """The logs that are mirrored now, with their newest pending heads."""
        return [log for log in self._heads.logs() if log.keys]

    def keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """The keys of a log that is mirrored now; empty for every other."""
        log = self._heads.log(origin)
        return () if log is None else log.keys

    def origins(self) -> list[str]:
        """The origins of every log ever mirrored."""
        return self._heads.origins()

    def count(self) -> int:
        """How many logs were ever mirrored."""
        return self._heads.count()

    def log_folder(self, origin: str) -> Path:
        """Where a log's copy and settings lie."""
        return self.folder / LOGS / origin_hash(origin)

    def settings(self, origin: str) -> LogSettings:
        """How a log is followed."""
        return read_log(self.log_folder(origin))

    def copy(self, origin: str) -> Copy:
        """The copy of a log, opened when it is first asked for."""
        with self._lock:
            found = self._copies.get(origin)
            if found is None:
                found = self._copies[origin] = Copy(self.log_folder(origin))
                self._serve_again(origin, found)
            return found

    @property
    def frozen(self) -> str | None:
        """Why this mirror signs nothing any more, or None while it does."""
        return self._cosigned.frozen

    # --- heads that are shown ---

    def handle_all(self, bodies: Sequence[bytes]) -> list[Outcome]:
        """Answer add-checkpoint bodies, in this order, in one durable commit. The mirror's key signs nothing here."""
        for body in bodies:
            with contextlib.suppress(EvidenceError):
                self._look_for_own(parse_add_checkpoint_request(body).note)
        if (frozen := self.frozen) is not None:
            return [Refused(503, frozen) for _ in bodies]
        outcomes = self._heads.handle_all(bodies)
        for origin in {outcome.checkpoint.origin for outcome in outcomes if isinstance(outcome, Cosigned)}:
            self._remember(origin)
        return outcomes

    def show(self, proof: Sequence[bytes], old_size: int, note: bytes) -> Outcome:
        """The same for one signed head and the proof that it continues the pending one of `old_size`."""
        self._look_for_own(note)
        if (frozen := self.frozen) is not None:
            return Refused(503, frozen)
        outcome = self._heads.add_checkpoint(old_size, proof, note)
        if isinstance(outcome, Cosigned):
            self._remember(outcome.checkpoint.origin)
        return outcome

    def _look_for_own(self, note: bytes) -> None:
        """A head under our own cosignature that our state does not know freezes it (ledger/witness/witness.py)."""
        try:
            parsed = Note.parse(note)
            if not parsed.known_signatures([signer.verifier for signer in self.signers]):
                return
            checkpoint = Checkpoint.parse(parsed.text)
        except EvidenceError:
            return
        known = self._cosigned.log(checkpoint.origin)
        if known is not None and (
            checkpoint.size > known.size or (checkpoint.size == known.size and checkpoint.root != known.root)
        ):
            self._cosigned.add_checkpoint(checkpoint.size, (), note)

    def _remember(self, origin: str) -> None:
        note = self._heads.checkpoint(origin)
        if note is None:
            return
        with self._lock:
            recent = self._recent.setdefault(origin, OrderedDict())
            recent[_size(note)] = note
            while len(recent) > RECENT:
                recent.popitem(last=False)

    def pending(self, origin: str) -> tuple[Checkpoint, bytes] | None:
        """The newest head that the log has shown, and its note with the log's signatures; None before the first."""
        note = self._heads.checkpoint(origin)
        return None if note is None else (Checkpoint.parse(Note.parse(note).text), note)

    def pending_at(self, origin: str, size: int) -> bytes | None:
        """A pending head of this size, now or lately."""
        now = self._heads.checkpoint(origin)
        if now is not None and _size(now) == size:
            return now
        with self._lock:
            return self._recent.get(origin, OrderedDict[int, bytes]()).get(size)

    # --- heads that are cosigned ---

    def head(self, origin: str) -> WatchedLog:
        """The last head that this mirror cosigned: size 0 before the first."""
        found = self._cosigned.log(origin)
        if found is None:
            raise UsageError(f"{origin} is not mirrored")
        return found

    def cosigned_note(self, origin: str) -> bytes:
        """The last head that this mirror cosigned, with the log's and its own signatures; b"" before the first."""
        return self._cosigned.checkpoint(origin) or b""

    def commit(self, origin: str, note: bytes, lines: Sequence[NoteSignature] = ()) -> Outcome:
        """Cosign a head that was pending, if all its entries are here, and serve it: durable before this returns.

        `lines` are signatures by others that are served beside ours, unverified. `OutOfStep` if a later head is
        cosigned already. Raises `SetupError` where the copy is not what was verified.
        """
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        copy, size = self.copy(origin), checkpoint.size
        with copy.lock:
            before = self.head(origin)
            if size < before.size:
                return OutOfStep(before.size)
            if copy.size < size:
                raise SetupError(f"the copy of {origin} has {copy.size} entries and cannot be cosigned at size {size}")
            copy.flush()
            copy.root(before.size)
            if copy.root(size) != checkpoint.root:
                raise SetupError(
                    f"the files in {copy.folder} do not give the root of {origin} at size {size}: nothing was signed; "
                    f"delete {copy.folder / 'progress'}, then the copy is made anew"
                )
            outcome = self._cosigned.add_checkpoint(before.size, copy.consistency(before.size, size), note)
            if isinstance(outcome, Cosigned):
                self._serve(origin, copy, lines)
            return outcome

    @property
    def signs_subtrees(self) -> bool:
        """Whether one of its keys can sign subtrees."""
        return self._cosigned.signs_subtrees

    def handle_subtree(self, body: bytes) -> SubtreeSigned | Refused:
        """Answer one sign-subtree body, about a head under this mirror's own cosignature."""
        return self._cosigned.handle_subtree(body)

    def serve_lines(self, origin: str, lines: Sequence[NoteSignature]) -> None:
        """Serve further signatures by others under the head that is served, unverified."""
        copy = self.copy(origin)
        with copy.lock:
            self._serve(origin, copy, lines)

    def _serve(self, origin: str, copy: Copy, lines: Sequence[NoteSignature]) -> None:
        kept = self._cosigned.checkpoint(origin)
        if kept is None:
            return
        note = Note.parse(kept)
        served = copy.served()
        others = (*(served[1].signatures if served is not None and served[1].text == note.text else ()), *lines)
        taken = {(line.name, line.key_id) for line in note.signatures}
        for line in others:
            if (line.name, line.key_id) not in taken and len(taken) < _MAX_LINES:
                taken.add((line.name, line.key_id))
                note = note.add(line)
        if served is None or served[1].encode() != note.encode():
            copy.serve(_size(kept), note.encode())

    def _serve_again(self, origin: str, copy: Copy) -> None:
        """After a kill between the commit and the file: serve what was cosigned last."""
        kept = self._cosigned.checkpoint(origin)
        served = copy.served()
        if kept is not None and (served is None or served[1].text != Note.parse(kept).text):
            if copy.size < _size(kept):
                return  # the copy is being made anew: nothing is served before it is whole
            self._serve(origin, copy, ())

    # --- what was seen of a log ---

    def say(self, origin: str, part: str, kind: str = "", text: str = "") -> bool:
        """Keep what is wrong with a log's `part` ("log", "index"); without `kind` nothing is. Whether that is news.

        `kind` is "false" for what contradicts itself, "unreachable" for what could not be looked at.
        """
        with self._lock:
            known = self.said(origin)
            before = known.get(part)
            if (before.kind, before.text) == (kind, text) if before is not None else not kind:
                return False
            known[part] = Trouble(kind, text, int(time.time()))
            rows = {name: [t.kind, t.text, t.time] for name, t in known.items() if t.kind}
            path = self.log_folder(origin) / _STATUS
            with storage(f"writing {path}"):
                write_file(path, json.dumps(rows).encode())
            return True

    def said(self, origin: str) -> dict[str, Trouble]:
        """What is wrong with a log as it was last looked at, by part; empty if all was well."""
        try:
            rows: Any = json.loads((self.log_folder(origin) / _STATUS).read_bytes())
            return {str(name): Trouble(str(kind), str(text), int(when)) for name, (kind, text, when) in rows.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep_proof(self, origin: str, note: bytes, proof: bytes | None) -> Path | None:
        """Keep a head that the log signed against an earlier one, and the contradiction file about it, if there is one.

        The file's place, or the note's where there is no file; None if many are kept already.
        """
        folder = self.log_folder(origin) / _REFUSED
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        path = folder / f"{checkpoint.size}-{checkpoint.root.hex()[:16]}"
        with storage(f"writing {folder}"):
            folder.mkdir(exist_ok=True)
            if not path.exists():
                if sum(1 for _ in folder.iterdir()) >= _MAX_REFUSED:
                    return None
                write_file(path, note)
            told = path.with_name(f"{path.name}.contradiction.json")
            if proof is not None and not told.exists():
                write_file(told, proof)
        return told if told.exists() else path


def _size(note: bytes) -> int:
    return Checkpoint.parse(Note.parse(note).text).size


__all__ = ["Mirror", "Trouble"]
