"""What is done: an append-only file, one line a job, on the disk before the job counts as done.

Only the place of each line is kept in memory. A torn last line (the power went, the process was killed) is cut off;
a line that is no job of this format is passed over and its job runs again. Later lines of a job stand for earlier
ones. One process writes at a time. The journal is the user's own work and trusted as such: it carries no signature.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ...ledger.storage import flock
from ...schemas.attribution import AttributionJob
from ...schemas.errors import EvidenceError, SetupError
from ...schemas.text import parse_digest

MAX_LINE = 1024 * 1024


class Journal:
    """The journal at `path`, made if it is not there. A context manager: it holds the file's lock until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over = 0
        """Lines that are no jobs."""
        self._places: dict[bytes, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SetupError(f"the journal {path} cannot be opened: {error.strerror}") from error
        try:
            if not flock.lock(self._file, wait=False):
                raise SetupError(f"another process writes into {path}: wait for it, or name another folder")
            self._end = self._read()
            os.ftruncate(self._file, self._end)
            _sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def close(self) -> None:
        """Let another process write."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, key: bytes, line: bytes) -> None:
        """Add a job's line, its newline included; on return it is on the disk. `SetupError` if it cannot be."""
        try:
            written = os.pwrite(self._file, line, self._end)
            if written != len(line):
                raise OSError(None, "the disk is full")
            os.fsync(self._file)
        except OSError as error:
            raise SetupError(f"the journal {self.path} cannot be written: {error.strerror}") from error
        self._places[key] = self._end
        self._end += len(line)

    def get(self, key: bytes) -> AttributionJob | None:
        """The job of a key, read again from the file."""
        place = self._places.get(key)
        return None if place is None else AttributionJob.of_line(self._line(place))

    def _line(self, place: int) -> bytes:
        data = b""
        while b"\n" not in data:
            more = os.pread(self._file, 8192, place + len(data))
            if not more or len(data) > MAX_LINE:
                raise EvidenceError(f"{self.path} was changed by another program")
            data += more
        return data[: data.index(b"\n") + 1]

    def _read(self) -> int:
        """Find the lines; where the next one goes."""
        end = 0
        for line in _lines(self._file):
            try:
                job = AttributionJob.of_line(line)
                self._places[parse_digest(job.job)] = end
            except EvidenceError:
                self.passed_over += 1
            end += len(line)
        return end


def _lines(file: int) -> Iterator[bytes]:
    """Whole lines from the start of a file; what follows the last newline is not one."""
    rest, place = b"", 0
    while more := os.pread(file, 1 << 20, place):
        place += len(more)
        *lines, rest = (rest + more).split(b"\n")
        for line in lines:
            yield line + b"\n"


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
