"""The folder of a witness: its settings, keys and state.

witness.toml     name, key files, guard
keys/            private keys, 0600
witness.db       what was cosigned (ledger/witness); never restored from a backup
elsewhere        the guard: a counter that notices if it was (ledger/witness/guard.py)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ...ledger.keys.keyfile import read_key, write_key
from ...ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, SignerKey, check_key_name
from ...ledger.storage.disk import storage, write_file
from ...ledger.witness import Witness
from ...schemas import toml
from ...schemas.errors import EvidenceError, SetupError, UsageError

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


def default_guard(name: str, key: SignerKey) -> Path:
    """Where a guard lies if nobody says: in the user's state folder, outside the witness's own."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "plausible" / f"witness-{key.verifier.key_id.hex()}.count"


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
    path = None if not guarded else (guard or default_guard(name, signers[0])).absolute()
    config = WitnessConfig(name, tuple(_KEYS[kind][1] for kind in keys), path)
    for signer, file in zip(signers, config.keys, strict=True):
        write_key(folder / file, signer)
    Witness.create(name, signers, folder / STATE, guard=path).close()
    text = f"version = 1\nname = {_quote(name)}\nkeys = [{', '.join(map(_quote, config.keys))}]\n"
    if path is not None:
        text += f"guard = {_quote(str(path))}\n"
    # written last: a folder without it is not a witness
    with storage(f"writing {folder / CONFIG}"):
        write_file(folder / CONFIG, text.encode("utf-8"))
    return config


def read_config(folder: Path) -> WitnessConfig:
    """Read witness.toml; `SetupError` if it is missing or says anything unknown."""
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            table = toml.decode(file.read(toml.MAX_TOML_BYTES + 1), str(path))
    except FileNotFoundError:
        raise SetupError(f"{folder} is no witness (it has no {CONFIG}): make one with pd witness init") from None
    except EvidenceError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None
    if unknown := sorted(set(table) - {"version", "name", "keys", "guard"}):
        raise SetupError(f"{path} says something unknown: {', '.join(unknown)}")
    if table.get("version") != 1:
        raise SetupError(f"{path} has version {table.get('version')!r}; this program reads version 1")
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


def _quote(text: str) -> str:
    # JSON strings of printable text are TOML basic strings
    return json.dumps(text, ensure_ascii=False)
