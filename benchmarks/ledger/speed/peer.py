"""pymerkle's SqliteTree as a bench subject, in a process and a virtual environment of its own.

pymerkle is under the GPL: it is never imported by the project or its tests and is no dependency of either. `make
bench-ledger` installs it into build/peers and runs this file there.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from benchmarks.ledger.speed.protocol import Bench, pin, serve


class Peer:
    """Append and root, as pymerkle offers them: one transaction a batch, its default journal mode."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "pymerkle.db")
        self._type: Any = importlib.import_module("pymerkle").SqliteTree
        self._tree: Any = None
        self.reopen()

    def append(self, entries: list[bytes]) -> None:
        """See `Subject`."""
        if len(entries) == 1:
            self._tree.append_entry(entries[0])
        else:
            self._tree.append_entries(entries)
        self._tree.get_root()

    def size(self) -> int:
        """See `Subject`."""
        return self._tree.get_size()

    def root(self) -> str:
        """See `Subject`."""
        return self._tree.get_root().hex()

    def shut(self) -> None:
        """See `Subject`."""
        self._tree.close()

    def reopen(self) -> None:
        """See `Subject`."""
        self._tree = self._type(self._path)
        if self._tree.get_size():
            self._tree.get_root()

    def prove(self, index: int) -> int:
        """See `Prover`."""
        return len(self._tree.prove_inclusion(index + 1).path)


def main() -> None:
    """Serve one tree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, default=700)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    serve(Bench(Peer(options.folder), options.bytes))


if __name__ == "__main__":
    main()
