"""What one row of `vault.db` is: a submission, from which an entry is made."""

from __future__ import annotations

from dataclasses import dataclass

GENERATION = "generation"
MODEL = "model"
SEED_EPOCH = "seed-epoch"
"""`draw` is its first one, `model` its root, `name` its count in decimal, `record` its seeds (epochs.py)."""

VAULT_DDL = """
CREATE TABLE submission (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,           -- 16 random bytes: a journal flushed twice adds nothing
    kind TEXT NOT NULL,                 -- generation, model, seed-epoch, or about a key
    model BLOB NOT NULL,                -- model digest
    name TEXT NOT NULL,                 -- the model's name in this ledger
    draw INTEGER,
    pixels BLOB,
    file BLOB,
    commitment BLOB UNIQUE,
    secret BLOB,                        -- record secret; NULL once erased, and where the vault is encrypted
    record BLOB                         -- plausible.record/1 as JCS, or secret and record sealed; NULL once erased
) STRICT;
CREATE INDEX submission_pixels ON submission (pixels)
"""


@dataclass(frozen=True, slots=True)
class Submission:
    """One row: what an entry is made of, and for a generation the record and secret behind its commitment."""

    key: bytes
    kind: str
    model: bytes
    name: str
    draw: int | None = None
    pixels: bytes | None = None
    file: bytes | None = None
    commitment: bytes | None = None
    secret: bytes | None = None
    record: bytes | None = None
    id: int = 0
    fault: str | None = None
    """Why this row must not be logged: it is not what was sealed."""
