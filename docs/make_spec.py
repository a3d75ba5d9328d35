"""Fill the examples of docs/spec/*.md from fixed test keys: `python docs/make_spec.py` (`--check` only compares).

A page holds `<!-- example: NAME -->` ... `<!-- end -->`; what lies between is written by the function NAME below, so an
example is always what the code of today produces. Every key here is published: never use one.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from plausible.ledger.checkpoint import Checkpoint
from plausible.ledger.note import COSIGNATURE_ED25519, ED25519, Note, SignerKey
from plausible.ledger.tree import MemoryTree, hash_leaf

SPEC = Path(__file__).resolve().parent / "spec"
_PLACE = re.compile(r"<!-- example: ([a-z_]+) -->\n.*?<!-- end -->\n", re.DOTALL)

ORIGIN = "models.example/studio/log"
TIME = 1_780_000_000


def _seed(word: str) -> bytes:
    return hashlib.sha256(b"plausible test key: " + word.encode()).digest()


LOG = SignerKey(ORIGIN, ED25519, _seed("log"))
WITNESSES = tuple(
    SignerKey(f"witness-{letter}.example", COSIGNATURE_ED25519, _seed(f"witness {letter}")) for letter in "abc"
)
ENTRIES = tuple(f"entry {i}".encode() for i in range(5))


def _block(text: str) -> str:
    return "```\n" + text.rstrip("\n") + "\n```"


def tree() -> str:
    """A tree of five one-line entries: leaf hashes, roots, one path of each kind."""
    made = MemoryTree(hash_leaf(entry) for entry in ENTRIES)
    lines = [f"leaf {i}   {hash_leaf(entry).hex()}   {entry.decode()!r}" for i, entry in enumerate(ENTRIES)]
    lines += [f"root {size}   {made.root(size).hex()}" for size in range(len(ENTRIES) + 1)]
    lines += ["inclusion of leaf 2 in size 5:"] + [f"         {h.hex()}" for h in made.inclusion(2, 5)]
    lines += ["consistency of size 3 with size 5:"] + [f"         {h.hex()}" for h in made.consistency(3, 5)]
    return _block("\n".join(lines))


def note() -> str:
    """A signed note, and the verifier key that accepts it."""
    signed = Note("Anything may stand here.\n\nEmpty lines too.\n").sign(LOG)
    return _block(signed.encode().decode()) + "\n\nVerifier key:\n\n" + _block(LOG.verifier.encode())


def _checkpoint() -> Note:
    root = MemoryTree(hash_leaf(entry) for entry in ENTRIES).root()
    return Checkpoint(ORIGIN, len(ENTRIES), root).sign(LOG)


def checkpoint() -> str:
    """A checkpoint of the tree of tree.md."""
    return _block(_checkpoint().encode().decode())


EXAMPLES: dict[str, Callable[[], str]] = {"tree": tree, "note": note, "checkpoint": checkpoint}


def fill(text: str) -> str:
    """The page's text with every example made anew."""

    def one(found: re.Match[str]) -> str:
        return f"<!-- example: {found[1]} -->\n{EXAMPLES[found[1]]()}\n<!-- end -->\n"

    return _PLACE.sub(one, text)


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name those that differ and return 1."""
    stale = 0
    for page in sorted(SPEC.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if before != after:
            stale += 1
            print(f"{page.name}: {'differs' if '--check' in arguments else 'written'}")
            if "--check" not in arguments:
                page.write_text(after, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
