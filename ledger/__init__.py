"""The log and what surrounds it: digests, commitments, tree, tiles, notes, policy, proofs, storage, vault, recorder.

Formats    wire, tree, tiles, keytypes, note, checkpoint, cosignature, policy, proof, reader, witness, mirror_body
Entries    digests, images, dsse, authors, entry, record, seeds, epochs, evidence, statements
Storage    disk, database, lock, state, vault, public, index, config, keys, layout, registry, weights
Writing    draws, openepoch, sequencer, writer, receipt, ledger
Keys       authorkeys, keyhistory, rotation, logkeys, succession, continuing
Absence    absence/
Recording  recorder/
Checking   fsck/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ledger import Ledger
    from .receipt import Receipt
    from .recorder.wrap import LatentInput

__all__ = ["LatentInput", "Ledger", "Receipt"]


def __getattr__(name: str) -> object:
    # on use, so that reading a checkpoint does not load the databases
    if name == "Ledger":
        from .ledger import Ledger

        return Ledger
    if name == "Receipt":
        from .receipt import Receipt

        return Receipt
    if name == "LatentInput":
        from .recorder.wrap import LatentInput

        return LatentInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
