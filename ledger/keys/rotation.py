"""Following one author key by the next, and saying that a former one counts no more.

    name a successor   an author-key entry, signed by the key in use
    rotate             the same, and a new chain begins under the successor: seq 0, no predecessor, the draws not yet
                       reserved; the old key's chain stays as it is, and takes what was recorded before the rotation
    revoke             an author-revocation entry for a former key, signed by the successor it named; its private key is
                       set aside (authorkeys.py)

What must survive a kill comes first: the successor's key file and its line in authors.txt stand before the entry is
handed over, so that there is never an entry by a key that was lost, nor by one this ledger does not name itself.
Verifiers keep files of their own: what they change is printed by the commands and stands in docs/ledger.md.
Source: docs/spec/keys-and-authors.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...schemas.errors import EvidenceError, UsageError
from ..entries.authors import Authors
from ..entries.statements import AUTHOR_KEY, REVOCATION, ROTATION
from ..layout import AUTHORS_FILE, read_keys
from ..notes.note import ED25519, SignerKey, VerifierKey
from ..storage.disk import storage, write_file
from ..vault.vault import Submission
from ..writing.receipt import ACCEPTED, Receipt
from .authorkeys import AuthorKeys
from .keyfile import check_roles

if TYPE_CHECKING:
    from ..ledger import Ledger


def name_successor(ledger: Ledger, vkey: str) -> Receipt:
    """Log an author-key entry for `vkey` and go on signing with the key in use; waits for `accepted`.

    For a key that is kept elsewhere until it is needed: named while nobody doubts the old key, it can revoke it later.
    """
    _check_successor(ledger, vkey)
    return _submit(ledger, AUTHOR_KEY, vkey)


def rotate_author_key(ledger: Ledger, key: SignerKey | None = None) -> Receipt:
    """Log the successor and begin its chain; waits for `accepted`. The key is kept in keys/.

    `key`: an Ed25519 key of the author's name that was never used for anything else; None makes a fresh one. What is
    being recorded while this runs is signed by the old key or by the new one, whichever its draw was reserved for.
    """
    key = SignerKey.generate(ledger.config.author, ED25519) if key is None else key
    vkey = key.verifier.encode()
    _check_successor(ledger, vkey)
    AuthorKeys(ledger.path, ledger.config.author).add(key)
    _name_in_authors(ledger, vkey)
    return _submit(ledger, ROTATION, vkey)


def revoke_author_key(ledger: Ledger, vkey: str) -> Receipt:
    """Log that a former key of this ledger's author counts no more; waits for `accepted`.

    What was recorded under the key and not accepted yet is accepted first. `UsageError` for the key in use (rotate
    first: a log whose author revoked his only key could not go on) and for keys that never signed here.
    """
    chains = ledger.own_chains()
    if vkey not in chains[:-1]:
        former = ", ".join(chains[:-1]) or "none: rotate first"
        raise UsageError(f"{vkey} is no former key of this ledger's author (former keys: {former})")
    if vkey in ledger.key_history().revoked:
        raise UsageError(f"{vkey} is revoked already")
    ledger.flush(ACCEPTED)
    receipt = _submit(ledger, REVOCATION, vkey)
    if receipt.index is not None:
        _refuse_in_authors(ledger, vkey, receipt.index)
    return receipt


def _submit(ledger: Ledger, kind: str, vkey: str) -> Receipt:
    return ledger.submit_entry(Submission(os.urandom(16), kind, b"", vkey))


def _check_successor(ledger: Ledger, vkey: str) -> None:
    try:
        key = VerifierKey.parse(vkey)
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    if key.kind != ED25519 or key.name != ledger.config.author:
        raise UsageError(f"a successor is an Ed25519 key of the name {ledger.config.author!r}")
    if vkey in ledger.own_chains():
        raise UsageError(f"{vkey} is or was a key of this ledger's author: a successor is a new key")
    keys = read_keys(ledger.path, ledger.config)
    roles = [("author", key.public), *(("log", item.verifier.public) for item in keys.logs)]
    roles += [(f"witness {item.name}", item.verifier.public) for items in keys.witnesses for item in items]
    check_roles(roles)


def _name_in_authors(ledger: Ledger, vkey: str) -> None:
    authors = ledger.read_authors()
    if authors.find(vkey) is None:
        before = authors.source if authors.source.endswith(b"\n") or not authors.source else authors.source + b"\n"
        _write_authors(ledger, before + f"author {vkey}\n".encode())


def _refuse_in_authors(ledger: Ledger, vkey: str, index: int) -> None:
    """The key's own line gets the log's origin and the first index that counts no more."""
    lines = ledger.read_authors().source.decode("utf-8").split("\n")
    wanted = f"author {vkey} {ledger.origin} {index}"
    changed = [wanted if line.split() == ["author", vkey] else line for line in lines]
    _write_authors(ledger, "\n".join(changed).encode("utf-8"))


def _write_authors(ledger: Ledger, data: bytes) -> None:
    Authors.parse(data)
    path = ledger.path / AUTHORS_FILE
    with storage(f"writing {path}"):
        write_file(path, data)
    ledger.read_authors()


__all__ = ["name_successor", "revoke_author_key", "rotate_author_key"]
