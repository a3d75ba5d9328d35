"""Lists of logs that a network of witnesses publishes (`logs/v0`), and taking new logs from one.

    logs/v0

    vkey models.example/studio/log+0a72cd63+AV2y...
    qpd 86400
    contact somebody@models.example

Empty lines and lines that begin with `#` do not count. Each log begins with its `vkey`; `origin` (default, or `none`:
the key's name), `qpd` (add-checkpoint requests a day), `contact` and `bastion` follow. A downloaded list is no
configuration: from it only new origins are added, none is changed or removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ledger.notes.note import ED25519, VerifierKey
from ...ledger.notes.wire import parse_decimal
from ...ledger.witness import Witness
from ...schemas.errors import EvidenceError

HEADER = "logs/v0"
MAX_LIST_BYTES = 64 * 1024 * 1024
_MAX_QPD = 2**31 - 1
_WORDS = ("origin", "bastion", "qpd", "contact")


@dataclass(frozen=True, slots=True)
class ListedLog:
    """One log of a list: its key, its origin, how many requests a day it may make (None: not said), a contact."""

    key: VerifierKey
    origin: str
    qpd: int | None
    contact: str


def parse_list(data: bytes) -> list[ListedLog]:
    """Read a list of at most 64 MiB; `EvidenceError` names the line that is wrong."""
    if len(data) > MAX_LIST_BYTES:
        raise EvidenceError(f"a list of logs has at most {MAX_LIST_BYTES} bytes")
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise EvidenceError("a list of logs is UTF-8 text") from None
    told = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    told = [(number, line) for number, line in told if line and not line.startswith("#")]
    if not told or told[0][1] != HEADER:
        raise EvidenceError(f"a list of logs begins with the line {HEADER}")
    found: list[ListedLog] = []
    fields: dict[str, str] = {}
    for number, line in [*told[1:], (len(lines), "vkey ")]:
        word, _, value = line.partition(" ")
        if word == "vkey":
            if fields:
                found.append(_listed(fields, number))
            fields = {"vkey": value}
        elif not fields or word not in _WORDS or word in fields or not value:
            raise EvidenceError(f"line {number} of the list of logs is none of: vkey, {', '.join(_WORDS)}")
        else:
            fields[word] = value
    if len({log.origin for log in found}) != len(found):
        raise EvidenceError("the list of logs names an origin twice")
    return found


def _listed(fields: dict[str, str], number: int) -> ListedLog:
    try:
        key = VerifierKey.parse(fields["vkey"])
        if key.kind != ED25519:
            raise EvidenceError("its key is not of type 0x01")
        qpd = fields.get("qpd")
        rate = None if qpd is None else parse_decimal(qpd, "qpd")
        if rate is not None and not 1 <= rate <= _MAX_QPD:
            raise EvidenceError("its qpd is out of range")
    except EvidenceError as error:
        raise EvidenceError(f"the log before line {number} of the list: {error}") from None
    origin = fields.get("origin", "none")
    return ListedLog(key, key.name if origin == "none" else origin, rate, fields.get("contact", ""))


def add_new(witness: Witness, listed: list[ListedLog]) -> tuple[list[str], list[str]]:
    """(origins added, origins left as they are because they were watched before, under whatever keys)."""
    known = set(witness.origins())
    new = [log for log in listed if log.origin not in known]
    witness.add_logs([(log.origin, [log.key]) for log in new])
    return [log.origin for log in new], [log.origin for log in listed if log.origin in known]
