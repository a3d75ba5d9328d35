"""The local journal: where `on_error="spool"` keeps what the databases could not take, until they can again.

    plausible.journal/1\n
    u32 length || first 8 bytes of SHA-256(payload) || payload        repeated; payload = JSON of one submission

Where the vault is encrypted the payload is sealed with the vault's newest journal key (sealing.py); the older ones stay
in the vault, so what was spooled before a rotation is taken in after it. A sealed payload that does not open stays
where it is.

Append-only, fsynced before `append` returns. A torn tail (the machine died in the middle of a write) is found by length
and checksum, moved aside to `NAME.torn-N` and reported; the whole entries before it are kept. It is as private as the
vault. Flushing is idempotent: every submission has a key, and the vault takes a key once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import EvidenceError, SetupError
from ..notes.wire import decode_base64, encode_base64
from ..storage import flock
from ..storage.disk import StorageBroken, storage, sync_folder
from ..vault.sealing import SEALED_FRAME, Seal
from ..vault.vault import Submission
from ..vault.vaultkey import VaultLocked

MAGIC = b"plausible.journal/1\n"
_PREFIX = 12
_MAX_PAYLOAD = 1 << 28
_BYTES = ("key", "model", "pixels", "file", "commitment", "secret", "record")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal holds: whole submissions, the length of the file up to their end, and bytes after it."""

    submissions: tuple[Submission, ...]
    end: int
    torn: int


class Journal:
    """A journal file. Several processes may share it: every access holds the file's lock."""

    def __init__(self, path: Path, seal: Callable[[], Seal | None] = lambda: None) -> None:
        """`seal` gives the vault's keys as they stand when they are needed; None for a plain vault."""
        self.path = path
        self._seal = seal

    def exists(self) -> bool:
        """Whether there may be something to flush."""
        try:
            return self.path.stat().st_size > len(MAGIC)
        except OSError:
            return False

    def append(self, submissions: Sequence[Submission]) -> None:
        """Make submissions durable here; raises `SetupError` if that fails too."""
        seal = self._seal()
        data = b"".join(_frame(s, seal) for s in submissions)
        with self._open() as descriptor, storage(f"writing the journal {self.path}"):
            end = os.fstat(descriptor).st_size
            if end == 0:
                data = MAGIC + data
            try:
                _write_all(descriptor, data)
            except OSError:
                # a torn tail would hide later entries from the reader: cut it off again
                os.ftruncate(descriptor, end)
                raise
            _flush(descriptor, self.path)
            if end == 0:
                sync_folder(self.path.parent)

    def read(self) -> Contents:
        """All whole submissions, without changing the file."""
        if not self.exists():
            return Contents((), 0, 0)
        with storage(f"reading the journal {self.path}"):
            return parse(self.path.read_bytes(), str(self.path), self._seal())

    def flush(self, take: Callable[[Sequence[Submission]], None]) -> tuple[int, int]:
        """Hand everything to `take` (which must make it durable), then empty the file.

        Returns (submissions handed over, bytes of a torn tail that were moved aside).
        """
        if not self.exists():
            return 0, 0
        with self._open() as descriptor:
            with storage(f"reading the journal {self.path}"):
                data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            contents = parse(data, str(self.path), self._seal())
            for start in range(0, len(contents.submissions), 1000):
                take(contents.submissions[start : start + 1000])
            with storage(f"writing the journal {self.path}"):
                if contents.torn:
                    self._set_aside(data[contents.end :])
                os.ftruncate(descriptor, 0)
                _flush(descriptor, self.path)
        return len(contents.submissions), contents.torn

    def _set_aside(self, tail: bytes) -> None:
        number = 1
        while True:
            path = self.path.with_name(f"{self.path.name}.torn-{number}")
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:
                number += 1
        try:
            _write_all(descriptor, tail)
            _flush(descriptor, path)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _open(self) -> Generator[int, None, None]:
        with storage(f"opening the journal {self.path}"):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with storage(f"locking the journal {self.path}"):
                flock.lock(descriptor, wait=True)
            yield descriptor
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _flush(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise StorageBroken(f"flushing {path} failed: {error.strerror or error}; check the disk") from error


def _frame(submission: Submission, seal: Seal | None) -> bytes:
    payload = _encode(submission)
    if seal is not None:
        payload = seal.seal_frame(payload)
    return len(payload).to_bytes(4, "big") + hashlib.sha256(payload).digest()[:8] + payload


def _encode(submission: Submission) -> bytes:
    value: dict[str, Any] = {"kind": submission.kind, "name": submission.name, "draw": submission.draw}
    for name in _BYTES:
        data: bytes | None = getattr(submission, name)
        value[name] = None if data is None else encode_base64(data)
    return json.dumps(value, separators=(",", ":")).encode("utf-8")


def parse(data: bytes, path: str = "journal", seal: Seal | None = None) -> Contents:
    """Read a journal's bytes. Stops before the first entry that is not whole.

    Raises `SetupError` if it is no journal, or if a whole entry is sealed and `seal` does not open it: it is not torn.
    """
    if not data:
        return Contents((), 0, 0)
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):  # died while making it
            return Contents((), 0, len(data))
        raise SetupError(f"{path} is not a journal of this version")
    submissions: list[Submission] = []
    position = len(MAGIC)
    while position < len(data):
        start = position + _PREFIX
        length = int.from_bytes(data[position : position + 4], "big")
        payload = data[start : start + length]
        if length > _MAX_PAYLOAD or len(payload) != length or start > len(data):
            break
        if hashlib.sha256(payload).digest()[:8] != data[position + 4 : start]:
            break
        if payload.startswith(SEALED_FRAME):
            payload = _unsealed(payload, path, seal)
        try:
            submissions.append(_decode(payload))
        except (ValueError, KeyError, TypeError, EvidenceError):
            break
        position = start + length
    return Contents(tuple(submissions), position, len(data) - position)


def _unsealed(payload: bytes, path: str, seal: Seal | None) -> bytes:
    if seal is None:
        raise VaultLocked(f"{path} holds a sealed record and its vault was not opened with a key; nothing was taken")
    try:
        return seal.open_frame(payload)
    except EvidenceError as error:
        raise SetupError(f"{path} holds a sealed record that does not open ({error}); nothing was taken") from None


def _decode(payload: bytes) -> Submission:
    value = json.loads(payload)

    def optional(name: str) -> bytes | None:
        return None if value[name] is None else decode_base64(value[name], name)

    return Submission(
        key=decode_base64(value["key"], "key"),
        kind=value["kind"],
        model=decode_base64(value["model"], "model"),
        name=value["name"],
        draw=value["draw"],
        pixels=optional("pixels"),
        file=optional("file"),
        commitment=optional("commitment"),
        secret=optional("secret"),
        record=optional("record"),
    )
