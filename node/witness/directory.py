"""The folder of a witness: its settings, keys and state.

witness.toml     name, key files, guard
keys/            private keys, 0600
witness.db       what was cosigned (ledger/witness); never restored from a backup
elsewhere        the guard: a counter that notices if it was (ledger/witness/guard.py)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...ledger.keys.keyfile import read_key, write_key
from ...ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, SignerKey, check_key_name
from ...ledger.storage.disk import storage, write_file
from ...ledger.witness import Witness
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..settings import quoted, read_table

CONFIG = "witness.toml"
STATE = "witness.db"
_KEYS = {
    "ed25519": (COSIGNATURE_ED25519, "keys/witness.key"),
    "ml-dsa-44": (COSIGNATURE_ML_DSA_44, "keys/witness-ml-dsa-44.key"),
}
KEY_TYPES = tuple(_KEYS)


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """witness.toml. `guard` is None if the witness was made without one."""

    name: str
    keys: tuple[str, ...]
    guard: Path | None


def default_guard(key: SignerKey, role: str) -> Path:
    """Where the guard of a witness or mirror lies if nobody says: in the user's state folder, outside its own."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "plausible" / f"{role}-{key.verifier.key_id.hex()}.count"


def make(
    folder: Path, name: str, *, keys: tuple[str, ...] = ("ed25519",), guard: Path | None, guarded: bool = True
) -> WitnessConfig:
    """Make a witness: fresh keys, an empty state, a guard at 0. `UsageError` if the folder holds something.

    `guard` None takes `default_guard`, unless not `guarded`: then a restored backup is noticed only by a cosignature of
    its own that comes back.
    """
    try:
        check_key_name(name)
    except EvidenceError as error:
        raise UsageError(f"{name!r} is no name for a witness: {error}") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already: choose an empty folder")
    with storage(f"making {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signers = [SignerKey.generate(name, _KEYS[kind][0]) for kind in keys]
    path = None if not guarded else (guard or default_guard(signers[0], "witness")).absolute()
    config = WitnessConfig(name, tuple(_KEYS[kind][1] for kind in keys), path)
    for signer, file in zip(signers, config.keys, strict=True):
        write_key(folder / file, signer)
    Witness.create(name, signers, folder / STATE, guard=path).close()
    text = f"version = 1\nname = {quoted(name)}\nkeys = [{', '.join(map(quoted, config.keys))}]\n"
    if path is not None:
        text += f"guard = {quoted(str(path))}\n"
    # written last: a folder without it is not a witness
    with storage(f"writing {folder / CONFIG}"):
        write_file(folder / CONFIG, text.encode("utf-8"))
    return config


def read_config(folder: Path) -> WitnessConfig:
    """Read witness.toml; `SetupError` if it is missing or says anything unknown."""
    path = folder / CONFIG
    missing = f"{folder} is no witness (it has no {CONFIG}): make one with pd witness init"
    table = read_table(path, ("name", "keys", "guard"), missing)
    name, keys, guard = table.get("name"), table.get("keys"), table.get("guard")
    files = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if not isinstance(name, str) or not files or files != keys or not isinstance(guard, str | None):
        raise SetupError(f"{path} needs a name, a list of key files, and a guard that is a path")
    return WitnessConfig(name, tuple(files), None if guard is None else Path(guard))


def open_witness(folder: Path) -> Witness:
    """The witness of a folder; `SetupError` if anything of it is missing or its state was restored."""
    config = read_config(folder)
    signers = [read_key(folder / file) for file in config.keys]
    try:
        return Witness(config.name, signers, folder / STATE, guard=config.guard)
    except UsageError as error:
        raise SetupError(f"{folder / CONFIG}: {error}") from None
