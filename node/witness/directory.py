"""The folder of a witness: its settings, keys and state.

witness.toml     name, key files, guard
keys/            private keys, 0600
witness.db       what was cosigned (ledger/witness); never restored from a backup
elsewhere        the guard: a counter that notices if it was (ledger/witness/guard.py)
"""

from __future__ import annotations

from pathlib import Path

from ...ledger.keys.keyfile import read_key
from ...ledger.witness import Witness
from ...schemas.errors import SetupError, UsageError
from ..cosigner import CosignerConfig, make_keys, write_config
from ..cosigner import read_config as read_settings

CONFIG = "witness.toml"
STATE = "witness.db"


def make(
    folder: Path, name: str, *, keys: tuple[str, ...] = ("ed25519",), guard: Path | None, guarded: bool = True
) -> CosignerConfig:
    """Make a witness: fresh keys, an empty state, a guard at 0. `UsageError` if the folder holds something.

    `guard` None takes `default_guard`, unless not `guarded`: then a restored backup is noticed only by a cosignature of
    its own that comes back.
    """
    signers, config = make_keys(folder, name, "witness", keys=keys, guard=guard, guarded=guarded)
    Witness.create(name, signers, folder / STATE, guard=config.guard).close()
    write_config(folder / CONFIG, config)
    return config


def read_config(folder: Path) -> CosignerConfig:
    """Read witness.toml; `SetupError` if it is missing or says anything unknown."""
    return read_settings(folder / CONFIG, "witness")


def open_witness(folder: Path) -> Witness:
    """The witness of a folder; `SetupError` if anything of it is missing or its state was restored."""
    config = read_config(folder)
    signers = [read_key(folder / file) for file in config.keys]
    try:
        return Witness(config.name, signers, folder / STATE, guard=config.guard)
    except UsageError as error:
        raise SetupError(f"{folder / CONFIG}: {error}") from None
