"""Open ledgers of this process: brought to rest before a fork, closed when the interpreter ends."""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import logging
import os
import threading
import weakref
from typing import Protocol

from ..schemas.errors import PlausibleError

_log = logging.getLogger("plausible.ledger")


class Forkable(Protocol):
    """What holds databases, locks and threads."""

    def before_fork(self) -> None:
        """Close what must not be inherited."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Start anew."""
        ...

    def close(self) -> None:
        """Store what waits."""
        ...


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()
_forking = threading.local()


def watch(ledger: Forkable) -> None:
    """From now on until `forget`: looked after at forks and at exit."""
    _open.add(ledger)


def forget(ledger: Forkable) -> None:
    """It was closed."""
    _open.discard(ledger)


def _before_fork() -> None:
    _forking.ledgers = list(_open)
    for ledger in _forking.ledgers:
        ledger.before_fork()


def _after_fork_in_parent() -> None:
    for ledger in _forking.ledgers:
        ledger.after_fork_in_parent()
    _forking.ledgers = []


def _after_fork_in_child() -> None:
    for ledger in _forking.ledgers:
        ledger.after_fork_in_child()
    _forking.ledgers = []


def _close_all() -> None:
    for ledger in list(_open):
        try:
            ledger.close()
        except PlausibleError as error:
            _log.error("%r was not closed cleanly: %s", ledger, error)


# Before a fork the handler that was registered last runs first. Ours waits for the writer's thread, which may be
# starting a job in a pool; the pools' own handler takes the lock for that. So theirs must have been registered before.
_REGISTERED_BEFORE = concurrent.futures.thread
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
# a program that forgets to close must not lose what is in memory; the writer's thread still runs at this point
atexit.register(_close_all)
