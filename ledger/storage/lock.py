"""One sequencer per ledger: an advisory lock (flock) on the file `lock`, held by an open descriptor.

The lock disappears with the process, however it dies. A descriptor inherited by a forked child shares the parent's
lock: the child must `forget` it (closing its copy leaves the parent's lock alone, unlocking would not).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ...schemas.errors import SetupError
from . import flock
from .disk import storage

LOCK_FILE = "lock"


class SequencerLock:
    """The right to sequence a ledger; at most one process holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Try to take the lock; never waits. `SetupError` where the lock file cannot be opened or locked at all."""
        if self._descriptor is not None:
            return True
        if not flock.AVAILABLE:
            raise SetupError("this system has no flock: open the ledger on Linux or macOS, or with mode='read'")
        with storage(f"opening {self.path}"):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            taken = flock.lock(descriptor, wait=False)
        except OSError as error:
            os.close(descriptor)
            raise SetupError(f"{self.path} cannot be locked: {error.strerror}") from error
        if not taken:
            os.close(descriptor)
            return False
        # who holds it, for people who wonder; nothing reads it back
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: drop the inherited descriptor without touching the parent's lock."""
        self.release()
