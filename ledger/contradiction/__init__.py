"""Contradictions: what somebody signed and cannot be true, in a file that anyone verifies offline.

rules    what one entry, or two of them, cannot say
verify   a file, from its bytes to a sentence; believes its signatures and hashes, nothing else
make     files from what was seen; each is verified before it is handed out

The document is `schemas.contradiction`; the format is docs/spec/contradiction.md. Who was caught is named by a key:
that the key is the log's is the verifier's policy's word, never the file's.
"""

from .make import (
    chain_gap,
    entry_pair,
    false_entry,
    inconsistent_heads,
    index_root,
    index_tree,
    two_heads,
)
from .rules import broken_alone, broken_together
from .verify import Proven, verify_contradiction

__all__ = [
    "Proven",
    "broken_alone",
    "broken_together",
    "chain_gap",
    "entry_pair",
    "false_entry",
    "inconsistent_heads",
    "index_root",
    "index_tree",
    "two_heads",
    "verify_contradiction",
]
