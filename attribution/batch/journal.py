"""What is done: an append-only file, one line a job, on the disk before the job counts as done.

Only the place of each line is kept in memory. A line that is no job of this format is passed over and its job runs
again. Later lines of a job stand for earlier ones. The journal is the user's own work and trusted as such: it carries
no signature.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ...schemas.attribution import AttributionJob
from ...schemas.errors import EvidenceError
from ...schemas.text import parse_digest
from ..lines import Lines


class Journal:
    """The journal at `path`, made if it is not there. A context manager: it holds the file's lock until closed."""

    def __init__(self, path: Path) -> None:
        self.passed_over = 0
        """Lines that are no jobs."""
        self._lines = Lines(path)
        self._places: dict[bytes, int] = {}
        for place, line in self._lines:
            try:
                self._places[parse_digest(AttributionJob.of_line(line).job)] = place
            except EvidenceError:
                self.passed_over += 1

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
        self._lines.close()

    def append(self, key: bytes, line: bytes) -> None:
        """Add a job's line, its newline included; on return it is on the disk. `SetupError` if it cannot be."""
        self._places[key] = self._lines.append(line)

    def get(self, key: bytes) -> AttributionJob | None:
        """The job of a key, read again from the file."""
        place = self._places.get(key)
        return None if place is None else AttributionJob.of_line(self._lines.at(place))
