"""The witness without HTTP: cosigns a checkpoint only if it continues the last one it cosigned (C2SP tlog-witness).

Promises: for each origin the cosigned trees never shrink and never contradict each other, whatever is asked, by however
many threads and processes at once, through crashes. The check of the old size, the new state and the commit are one
SQLite transaction that is durable (WAL, synchronous=FULL) before the answer exists; the requests of a batch share one.
Whom it trusts: its own state file, nothing else; a log's key only decides which checkpoints are worth a look.

A state file is made once, by `Witness.create`. A witness whose file is missing refuses to open: starting from nothing
under the same key would cosign a fork. Never restore it from a backup: a counter outside the file notices (guard.py),
and so does a checkpoint that comes back with a cosignature of our own that the state does not know. What a thief of the
key and file can do: one vote of every quorum that counts this witness.

    request   what is posted                          answer   what is answered, with its HTTP status
    state     the database and its transactions       guard    the counter outside it
    witness   the decisions
"""

from .answer import Conflict, Cosigned, Outcome, OutOfStep, Refused, SubtreeSigned, WatchedLog
from .guard import Guard
from .request import (
    MAX_PROOF,
    MAX_REQUEST_BYTES,
    AddCheckpointRequest,
    SignSubtreeRequest,
    parse_add_checkpoint_request,
    parse_sign_subtree_request,
)
from .state import WITNESS_DDL, WITNESS_VERSION
from .witness import Witness

__all__ = [
    "MAX_PROOF",
    "MAX_REQUEST_BYTES",
    "WITNESS_DDL",
    "WITNESS_VERSION",
    "AddCheckpointRequest",
    "Conflict",
    "Cosigned",
    "Guard",
    "OutOfStep",
    "Outcome",
    "Refused",
    "SignSubtreeRequest",
    "SubtreeSigned",
    "WatchedLog",
    "Witness",
    "parse_add_checkpoint_request",
    "parse_sign_subtree_request",
]
