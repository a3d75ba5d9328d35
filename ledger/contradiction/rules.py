"""What an entry cannot say, alone or beside another one of the same log (docs/spec/entry.md).

Leaves that are no entries break nothing: anyone may log anything. An entry by a revoked key breaks nothing either:
verifiers refuse it. Both sides are shared by the monitor, which finds, and by the verification of what it found.
"""

from __future__ import annotations

from ...schemas.errors import EvidenceError
from ...schemas.statement import SeedEpochStatement
from ..entries.entry import Entry, check_succession


def broken_alone(entry: Entry) -> str | None:
    """The rule that an entry breaks by itself, or None: its signature is not by the author in its header."""
    try:
        entry.envelope.verify(entry.author)
    except EvidenceError as error:
        return str(error)
    return None


def broken_together(first: Entry, second: Entry) -> str | None:
    """The rule that `second` breaks, given that `first` stands before it in the log; None if there is none.

    Both are well signed; what is between them is not known, so a number that is too high breaks nothing here.
    """
    before, after = first.header, second.header
    if (before.author, before.chain) != (after.author, after.chain):
        return None
    if after.seq == before.seq:
        what = "the same entry stands in the log twice" if first.leaf == second.leaf else "two entries of one place"
        return f"{what}: seq {after.seq} of one chain"
    if after.seq < before.seq:
        return f"seq {after.seq} comes after seq {before.seq} of the same chain"
    if after.seq == before.seq + 1:
        try:
            check_succession(second, first)
        except EvidenceError as error:
            return str(error)
    elif after.time < before.time:
        return f"seq {after.seq} was accepted before seq {before.seq} of the same chain"
    one, other = first.generation, second.generation
    if one is not None and other is not None and one.predicate.draw == other.predicate.draw:
        return f"draw {one.predicate.draw} of one chain was used for two pictures"
    if isinstance(first.statement, SeedEpochStatement) and isinstance(second.statement, SeedEpochStatement):
        a, b = first.statement.predicate, second.statement.predicate
        if a.first_draw < b.first_draw + b.count and b.first_draw < a.first_draw + a.count:
            return "two epochs of one chain fix seeds for the same draws"
    return None


__all__ = ["broken_alone", "broken_together"]
