"""The root once more, by an independent implementation: merkly, where it is installed.

merkly has no leaf and node separation of its own; with RFC 6962's prefixes in its hash function its roots are RFC
6962's. It keeps whole trees in memory, so it is given groups of 256 entries, and then the roots of the groups: an
RFC 6962 tree is the tree over its aligned groups.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from ..merkle.tree import EMPTY_ROOT, hash_leaf, hash_node


def load() -> Callable[..., Any] | None:
    """merkly's tree, or None where it is not installed."""
    try:
        return importlib.import_module("merkly.mtree").MerkleTree
    except ImportError:
        return None


class CrossCheck:
    """Collects entries in order; `root` is what merkly makes of them."""

    def __init__(self, tree: Callable[..., Any]) -> None:
        self._tree = tree
        self._roots: list[str] = []

    def pass_by(self, entries: Sequence[bytes]) -> None:
        """The next 256 entries (fewer at the end)."""
        self._roots.append(self._root([entry.hex() for entry in entries], _of_entries).hex())

    def root(self) -> bytes:
        """The root over all entries so far, 32 bytes."""
        return self._root(self._roots, _of_roots) if self._roots else EMPTY_ROOT

    def _root(self, leaves: list[str], function: Callable[[bytes, bytes], bytes]) -> bytes:
        # merkly's leaves are text, and it makes no tree of one
        return self._tree(leaves, function).root if len(leaves) > 1 else function(leaves[0].encode(), b"")


def _of_entries(left: bytes, right: bytes) -> bytes:
    """merkly hashes a leaf as (leaf, nothing)."""
    return hash_node(left, right) if right else hash_leaf(bytes.fromhex(left.decode()))


def _of_roots(left: bytes, right: bytes) -> bytes:
    return hash_node(left, right) if right else bytes.fromhex(left.decode())
