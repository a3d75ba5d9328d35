"""The log and what surrounds it: digests, commitments, tree, tiles, notes, policy, proofs, storage, vault, recorder.

ledger.py       `Ledger`, the whole of it behind one name       view.py     its reading half
log.py          the bare log: opaque leaves, a signed head  forks.py    open ledgers at forks and at exit
config.py       `log.toml`                                  layout.py   making a ledger's folder
notes/          signed text as C2SP has it                  merkle/     the tree, its tiles, reading any log
entries/        what is logged about an image, evidence     seeds/      seeds that their author could not choose
keys/           keys of authors and logs                    vault/      the private half
storage/        what lies on the disk                       writing/    from a submission to a witnessed head
absence/        proofs that a picture is not there          recorder/   wrapping a generator
fsck/           checking all of it                          transfer/   moving a log as one file
witness/        cosigning for others' logs                  hammer/     load with a goal
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ledger import Ledger
    from .recorder.wrap import LatentInput
    from .writing.receipt import Receipt

__all__ = ["LatentInput", "Ledger", "Receipt"]


def __getattr__(name: str) -> object:
    # on use, so that reading a checkpoint does not load the databases
    if name == "Ledger":
        from .ledger import Ledger

        return Ledger
    if name == "Receipt":
        from .writing.receipt import Receipt

        return Receipt
    if name == "LatentInput":
        from .recorder.wrap import LatentInput

        return LatentInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
