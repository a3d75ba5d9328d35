"""The checkpoint that all readers of one run hold in common; two that cannot both be true are evidence."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from typing import Any

from ...schemas.errors import EvidenceError, PlausibleError, PolicyError
from ..merkle.public import CHECKPOINT
from ..merkle.reader import NotServed, TiledLog
from ..merkle.tree import consistency_path, verify_consistency
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note
from ..notes.policy import Policy


class Broken(EvidenceError):  # noqa: N818  (named by what happened)
    """The log broke what it signed. `evidence` is a JSON document that shows it."""

    def __init__(self, what: str, **evidence: Any) -> None:
        super().__init__(what)
        self.evidence: dict[str, Any] = {"what": what, **{key: plain(value) for key, value in evidence.items()}}


def plain(value: Any) -> Any:
    """Bytes as base64, all else as it is."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that was accepted: its note verbatim."""

    checkpoint: Checkpoint
    note: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The RFC 6962 root."""
        return self.checkpoint.root


class View:
    """The widest checkpoint seen so far; every other one must be of its history. Threads share it."""

    def __init__(self, log: TiledLog, policy: Policy | None) -> None:
        self._log = log
        self._policy = policy
        self._lock = threading.Lock()
        self._seen = self._read()
        self.checkpoints = 1
        """Different checkpoints seen."""
        self.proofs = 0
        """Consistency proofs verified between two of them."""

    @property
    def common(self) -> Seen:
        """The checkpoint that everything is held against."""
        return self._seen

    def refresh(self) -> Seen:
        """Read the served checkpoint and hold it against the common one, which it becomes if it is wider.

        `Broken` if it is malformed, not vouched for as the first one was, or of another history.
        """
        with self._lock:
            old, found = self._seen, self._read()
            if found.checkpoint == old.checkpoint:
                return old
            self.checkpoints += 1
            small, large = sorted((old, found), key=lambda seen: seen.size)
            self._prove(small, large)
            self._seen = large
            return large

    def _read(self) -> Seen:
        data = self._log.checkpoint_bytes()
        try:
            if self._policy is not None:
                return Seen(self._policy.check(data).checkpoint, data)
            return Seen(Checkpoint.parse(Note.parse(data).text), data)
        except (EvidenceError, PolicyError) as error:
            raise Broken(f"{CHECKPOINT} does not count: {error}", checkpoint=data) from error

    def _prove(self, small: Seen, large: Seen) -> None:
        path: list[bytes] = []
        try:
            if small.checkpoint.origin != large.checkpoint.origin:
                raise EvidenceError("they are of two logs")
            path = consistency_path(
                lambda level, index: self._log.hash(level, index, large.size), small.size, large.size
            )
            verify_consistency(small.size, small.root, large.size, large.root, path)
        except (EvidenceError, NotServed) as error:
            raise Broken(
                f"the checkpoints of sizes {small.size} and {large.size} are not shown to be of one history: {error}",
                smaller=small.note, larger=large.note, proof=path,
            ) from error  # fmt: skip
        self.proofs += 1


def broken_entry(seen: Seen, index: int, error: PlausibleError, **more: Any) -> Broken:
    """An entry under a checkpoint that cannot be shown to be in it."""
    what = f"entry {index} is not shown to be under the checkpoint of size {seen.size}: {error}"
    return Broken(what, checkpoint=seen.note, index=index, **more)


__all__ = ["Broken", "Seen", "View", "broken_entry"]
