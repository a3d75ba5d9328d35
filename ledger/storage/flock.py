"""flock: a lock on an open file that disappears with the process, where the system has it (Linux, macOS)."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows: msvcrt has no lock that a dying process surely gives back on every file system
    fcntl = None  # type: ignore[assignment]

AVAILABLE = fcntl is not None


def lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file; False if another holds it and `wait` is false. Where there is no flock nothing is locked.

    `OSError` where the file system cannot lock.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


def unlock(descriptor: int) -> None:
    """Let others have it; closing the last descriptor does the same."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
