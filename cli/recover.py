"""`pd recover`: go on with a ledger that was restored from a backup."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings, sources, vaultkeys
from .options import JsonOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.merkle.reader import Source


def recover(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The restored ledger. [PD_LEDGER]")] = None,
    copy: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR|URL", help="A mirror, a ledger, or a newer copy of public/."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FOLDER", help="Make the ledger anew: where its author*.key and log*.key are."),
    ] = None,
    policy: PolicyOption = None,
    backup: Annotated[
        Path | None, typer.Option("--backup", metavar="FILE", help="With --keys: a backup of the vault.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd recover studio.ledger --from https://mirror.example/studio
        pd recover studio.ledger --from saved/public
        pd recover studio.ledger --from https://mirror.example/HASH --keys safe/ --policy policy.txt --backup vault.pdb

    Take the entries that a ledger restored from a backup does not know from a copy of its log.

    Such a ledger signs nothing: it would fork the log. The copy must continue what the ledger signed, and every entry
    taken must lie under a head with this log's signature; else nothing is changed. Without --from the ledger's own
    public/ is the copy. What was recorded since waits in the vault and is logged at the next opening. Records that
    only the lost vault held are gone: restore a newer vault (pd vault restore), or their entries cannot be opened.

    With --keys the whole ledger is made again from the copy, where its disk is gone: DIR is absent or empty, --policy
    is its policy.txt, --backup what `pd vault backup` wrote (without it the records are lost). The log goes on in a new
    chain, and signs nothing before a quorum of its witnesses has shown that it knows of nothing newer; with `quorum
    none`, before you remove DIR/restored. Put models back with `pd models add`.

    In Python plausible.ledger.transfer.rebuild.rebuild makes it again; otherwise:

    Python: plausible.ledger.writing.recover.recover
    """
    from ..ledger.writing.recover import recover as run
    from ..schemas.errors import UsageError

    where = folder if folder is not None else sources.folder(None)
    if keys is not None:
        _rebuild(where, copy, keys, policy, backup, as_json)
        return
    if backup is not None:
        raise UsageError("--backup goes with --keys; a vault that is still here takes it by pd vault restore")
    key = vaultkeys.opening(where)
    with contextlib.ExitStack() as stack:
        source = None if copy is None else stack.enter_context(_copy(copy))
        tell = stack.enter_context(output.stages())
        done = run(where, source, vault_key=key, progress=lambda read, total: tell("entries", read, total))
    if as_json:
        body = {
            "old_size": done.old_size,
            "size": done.size,
            "without_record": done.without_record,
            "waiting": done.waiting,
            "renumbered": done.renumbered,
        }
        output.document("plausible.recover/1", body)
        return
    output.result(f"size {done.old_size} to {done.size}: {done.size - done.old_size} entries taken from the copy")
    if done.without_record:
        output.note(f"{done.without_record} of them have no record in this vault: see pd vault restore")
    if done.renumbered:
        output.note(f"{done.renumbered} entries that no head had signed get another index than their receipts say")
    output.note(f"{done.waiting} submissions wait in the vault: they are logged when the ledger is opened next")


def _rebuild(
    folder: Path, copy: str | None, keys: Path, policy: Path | None, backup: Path | None, as_json: bool
) -> None:
    """`pd recover --keys`: everything anew from a copy."""
    from ..ledger.transfer.rebuild import rebuild
    from ..schemas.errors import UsageError

    path = settings.get("policy", policy)
    if copy is None or path is None:
        raise UsageError("--keys makes the ledger anew: give --from, a copy of its log, and --policy, its policy.txt")
    data = sources.read_bytes(path, "the policy")
    with _copy(copy) as source, output.stages() as tell:
        done = rebuild(
            folder,
            source,
            keys=keys,
            policy=data,
            backup=backup,
            vault_key=vaultkeys.given(),
            progress=lambda at, size: tell("entries", at, size),
        )
    if as_json:
        body = {"folder": str(folder), "generations": done.generations, "origin": done.origin, "own": done.own,
                "reachable": done.reachable, "records": done.records, "size": done.size}  # fmt: skip
        output.document("plausible.rebuilt/1", body)
        return
    output.result(f"{done.origin}, {done.size} entries, {done.own} of this author: {folder}")
    output.note(f"{done.records} rows of the vault came back; {done.generations} pictures are in the log")
    if not done.reachable:
        output.note("the policy's quorum needs witnesses without an address: those of the lost ledger are gone with it")
    output.note(
        "it signs nothing before its witnesses were asked; with quorum none, before its file `restored` is gone"
    )


@contextlib.contextmanager
def _copy(flag: str) -> Generator[Source]:
    """A copy of a log, near or far."""
    from ..ledger.merkle.reader import DirectorySource

    place = sources.place(flag)
    if isinstance(place, str):
        from ..node.client import HttpSource

        with HttpSource(place) as source:
            yield source
    else:
        yield DirectorySource(sources.public_folder(place))
