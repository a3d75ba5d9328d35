"""From a submission and its place in the chain to the statement that gets signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ...schemas.errors import SetupError
from ...schemas.statement import (
    AuthorKeyStatement,
    AuthorRevocationStatement,
    GenerationStatement,
    Header,
    ModelStatement,
    SeedEpochStatement,
    Statement,
)
from ...schemas.text import digest_text, format_time
from ..storage.state import ChainHead
from ..vault.vault import GENERATION, MODEL, SEED_EPOCH, Submission

AUTHOR_KEY = "author-key"
"""Kind of a submission that names a successor of the author's key; its `name` is the key's text."""
ROTATION = "author-rotation"
"""The same, and the successor's own chain begins with it."""
REVOCATION = "author-revocation"
"""Kind of a submission that revokes a key of the author; its `name` is the key's text."""
KEY_SUBMISSIONS = (AUTHOR_KEY, ROTATION, REVOCATION)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_header(head: ChainHead) -> Header:
    """The header of the next entry of a chain."""
    return Header(
        author=head.author,
        chain=head.chain.hex(),
        prev=digest_text(head.prev),
        seq=head.seq,
        time=format_time(EPOCH + timedelta(microseconds=head.time)),
    )


def build_statement(head: ChainHead, submission: Submission) -> Statement:
    """The statement a submission becomes at this place of its chain; `SetupError` if the vault's row is not whole."""
    header = build_header(head)
    if submission.kind == MODEL:
        return ModelStatement.make(header, manifest=submission.model)
    if submission.kind in (AUTHOR_KEY, ROTATION):
        return AuthorKeyStatement.make(header, successor=submission.name)
    if submission.kind == SEED_EPOCH and submission.draw is not None and submission.name.isdecimal():
        return SeedEpochStatement.make(
            header, first_draw=submission.draw, count=int(submission.name), root=submission.model
        )
    if submission.kind == REVOCATION:
        return AuthorRevocationStatement.make(header, revoked=submission.name)
    if (
        submission.kind != GENERATION
        or submission.draw is None
        or submission.pixels is None
        or submission.commitment is None
    ):
        raise SetupError(f"submission {submission.id} of vault.db is damaged")
    return GenerationStatement.make(
        header,
        commitment=submission.commitment,
        draw=submission.draw,
        model=submission.model,
        pixels=submission.pixels,
        file=submission.file,
    )


def says(statement: Statement, submission: Submission) -> bool:
    """Whether a statement is what a submission about a key or an epoch became."""
    if isinstance(statement, AuthorKeyStatement):
        return submission.kind in (AUTHOR_KEY, ROTATION) and statement.predicate.successor == submission.name
    if isinstance(statement, AuthorRevocationStatement):
        return submission.kind == REVOCATION and statement.predicate.revoked == submission.name
    if isinstance(statement, SeedEpochStatement):
        return submission.kind == SEED_EPOCH and statement.subject[0].digest.sha256 == submission.model.hex()
    return False
