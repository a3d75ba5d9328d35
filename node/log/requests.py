"""Bodies and answers of a log's writing side.

    POST /entry      one entry: its leaf bytes, as they will stand in the log
    POST /entries    1 to 256 entries of one author and chain, ascending, as in an entry bundle: u16 length + bytes each

    ?wait=accepted | sequenced | witnessed      how far to wait (accepted if it is not said)
    ?timeout=SECONDS                            1 to 300 (30 if it is not said)

A body is looked at before it is parsed: its end shows whose signature it claims to be, which is enough to turn a
stranger away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ledger.merkle.tiles import WIDTH, decode_entries
from ...ledger.merkle.tree import hash_leaf
from ...ledger.notes.wire import parse_decimal
from ...schemas import jcs
from ...schemas.errors import EvidenceError
from ...schemas.receipt import Receipt
from ...schemas.text import digest_text, parse_digest
from .chains import OutOfStep

MAX_ENTRIES = WIDTH
MAX_BATCH_BYTES = 1024 * 1024
WAIT_SECONDS = 30
MAX_WAIT_SECONDS = 300

State = Literal["accepted", "sequenced", "witnessed"]
STATES: tuple[State, ...] = ("accepted", "sequenced", "witnessed")

# how the JCS of an envelope with one signature ends; its keys are in this order or it is not JCS
_END = re.compile(rb'"signatures":\[\{"keyid":"([0-9a-f]{8})","sig":"[A-Za-z0-9+/]{86}=="\}\]\}\Z')
_END_BYTES = 160


@dataclass(frozen=True, slots=True)
class Wish:
    """How far a client wants to wait, and how long at most (seconds)."""

    wait: State
    timeout: int


DEFAULT = Wish("accepted", WAIT_SECONDS)


def read_wish(query: Mapping[str, str]) -> Wish:
    """The wish in a query; `EvidenceError` for parameters that are unknown or malformed."""
    if unknown := sorted(set(query) - {"wait", "timeout"}):
        raise EvidenceError(f"the parameter {unknown[0][:40]!r} is none of: wait, timeout")
    wait = query.get("wait", "accepted")
    if wait not in STATES:
        raise EvidenceError(f"wait is one of: {', '.join(STATES)}")
    timeout = parse_decimal(query.get("timeout", str(WAIT_SECONDS)), "timeout")
    if not 1 <= timeout <= MAX_WAIT_SECONDS:
        raise EvidenceError(f"timeout is a number of seconds from 1 to {MAX_WAIT_SECONDS}")
    return Wish(wait, timeout)


def read_batch(body: bytes) -> tuple[bytes, ...]:
    """The entries of a batch; `EvidenceError` unless it is 1 to 256 of them with nothing after."""
    count, place = 0, 0
    while place < len(body) and count <= MAX_ENTRIES:
        place += 2 + int.from_bytes(body[place : place + 2], "big")
        count += 1
    if not 1 <= count <= MAX_ENTRIES:
        raise EvidenceError(f"a batch has 1 to {MAX_ENTRIES} entries")
    return tuple(decode_entries(body, 0, count)[0])


def claimed_key(leaves: Sequence[bytes]) -> bytes:
    """The key ID (8 hex digits) that all these leaves claim to be signed by, unverified; `EvidenceError` if none."""
    found: set[bytes] = set()
    for leaf in leaves:
        match = _END.search(leaf[-_END_BYTES:])
        if match is None:
            raise EvidenceError("an entry is the JCS of a DSSE envelope with one signature")
        found.add(match[1])
    if len(found) != 1:
        raise EvidenceError("the entries of one request are of one author and one chain")
    return found.pop()


def receipt(leaf: bytes, index: int, *, sequenced: int, witnessed: int) -> Receipt:
    """Where an accepted entry stands in a log whose signed and cosigned heads have these sizes."""
    state: State = "accepted"
    size = None
    if index < witnessed:
        state, size = "witnessed", witnessed
    elif index < sequenced:
        state, size = "sequenced", sequenced
    known = None if size is None else index
    return Receipt(leaf=digest_text(hash_leaf(leaf)), state=state, index=known, size=size)


def chain_head(outcome: OutOfStep) -> bytes:
    """The answer 409: where the chain stands, as JCS."""
    return jcs.encode(
        {
            "author": outcome.author,
            "chain": outcome.chain,
            "format": "plausible.chain-head/1",
            "next": outcome.seq,
            "prev": digest_text(outcome.prev),
            "reason": outcome.reason,
        }
    )


def read_chain_head(data: bytes) -> OutOfStep:
    """What `chain_head` wrote; `EvidenceError` for anything else."""
    value = jcs.decode(data, limit=8192, what="chain head")
    fields = {"author", "chain", "format", "next", "prev", "reason"}
    if not isinstance(value, dict) or set(value) != fields or value["format"] != "plausible.chain-head/1":
        raise EvidenceError("this is no plausible.chain-head/1")
    author, chain, seq, prev, reason = (value[name] for name in ("author", "chain", "next", "prev", "reason"))
    if not (isinstance(author, str) and isinstance(chain, str) and isinstance(prev, str) and isinstance(reason, str)):
        raise EvidenceError("a chain head's author, chain, prev and reason are texts")
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
        raise EvidenceError("a chain head's next is a number")
    return OutOfStep(author, chain, seq, parse_digest(prev), reason)
