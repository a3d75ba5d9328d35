"""A ledger whose entries also go to a log elsewhere: what the writer asks of whoever sends them (node/sender).

The ledger stays as it is: its author's chain, its vault, its own log, which nobody else sees and which is the durable
queue of what has to be sent. Only what counts as sequenced and witnessed is the log's word elsewhere, not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..merkle.reader import TiledLog
from ..storage.state import State


class Sender(Protocol):
    """Sends accepted entries in their order. Numbers count this ledger's entries from the first on."""

    @property
    def sequenced(self) -> int:
        """Entries, from the first on, that the log elsewhere has under a signed head."""
        ...

    @property
    def witnessed(self) -> int:
        """Entries, from the first on, proven to be under a head that met the sender's policy."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why nothing gets through at the moment."""
        ...

    def place(self, position: int) -> tuple[int, int] | None:
        """(index, size) of an entry in the log elsewhere and of a head that covers it; None before there is one."""
        ...

    def start(self, state: State, log: TiledLog, moved: Callable[[], None]) -> None:
        """Begin to send what is accepted; called by the process that sequences. `moved` is called after progress."""
        ...

    def wake(self) -> None:
        """There may be something to send."""
        ...

    def suspend(self) -> None:
        """Keep still and hold no database open: for the moment of a fork."""
        ...

    def resume(self) -> None:
        """Go on after a fork, in the parent."""
        ...

    def forget(self) -> None:
        """In a forked child: this sender's thread is the parent's."""
        ...

    def close(self) -> None:
        """Send what can be sent in a few seconds, then stop. What was not sent is sent next time."""
        ...


__all__ = ["Sender"]
