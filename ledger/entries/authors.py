"""Whom a verifier believes: `authors.txt`, the verifier's own choice, beside the policy.

    # who may have made it
    author models.example/studio+8c7402d5+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
    author old.example/studio+...+... log.example 1200

The last two words follow a revocation: in the log of that origin, entries from that index on count no more. Without
them, and without the log itself (`with_history`), nothing says whether a key was revoked, and every answer says
`revocation: not checked`.
Source: docs/spec/keys-and-authors.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...schemas.errors import EvidenceError, PolicyError
from ..notes.note import ED25519, VerifierKey
from ..notes.wire import parse_decimal

if TYPE_CHECKING:
    from ..keys.keyhistory import KeyHistory

MAX_AUTHORS_BYTES = 1 << 20

NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Author:
    """One pinned author key; `refused_from` maps a log's origin to the first index that counts no more."""

    key: VerifierKey
    refused_from: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """The key's name."""
        return self.key.name


@dataclass(frozen=True, slots=True)
class Authors:
    """A parsed authors.txt; `source` keeps its bytes, whose digest a report carries."""

    authors: tuple[Author, ...]
    source: bytes = field(default=b"", repr=False, compare=False)
    searched: tuple[tuple[str, int], ...] = ()
    """Logs (origin, size) whose every entry below that size was looked at for revocations: see `with_history`."""

    @classmethod
    def parse(cls, data: bytes | str) -> Authors:
        """Read authors.txt; each mistake is an `EvidenceError` that names its line."""
        source = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        if len(source) > MAX_AUTHORS_BYTES:
            raise EvidenceError(f"authors.txt has at most {MAX_AUTHORS_BYTES} bytes")
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError:
            raise EvidenceError("authors.txt is not UTF-8") from None
        found: dict[bytes, Author] = {}
        for number, line in enumerate(text.split("\n"), 1):
            try:
                _read_line(line, found)
            except EvidenceError as error:
                raise EvidenceError(f"authors.txt line {number}: {error}") from None
        return cls(tuple(found.values()), source)

    @classmethod
    def of(cls, keys: Iterable[VerifierKey]) -> Authors:
        """Authors without any revocation, as if from a file."""
        return cls.parse("".join(f"author {key}\n" for key in keys))

    def with_history(self, origin: str, history: KeyHistory, size: int | None = None) -> Authors:
        """These authors, with what a log itself says of their keys: the earlier of two revocations counts.

        `size`: the history was read from every entry below it, so that a key it does not name was not revoked there;
        None where only some of the entries were looked at.
        """
        judged: list[Author] = []
        for author in self.authors:
            first = history.revoked.get(author.key.encode())
            if first is not None:
                known = dict(author.refused_from)
                known[origin] = min(first, known.get(origin, first))
                judged.append(replace(author, refused_from=tuple(known.items())))
            else:
                judged.append(author)
        searched = self.searched if size is None else (*self.searched, (origin, size))
        return replace(self, authors=tuple(judged), searched=searched)

    def find(self, vkey: str) -> Author | None:
        """The pinned author with exactly this verifier key."""
        return next((author for author in self.authors if author.key.encode() == vkey), None)

    def named(self, name: str) -> tuple[Author, ...]:
        """The authors whose key has this name (one name may have several keys, one after the other)."""
        return tuple(author for author in self.authors if author.name == name)

    def check(self, vkey: str, index: int | None = None, origin: str | None = None) -> Author:
        """The author with this key, not revoked at `index` of the log `origin`; `PolicyError` otherwise.

        A revocation without a place to hold it against refuses: an entry that may lie behind it does not count.
        """
        author = self.find(vkey)
        if author is None:
            raise PolicyError(f"the key {vkey[:120]} is not among the authors")
        if not author.refused_from:
            return author
        first = dict(author.refused_from).get(origin) if origin is not None else None
        if first is None or index is None:
            raise PolicyError(f"the key of {author.name} is revoked, and nothing shows that this entry came before")
        if index >= first:
            raise PolicyError(f"the key of {author.name} is revoked from index {first} of {origin} on")
        return author

    def revocation(self, vkey: str, origin: str | None = None) -> str:
        """What can be said about this key's revocation; `not checked` where authors.txt names none and no log was read.

        `origin` is the log of the entry in question.
        """
        author = self.find(vkey)
        if author is None:
            return NOT_CHECKED
        if not author.refused_from:
            size = dict(self.searched).get(origin) if origin is not None else None
            return NOT_CHECKED if size is None else f"none in the first {size} entries of {origin}"
        return "revoked: " + ", ".join(f"{origin} from index {first}" for origin, first in author.refused_from)


def _read_line(line: str, found: dict[bytes, Author]) -> None:
    if any((c < " " and c != "\t") or c == "\x7f" for c in line):
        raise EvidenceError("a control character (lines end with a newline alone)")
    words = re.split("[ \t]+", line.strip(" \t"))
    if not words[0] or words[0].startswith("#"):
        return
    if words[0] != "author" or len(words) not in (2, 4):
        raise EvidenceError("a line has the form: author VKEY [ORIGIN FIRST_REFUSED_INDEX]")
    key = VerifierKey.parse(words[1])
    if key.kind != ED25519:
        raise EvidenceError(f"the key of {key.name} is no Ed25519 signing key")
    known = found.get(key.public)
    if known is not None and known.key != key:
        raise EvidenceError(f"the public key of {key.name} stands here under another name too")
    if len(words) == 2:
        if known is not None:
            raise EvidenceError(f"the key of {key.name} is listed twice")
        found[key.public] = Author(key)
        return
    revoked = (words[2], parse_decimal(words[3], "the first refused index"))
    if known is not None and (not known.refused_from or revoked[0] in dict(known.refused_from)):
        raise EvidenceError(f"the key of {key.name} is listed twice")
    found[key.public] = Author(key, (*(known.refused_from if known else ()), revoked))
