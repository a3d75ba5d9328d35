"""`pd vault encrypt|rotate|status|backup|restore`: how the private records are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output, sources, vaultkeys
from .options import ForceOption, JsonOption, LedgerFolder

_NEW_VARIABLE = "PD_VAULT_NEW_PASSPHRASE"


def encrypt(
    ledger: LedgerFolder = None,
    vault_key: Annotated[
        Path | None, typer.Option("--vault-key", metavar="FILE", help="The key file, made if absent.")
    ] = None,
    vault_passphrase: Annotated[
        bool, typer.Option("--vault-passphrase", help="A passphrase instead. [asks, or PD_VAULT_PASSPHRASE]")
    ] = False,
) -> None:
    """\b
        pd vault encrypt --ledger studio.ledger --vault-key ~/keys/studio.vault

    Encrypt a vault that is in the clear: AES-256-GCM, a key of its own for every record.

    Interrupted, the same command goes on. The file is rewritten, so that no free page keeps a record; older copies of
    it (backups, snapshots) stay as they are. The key file belongs elsewhere than the ledger.

    Python: plausible.ledger.vault.rekey.encrypt_vault
    """
    from ..ledger.vault.rekey import encrypt_vault
    from ..ledger.vault.vaultkey import PASSPHRASE_VARIABLE
    from ..schemas.errors import UsageError

    folder = sources.folder(ledger)
    if vault_key is None and not vault_passphrase:
        raise UsageError("say with what: --vault-key FILE or --vault-passphrase")
    key = vaultkeys.new(vault_key, vault_passphrase, PASSPHRASE_VARIABLE, folder)
    if key is not None:
        found = encrypt_vault(folder, key)
        output.note(f"{found.records} records are encrypted")


def rotate(
    ledger: LedgerFolder = None,
    new_vault_key: Annotated[
        Path | None, typer.Option("--new-vault-key", metavar="FILE", help="Opens it from now on; made if absent.")
    ] = None,
    new_vault_passphrase: Annotated[
        bool,
        typer.Option("--new-vault-passphrase", help="A passphrase instead. [asks, or PD_VAULT_NEW_PASSPHRASE]"),
    ] = False,
    data_key: Annotated[
        bool, typer.Option("--data-key", help="Also replace the key inside, which wraps every record's key.")
    ] = False,
) -> None:
    """\b
        pd vault rotate --ledger studio.ledger --new-vault-key ~/keys/studio-2.vault --data-key

    Give an encrypted vault another key, another data key inside, or both.

    If a key may be known to somebody, rotate both: the data key is what he had. Interrupted, nothing is lost, and the
    same command goes on. Running recorders go on after a new key alone.

    Python: plausible.ledger.vault.rekey.rotate_vault
    """
    from ..ledger.vault.rekey import rotate_vault, vault_status
    from ..ledger.vault.vaultkey import wanted
    from ..schemas.errors import SetupError, UsageError

    folder = sources.folder(ledger)
    key = vaultkeys.opening(folder)
    if key is None:
        found = vault_status(folder)
        if found.kdf is None:
            raise UsageError("this vault is not encrypted: pd vault encrypt makes it so")
        raise SetupError(wanted(folder / "vault.db", found.kdf))
    new = vaultkeys.new(new_vault_key, new_vault_passphrase, _NEW_VARIABLE, folder)
    rotate_vault(folder, key, new_key=new, data_key=data_key)
    what = [text for text, done in (("the key that opens the vault", new), ("the data key", data_key)) if done]
    output.note(f"replaced {' and '.join(what)}")


def status(ledger: LedgerFolder = None, as_json: JsonOption = False) -> None:
    """\b
        pd vault status --ledger studio.ledger

    Say whether the vault is encrypted, with what it opens, and how many records it holds. Needs no key.

    Python: plausible.ledger.vault.rekey.vault_status
    """
    from ..ledger.vault.rekey import vault_status

    found = vault_status(sources.folder(ledger))
    opens = {None: "no key", "file": "a key file", "scrypt": "a passphrase"}[found.kdf.name if found.kdf else None]
    body = {
        "encrypted": found.encrypted,
        "complete": found.complete,
        "kdf": None if found.kdf is None else found.kdf.to_json(),
        "records": found.records,
        "erased": found.erased,
        "data_keys": found.data_keys,
        "left": found.left,
    }
    if as_json:
        output.document("plausible.vault-status/1", body)
        return
    output.result(f"encrypted {'yes' if found.encrypted else 'no: pd vault encrypt'}")
    output.result(f"opens by  {opens}")
    output.result(f"records   {found.records}, and {found.erased} erased")
    if not found.complete:
        output.result("unfinished: an encryption was interrupted; pd vault encrypt goes on with it")
    elif found.data_keys > 1:
        output.result(f"unfinished: a rotation was interrupted, {found.left} records left; pd vault rotate --data-key")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup to write.")],
    ledger: LedgerFolder = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd vault backup studio.vault-backup --ledger studio.ledger

    Copy the vault into one file, consistent also while generations are recorded. Needs no key.

    An encrypted vault stays encrypted in it; a plain one is in it in the clear. What is erased later is still in it:
    destroy old backups, or the key they open with.

    Python: plausible.ledger.vault.backup.write_backup
    """
    from ..ledger.vault.backup import write_backup

    manifest = write_backup(sources.folder(ledger), file, force=force)
    if as_json:
        output.document("plausible.vault-backup-manifest/1", {"manifest": manifest.to_json()})
        return
    locked = "encrypted" if manifest.vault is not None else "in the clear"
    output.note(f"{manifest.records} records, {locked}, up to size {manifest.size} of {manifest.origin}, in {file}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup of this ledger's vault.")],
    ledger: LedgerFolder = None,
    backup_key: Annotated[
        Path | None, typer.Option("--backup-key", metavar="FILE", help="Key file of the backup, if it is another.")
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although records newer than the backup are gone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd vault restore studio.vault-backup --ledger studio.ledger

    Put back records that are missing here, each held against its commitment and the log.

    Nothing that is here is replaced, and what was erased here stays erased; only if vault.db is gone altogether the
    backup takes its place. A backup of another ledger is refused.

    Python: plausible.ledger.vault.backup.restore_backup
    """
    from ..ledger.vault.backup import read_manifest, restore_backup
    from ..ledger.vault.vaultkey import VaultKey

    folder = sources.folder(ledger)
    other = None if backup_key is None else VaultKey.from_file(backup_key)
    done = restore_backup(
        folder, file, key=vaultkeys.opening(folder), backup_key=other or vaultkeys.given(), accept_loss=accept_loss
    )
    if as_json:
        body = {"added": done.added, "kept": done.kept, "lost": done.lost, "placed": done.placed}
        body["unlogged"] = done.unlogged
        output.document("plausible.vault-restore/1", body)
        return
    output.note(f"{done.added} rows put back, {done.kept} were here" + (f", {done.lost} are lost" if done.lost else ""))
    if done.unlogged:
        output.note(
            f"{done.unlogged} rows that were never logged stay out: a backup in the clear does not vouch for them"
        )
    if done.placed:
        time = read_manifest(file).time
        output.note(
            f"vault.db is the backup's: records erased since {time} are there again, erase them again; "
            "if it was encrypted, it opens with the key it had then"
        )
    output.note(f"go on with: pd fsck {folder}")
