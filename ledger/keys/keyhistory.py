"""What a log says about its authors' keys: who named whom as successor, and from which entry on a key counts no more.

    author-key:v1         signed by K, names S          S may start a chain of its own, and may revoke K
    author-revocation:v1  signed by K or by such an S   K's entries count no more from this entry's index on

Both are read in the order of the log, and order is all that decides: times in headers are their authors' words. An
entry signed by a key that was revoked before it names and revokes nothing, or a thief could go on after he was found
out. The first valid revocation stands; a key never comes back. What is neither signed well nor by someone who may is
kept in `ignored`, with the reason.

The caller vouches for the entries: they must be proven to lie in the tree, and all of them must be passed by, since a
revocation that was left out is not seen here. Source: docs/spec/keys-and-authors.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError
from ...schemas.statement import AUTHOR_KEY, AUTHOR_REVOCATION, AuthorKeyStatement, AuthorRevocationStatement
from ..entries.entry import Entry

KEY_KINDS = (AUTHOR_KEY, AUTHOR_REVOCATION)
"""The predicate types that say something about keys."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key entry that says nothing, and why."""

    index: int
    reason: str


@dataclass(slots=True)
class KeyHistory:
    """Filled by `pass_by`, entry after entry; keys are verifier key texts, values indexes in the log."""

    successors: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Key -> the keys it named, each with the index of the first entry that did."""
    revoked: dict[str, int] = field(default_factory=dict[str, int])
    """Key -> the first index that counts no more."""
    ignored: list[Ignored] = field(default_factory=list[Ignored])

    def pass_by(self, index: int, entry: Entry) -> None:
        """Take the entry at `index`; entries of other types are passed over. Indexes must ascend."""
        statement = entry.statement
        if not isinstance(statement, (AuthorKeyStatement, AuthorRevocationStatement)):
            return
        try:
            entry.envelope.verify(entry.author)
        except EvidenceError as error:
            self.ignored.append(Ignored(index, str(error)))
            return
        signer = entry.header.author
        if self.counts_no_more(signer, index):
            reason = f"signed by the key of {entry.author.name} that was revoked by entry {self.revoked[signer]}"
            self.ignored.append(Ignored(index, reason))
        elif isinstance(statement, AuthorKeyStatement):
            self.successors.setdefault(signer, {}).setdefault(statement.predicate.successor, index)
        else:
            self._revoke(index, signer, statement.predicate.revoked)

    def _revoke(self, index: int, signer: str, revoked: str) -> None:
        if signer != revoked and signer not in self.successors.get(revoked, {}):
            reason = "a revocation by a key that is neither the revoked one nor a successor it named before"
            self.ignored.append(Ignored(index, reason))
            return
        self.revoked.setdefault(revoked, index)

    def counts_no_more(self, vkey: str, index: int) -> bool:
        """Whether an entry by this key at this index lies at or behind the key's revocation."""
        first = self.revoked.get(vkey)
        return first is not None and index >= first

    def may_revoke(self, signer: str, vkey: str) -> bool:
        """Whether a revocation of `vkey` by `signer` would count at the end of what was passed by."""
        return signer not in self.revoked and (signer == vkey or signer in self.successors.get(vkey, {}))


__all__ = ["KEY_KINDS", "Ignored", "KeyHistory"]
