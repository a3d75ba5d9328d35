"""Durable files: the few moves that everything stored goes through.

A file: temporary name in the same folder, write, fsync, rename, fsync the folder (databases: database.py). Two kinds
of failure are told apart:

* `StorageFull`: nothing was written (no space, read-only, too large); what is on the disk is still true, so the
  caller may try again or write elsewhere.
* `StorageBroken`: an fsync or a read failed. The kernel may have dropped pages it will never report again, so nothing
  may be acknowledged after it: the writer stops.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from ...schemas.errors import SetupError
from . import flock

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_TEMPORARY = ".tmp-"
SQLITE_FAILED = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises over a damaged file: its messages quote what it finds there, which need not be text."""
FLUSHED_AT_ONCE = 8
"""Paths that `sync_paths` flushes at the same time."""


class StorageFull(SetupError):  # noqa: N818  (named by what happened)
    """The disk took nothing: full, over quota or read-only. What is stored is unharmed."""


class StorageBroken(SetupError):  # noqa: N818
    """A flush or a read failed: what is stored may not be what was written. The writer stops."""


def storage_error(error: OSError | sqlite3.Error, doing: str) -> SetupError:
    """The `SetupError` for a failed system call or SQLite call while `doing` ("writing state.db")."""
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        if error.errno in _FULL:
            return StorageFull(f"{doing} failed: {text}")
        return StorageBroken(f"{doing} failed: {text}; the writer stops, check the disk and open the ledger again")
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_BUSY")):
        return StorageFull(f"{doing} failed: {error} ({name})")
    # SQLite reports a full disk behind a file size limit or quota as a failed write
    if name in {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHMSIZE"}:
        return StorageFull(f"{doing} failed: {error} ({name})")
    return StorageBroken(
        f"{doing} failed: {error} ({name}); the writer stops, check the disk and open the ledger again"
    )


@contextlib.contextmanager
def storage(doing: str) -> Generator[None, None, None]:
    """Turn the operating system's and SQLite's errors into `StorageFull` or `StorageBroken`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise storage_error(error, doing) from error


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the renames in it are durable."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _flush_failed(folder, error) from error
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """fsync a file that was written before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _flush_failed(path, error) from error
    finally:
        os.close(descriptor)


def sync_paths(paths: Sequence[Path], flush: Callable[[Path], None]) -> None:
    """`flush` (such as `sync_file`) for many paths, several at once: a file system flushes those together.

    All are tried; then the first error is raised.
    """
    at_once = min(FLUSHED_AT_ONCE, len(paths) // 2)
    if at_once <= 1:
        errors = [_failure(flush, path) for path in paths]
    else:
        with ThreadPoolExecutor(at_once) as pool:
            errors = list(pool.map(_failure, repeat(flush), paths))
    for error in errors:
        if error is not None:
            raise error


def _failure(flush: Callable[[Path], None], path: Path) -> Exception | None:
    try:
        flush(path)
    except (OSError, StorageBroken) as error:
        return error
    return None


def _flush_failed(path: Path, error: OSError) -> StorageBroken:
    # whatever errno says (ENOSPC included): after a failed fsync the kernel may call the lost pages clean
    return StorageBroken(
        f"flushing {path} failed: {error.strerror or error}; the writer stops, check the disk and open the ledger again"
    )


def write_file(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True, exclusive: bool = False) -> None:
    """Write a whole file so that readers see the old one or the new one, never a part.

    `sync=False` leaves the flushing of file and folder to the caller. `exclusive` refuses to replace an existing file
    (`FileExistsError`). Raises `OSError` for a failed write and `StorageBroken` for a failed flush.
    """
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid():x}-{os.urandom(4).hex()}-{path.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                try:
                    os.fsync(descriptor)
                except OSError as error:
                    raise _flush_failed(path, error) from error
        finally:
            os.close(descriptor)
        if exclusive:
            os.link(temporary, path)
            temporary.unlink()
        else:
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        sync_folder(path.parent)


@contextlib.contextmanager
def staged_folder(target: Path, doing: str, *, mode: int = 0o700) -> Generator[Path]:
    """A folder beside `target` that takes its place, durably, when the block is left; gone after an error.

    `target` must be absent or empty. `doing` names the work in the message of a failed system call, `mode` are the
    folder's permissions (the umask takes from them). What a killed process left beside `target` is removed first: who
    works holds a lock on its folder, and that goes with the process, however it ends.
    """
    target = target.absolute()
    with storage(doing):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        temporary = target.with_name(f"{_TEMPORARY}{os.getpid():x}-{os.urandom(4).hex()}-{target.name}")
        temporary.mkdir(mode=mode)
        lock = _locked(temporary)
        try:
            yield temporary
            sync_folder(temporary)
            if target.exists():
                target.rmdir()
            temporary.rename(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)


def _remove_stale(target: Path) -> None:
    """Remove folders staged for `target` that no process holds any more."""
    name = re.compile(rf"{re.escape(_TEMPORARY)}[0-9a-f]+-[0-9a-f]{{8}}-{re.escape(target.name)}")
    for folder in target.parent.iterdir():
        if name.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock on a folder; None if another process does, or none can be had here."""
    if not flock.AVAILABLE:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if flock.lock(descriptor, wait=False):
            return descriptor
    except OSError:  # held, gone, or a file system without locks: then nothing is ever taken for stale
        pass
    if descriptor is not None:
        os.close(descriptor)
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed writer left in `folder` (not below it)."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                path.unlink()
