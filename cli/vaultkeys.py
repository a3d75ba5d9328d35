"""Which key opens a vault: the setting `vault_key`, PD_VAULT_PASSPHRASE, or a question on the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import settings

if TYPE_CHECKING:
    from ..ledger.vault.vaultkey import VaultKey


def opening(folder: Path, *, append: bool = False) -> VaultKey | None:
    """The key for a ledger's vault; None if it is plain, or nothing says the key (opening it then says so).

    To `append` a key that is named counts for a plain vault too, and is refused there: it was meant to be encrypted.
    """
    from ..ledger.vault.rekey import vault_status
    from ..ledger.vault.vault import VAULT_FILE
    from ..ledger.vault.vaultkey import VaultKey

    if not (folder / VAULT_FILE).is_file():
        return given()
    status = vault_status(folder)
    if not status.encrypted or status.kdf is None:
        return given() if append else None
    found = given()
    if found is None and status.kdf.name == "scrypt" and sys.stdin.isatty():
        return VaultKey.from_passphrase(ask("passphrase of the vault"))
    return found


def to_check(folder: Path) -> VaultKey | None:
    """The key for a vault that may be damaged or no vault at all: what is wrong with it is found by the check."""
    from ..schemas.errors import SetupError

    try:
        return opening(folder) if (folder / "log.toml").is_file() else None
    except SetupError:
        return given()


def given() -> VaultKey | None:
    """What the settings and the environment name."""
    from ..ledger.vault.vaultkey import PASSPHRASE_VARIABLE, VaultKey

    path = settings.get("vault_key")
    if path is not None:
        return VaultKey.from_file(path)
    text = os.environ.get(PASSPHRASE_VARIABLE)
    return VaultKey.from_passphrase(text) if text else None


def new(file: Path | None, passphrase: bool, variable: str, ledger: Path | None = None) -> VaultKey | None:
    """The key for a vault that is to be locked: a file (made if it is not there) or a passphrase; None if neither.

    The passphrase is read from `variable` or asked for twice. A key file inside the ledger's folder would be stolen
    with it (`UsageError`).
    """
    from ..ledger.vault.vaultkey import VaultKey
    from ..schemas.errors import UsageError
    from . import output

    if file is not None and passphrase:
        raise UsageError("a vault opens with a key file or with a passphrase, not with both")
    if file is not None:
        if ledger is not None and file.resolve().is_relative_to(ledger.resolve()):
            raise UsageError(f"{file} lies in the ledger's own folder: keep the key somewhere else")
        if file.exists():
            return VaultKey.from_file(file)
        key = VaultKey.make_file(file)
        output.note(f"made the key file {file}: keep a copy apart from the ledger, without it no record opens again")
        return key
    if not passphrase:
        return None
    text = os.environ.get(variable)
    if not text:
        if not sys.stdin.isatty():
            raise UsageError(f"no terminal to ask on: set {variable}")
        text = ask("new passphrase of the vault")
        if ask("once more") != text:
            raise UsageError("the two passphrases differ")
    key = VaultKey.from_passphrase(text)
    key.new_kdf()  # a passphrase that is too short is refused before anything is made
    return key


def ask(prompt: str) -> str:
    """A passphrase from the terminal, not shown; `UsageError` where it would be shown, or nothing comes."""
    import warnings
    from getpass import GetPassWarning, getpass

    from ..schemas.errors import UsageError

    try:
        with warnings.catch_warnings():
            # getpass would go on and show what is typed
            warnings.simplefilter("error", GetPassWarning)
            return getpass(f"{prompt}: ", stream=sys.stderr)
    except GetPassWarning:
        raise UsageError("this terminal shows what is typed: no passphrase is asked for on it") from None
    except EOFError:
        raise UsageError("no passphrase was typed") from None
