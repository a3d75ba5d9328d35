"""Lines that stay: a file to which whole lines are added, each on the disk before it counts.

What measures for hours keeps its rows here: batches their journal, calibrations theirs. A torn last line (the power
went, the process was killed) is cut off when the file is opened. One process writes at a time. What the lines say is
their owner's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ..ledger.storage import flock
from ..schemas.errors import EvidenceError, SetupError

MAX_LINE = 1024 * 1024


class Lines:
    """The lines of `path`, made if it is not there; it holds the file's lock until closed. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SetupError(f"the journal {path} cannot be opened: {error.strerror}") from error
        try:
            if not flock.lock(self._file, wait=False):
                raise SetupError(f"another process writes into {path}: wait for it, or name another folder")
            self._end = sum(len(line) for _, line in self)
            os.ftruncate(self._file, self._end)
            _sync_folder(path.parent)
        except OSError as error:
            os.close(self._file)
            raise SetupError(f"the journal {path} cannot be locked and read: {error.strerror}") from error
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(place, line) of every whole line, its newline included, in the order in which they were added."""
        rest, place, end = b"", 0, 0
        while more := os.pread(self._file, 1 << 20, place):
            place += len(more)
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                yield end, line + b"\n"
                end += len(line) + 1

    def at(self, place: int) -> bytes:
        """The line at a place that `append` or the iterator gave; `EvidenceError` if there is none any more."""
        data = b""
        while b"\n" not in data:
            more = os.pread(self._file, 8192, place + len(data))
            if not more or len(data) > MAX_LINE:
                raise EvidenceError(f"{self.path} was changed by another program")
            data += more
        return data[: data.index(b"\n") + 1]

    def append(self, line: bytes) -> int:
        """Add a line, its newline included; its place. On return it is on the disk; `SetupError` if it cannot be."""
        try:
            if os.pwrite(self._file, line, self._end) != len(line):
                raise OSError(None, "the disk is full")
            os.fsync(self._file)
        except OSError as error:
            raise SetupError(f"the journal {self.path} cannot be written: {error.strerror}") from error
        place, self._end = self._end, self._end + len(line)
        return place

    def clear(self) -> None:
        """Begin anew, with no line."""
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self._end = 0

    def remove(self) -> None:
        """Give up the file and close it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let another process write."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
