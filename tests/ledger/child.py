"""A writer in a process of its own, for tests that kill it: `python child.py LEDGER COMMAND ...`.

kill POINT     appends, prints "INDEX LEAF" for each accepted entry, then dies by SIGKILL in the next append
loop           appends and prints until it is killed
append COUNT   appends COUNT entries as whatever writer it can be, prints "STATE INDEX" for each, closes
rekey WHAT N   encrypts (or rotates the data key of) the vault file LEDGER, prints and dies at durable step N
hold           opens the ledger, prints "open", and holds the lock until its standard input ends
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from plausible.ledger import Ledger
from plausible.ledger.merkle.public import PublicFolder
from plausible.ledger.storage.state import State
from plausible.ledger.vault.rekey import encrypt, rotate_data, rotate_wrapping
from plausible.ledger.vault.vault import Vault
from plausible.ledger.vault.vaultkey import VaultKey
from plausible.ledger.witness import Witness
from plausible.ledger.writing.sequencer import Sequencer

from tests.ledger.studio import picture

# where an append can be cut: (class, method, how many calls pass before the one that dies, before or after it ran)
POINTS: dict[str, tuple[type, str, int, str]] = {
    "before the vault": (Vault, "add", 0, "before"),
    "after the vault": (Vault, "add", 0, "after"),
    "inside acceptance": (State, "accepting", 0, "inside"),
    "after acceptance": (Sequencer, "accept", 0, "after"),
    "before the tiles": (PublicFolder, "write_tiles", 0, "before"),
    "after the tiles": (PublicFolder, "write_tiles", 0, "after"),
    "after the head": (State, "sign_head", 0, "after"),
    "after pending": (PublicFolder, "write_pending", 0, "after"),
    "between witnesses": (Witness, "add_checkpoint", 1, "after"),
    "before the checkpoint": (State, "set_cosigned", 0, "after"),
    "after the checkpoint": (PublicFolder, "write_checkpoint", 0, "after"),
    "before syncing": (PublicFolder, "sync", 0, "before"),
    "after syncing": (PublicFolder, "sync", 0, "after"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Make the process die at a step of the next append."""
    owner, name, passing, when = POINTS[point]
    original: Any = getattr(owner, name)
    calls = [passing]

    def step(*args: Any, **kwargs: Any) -> Any:
        if calls[0]:
            calls[0] -= 1
            return original(*args, **kwargs)
        if when == "before":
            die()
        result = original(*args, **kwargs)
        if name == "accept" and not result:
            return result  # nothing was waiting yet: the thread only looked
        if when == "after":
            die()
        # inside: the transaction is open and has written, but has not committed
        result.__enter__().add_model("phantom", bytes(32), 0)
        die()
        return result

    setattr(owner, name, step)


def rekey(path: Path, what: str, number: int) -> None:
    """Die by SIGKILL at a step of an encryption or rotation."""
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            print(f"dying at {name}", flush=True)
            die()

    key = VaultKey(bytes(range(32)), passphrase=False)
    if number == 0:
        print("starting", flush=True)
    (encrypt if what == "encrypt" else rotate_data)(path, key, step=step)
    if what == "both":
        rotate_wrapping(path, key, VaultKey(bytes(32), passphrase=False))
    print("survived", flush=True)


def main() -> None:
    path, command, *rest = sys.argv[1:]
    if command == "rekey":
        rekey(Path(path), rest[0], int(rest[1]))
        return
    ledger = Ledger.open(path)
    if command == "kill":
        for number in range(3):
            receipt = ledger.append(image=picture(number), model="m").wait("accepted", 30)
            assert receipt.leaf is not None
            print(receipt.index, receipt.leaf.hex(), flush=True)
        ledger.flush()
        if not rest[0].endswith("syncing"):
            arm(rest[0])
        ledger.append(image=picture(3), model="m")
        ledger.flush()
        arm(rest[0])
        ledger.close()
        print("survived", flush=True)
    elif command == "loop":
        number = 0
        while True:
            receipt = ledger.append(image=picture(number), model="m").wait(("accepted", "witnessed")[number % 2], 30)
            assert receipt.leaf is not None
            print(receipt.index, receipt.leaf.hex(), flush=True)
            number += 1
    elif command == "append":
        receipts = [ledger.append(image=picture(1000 + number), model="m") for number in range(int(rest[0]))]
        for receipt in receipts:
            receipt.wait("witnessed", 30)
            print(receipt.state, receipt.index, flush=True)
        ledger.close()
    elif command == "hold":
        print("open", flush=True)
        sys.stdin.read()
        ledger.close()


if __name__ == "__main__":
    main()
