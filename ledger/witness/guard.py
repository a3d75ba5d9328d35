"""A counter outside a witness's state file, so that a restored backup of the state is noticed.

The state counts its commits; after each the same number is written here, durably, before the answer leaves. A state
whose own count is below the guard's was put back to an earlier day, and a witness that signed from it could cosign a
fork: it is not opened. The state may be ahead (a kill between the two writes). The guard must not be restored together
with the state: keep it on another disk or volume, outside what is backed up.

Two slots of one sector each are written in turn, so that a write torn by a power cut leaves the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from ...schemas.errors import SetupError, UsageError
from ..storage import flock
from ..storage.disk import storage, sync_folder

_SLOT = 4096
_TAG = b"plausible.witness-guard/1\n"


class Guard:
    """The counter file at `path` of one witness key set (`owner`: names it, so that two witnesses cannot share one)."""

    def __init__(self, path: Path, owner: str) -> None:
        """Open an existing guard; `SetupError` if it is missing, torn in both slots or of another witness."""
        self.path, self._owner = path, owner
        try:
            self._file = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise SetupError(
                f"the witness's guard {path} cannot be opened ({error.strerror}): without it a restored state would "
                "not be noticed"
            ) from None
        try:
            found = max(self._slots())
            if found < 0:
                raise SetupError(f"{path} is not the guard of the witness {owner}")
        except BaseException:
            os.close(self._file)
            raise
        self.count = found

    @classmethod
    def create(cls, path: Path, owner: str) -> Guard:
        """Make the guard of a new witness, at 0; `UsageError` if the file exists."""
        with storage(f"writing {path}"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{path} exists already: a guard belongs to one witness and is never made anew") from None
        except OSError as error:
            raise SetupError(f"cannot create {path}: {error.strerror}") from None
        try:
            with storage(f"writing {path}"):
                os.pwrite(descriptor, _encode(owner, 0), 0)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
        return cls(path, owner)

    def _slots(self) -> list[int]:
        """The counts of both slots; -1 for one that is empty, torn or another's."""
        data = os.pread(self._file, 2 * _SLOT, 0)
        counts: list[int] = []
        for slot in (data[:_SLOT], data[_SLOT:]):
            text = slot.split(b" ", 1)[0]
            readable = text.isdigit() and len(text) <= 20 and slot == _encode(self._owner, int(text))
            counts.append(int(text) if readable else -1)
        return counts

    def advance(self, count: int) -> None:
        """Record, durably, that the state has made `count` commits; a lower count than before changes nothing."""
        # other processes may serve the same state: read again, and never over the slot that holds the most
        with storage(f"writing {self.path}"), self._alone():
            counts = self._slots()
            if count > max(counts):
                os.pwrite(self._file, _encode(self._owner, count), counts.index(min(counts)) * _SLOT)
                os.fsync(self._file)
        self.count = max(count, self.count)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        flock.lock(self._file, wait=True)
        try:
            yield
        finally:
            flock.unlock(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _encode(owner: str, count: int) -> bytes:
    """One slot: the count, a digest that binds it to the witness, padding."""
    text = str(count).encode()
    digest = hashlib.sha256(_TAG + owner.encode() + b"\n" + text).hexdigest().encode()
    return (text + b" " + digest + b"\n").ljust(_SLOT, b"\0")
