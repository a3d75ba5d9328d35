"""What an encrypted vault shows without its key: do rows, their keys and the data keys belong together?"""

from __future__ import annotations

from typing import Any

from ..storage.database import Database
from ..vault.sealing import SEALED_KEY_BYTES, SEALED_RECORD_BYTES, read_header
from ..vault.vault import VAULT_FILE
from .findings import RESTORE_VAULT, Findings

_JOIN = "FROM submission s LEFT JOIN record_key k ON k.submission = s.id WHERE "


def check_sealing(db: Database, found: Findings) -> None:
    """Tables of an encrypted vault against each other; `SetupError` if the header does not read."""
    stored: list[Any] = db.rows("SELECT header FROM vault_header")
    if len(stored) != 1:
        found.false(VAULT_FILE, "its header is gone", RESTORE_VAULT)
        return
    complete = read_header(stored[0][0], db.path).complete
    if not complete:
        found.notes.append("vault.db: an encryption was interrupted; pd vault encrypt goes on with it")
    if db.row("SELECT count(*) FROM vault_key WHERE purpose = 'records'")[0] > 1:
        found.notes.append("vault.db: a rotation of keys was interrupted; pd vault rotate --data-key goes on with it")
    questions = [
        ("its record is gone and was not erased", _JOIN + "k.submission IS NOT NULL AND s.record IS NULL "
         "AND s.kind = 'generation'"),
        ("its key has another length", f"FROM record_key k WHERE length(k.wrapped) <> {SEALED_KEY_BYTES}"),
        ("its data key is not there", "FROM record_key k WHERE k.data_key NOT IN "
         "(SELECT id FROM vault_key WHERE purpose = 'records')"),
        ("a key belongs to no row", "FROM record_key k WHERE k.submission NOT IN (SELECT id FROM submission)"),
    ]  # fmt: skip
    if complete:
        questions += [
            ("it stands in the clear, or its key is gone", _JOIN + "k.submission IS NULL AND "
             "(s.record IS NOT NULL OR s.secret IS NOT NULL OR s.kind <> 'generation')"),
            ("it has a secret in the clear", _JOIN + "s.secret IS NOT NULL"),
            ("its record is too short", _JOIN + f"length(s.record) < {SEALED_RECORD_BYTES}"),
        ]  # fmt: skip
    for what, question in questions:
        column = "s.id" if question.startswith(_JOIN) else "k.submission"
        for (number,) in db.rows(f"SELECT {column} {question} LIMIT 1000"):
            found.false(VAULT_FILE, f"submission {number}: {what}", RESTORE_VAULT)
