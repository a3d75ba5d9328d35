"""`pd recover`: go on with a ledger that was restored from a backup."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from . import output, sources, vaultkeys
from .options import JsonOption


def recover(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The restored ledger. [PD_LEDGER]")] = None,
    copy: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR|URL", help="A mirror, a ledger, or a newer copy of public/."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd recover studio.ledger --from https://mirror.example/studio
        pd recover studio.ledger --from saved/public

    Take the entries that a ledger restored from a backup does not know from a copy of its log.

    Such a ledger signs nothing: it would fork the log. The copy must continue what the ledger signed, and every entry
    taken must lie under a head with this log's signature; else nothing is changed. Without --from the ledger's own
    public/ is the copy. What was recorded since waits in the vault and is logged at the next opening. Records that
    only the lost vault held are gone: restore a newer vault (pd vault restore), or their entries cannot be opened.

    Python: plausible.ledger.writing.recover.recover
    """
    from ..ledger.merkle.reader import DirectorySource
    from ..ledger.writing.recover import recover as run

    where = folder if folder is not None else sources.folder(None)
    key = vaultkeys.opening(where)
    with contextlib.ExitStack() as stack:
        source = None
        if copy is not None:
            place = sources.place(copy)
            if isinstance(place, str):
                from ..node.client import HttpSource

                source = stack.enter_context(HttpSource(place))
            else:
                source = DirectorySource(sources.public_folder(place))
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
