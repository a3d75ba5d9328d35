"""What the folders of a witness and of a mirror have in common: cosignature keys, settings, a guard elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..ledger.keys.keyfile import write_key
from ..ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, SignerKey, check_key_name
from ..ledger.storage.disk import storage, write_file
from ..schemas.errors import EvidenceError, SetupError, UsageError
from .settings import quoted, read_table

KEY_TYPES = {"ed25519": COSIGNATURE_ED25519, "ml-dsa-44": COSIGNATURE_ML_DSA_44}


@dataclass(frozen=True, slots=True)
class CosignerConfig:
    """The settings: `keys` are files in the folder; `guard` is None where it was made without one."""

    name: str
    keys: tuple[str, ...]
    guard: Path | None
    more: tuple[tuple[str, str], ...] = ()
    """Further settings of the role, each a text."""


def default_guard(key: SignerKey, role: str) -> Path:
    """Where a guard lies if nobody says: in the user's state folder, outside what it guards."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "plausible" / f"{role}-{key.verifier.key_id.hex()}.count"


def make_keys(
    folder: Path, name: str, role: str, *, keys: Sequence[str], guard: Path | None, guarded: bool
) -> tuple[list[SignerKey], CosignerConfig]:
    """Make the folder and fresh cosignature keys of these types in it; `UsageError` if it holds something.

    `guard` None takes `default_guard`, unless not `guarded`.
    """
    try:
        check_key_name(name)
    except EvidenceError as error:
        raise UsageError(f"{name!r} is no name for a {role}: {error}") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already: choose an empty folder")
    with storage(f"making {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signers = [SignerKey.generate(name, KEY_TYPES[kind]) for kind in keys]
    files = tuple(f"keys/{role}{'' if kind == 'ed25519' else '-' + kind}.key" for kind in keys)
    for signer, file in zip(signers, files, strict=True):
        write_key(folder / file, signer)
    path = None if not guarded else (guard or default_guard(signers[0], role)).absolute()
    return signers, CosignerConfig(name, files, path)


def write_config(path: Path, config: CosignerConfig) -> None:
    """Write the settings; the last step of making a folder, which is nothing without them."""
    text = f"version = 1\nname = {quoted(config.name)}\nkeys = [{', '.join(map(quoted, config.keys))}]\n"
    text += "".join(f"{key} = {quoted(value)}\n" for key, value in config.more)
    if config.guard is not None:
        text += f"guard = {quoted(str(config.guard))}\n"
    with storage(f"writing {path}"):
        write_file(path, text.encode("utf-8"))


def read_config(path: Path, role: str, more: Sequence[str] = ()) -> CosignerConfig:
    """Read the settings; `SetupError` if they are missing, say anything unknown, or lack one of `more`."""
    missing = f"{path.parent} is no {role} (it has no {path.name}): make one with pd {role} init"
    table = read_table(path, ("name", "keys", "guard", *more), missing)
    name, keys, guard = table.get("name"), table.get("keys"), table.get("guard")
    files = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    others = [(key, value) for key in more if isinstance(value := table.get(key), str)]
    if not isinstance(name, str) or not files or files != keys or not isinstance(guard, str | None):
        raise SetupError(f"{path} needs a name, a list of key files, and a guard that is a path")
    if len(others) != len(more):
        raise SetupError(f"{path} needs {', '.join(more)}")
    return CosignerConfig(name, tuple(files), None if guard is None else Path(guard), tuple(others))
