"""`pd gc`: delete partial tiles that full ones made needless."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import JsonOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.storage.archive import Thinned


def gc(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A ledger, or a copy of its public/ folder. [PD_LEDGER]")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete; without it nothing is changed.")] = False,
    thin: Annotated[
        int | None,
        typer.Option(min=1, metavar="SECONDS", help="Also keep only the last checkpoint of each window so long."),
    ] = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd gc studio.ledger
        pd gc studio.ledger --remove

    Say which partial tiles are needless, and with --remove delete them.

    A partial tile or bundle is needless once the full one lies under the published checkpoint: readers at an older
    checkpoint take its first items. Those at the tree's edge stay. Stopping at any moment is safe, and the ledger may
    be in use. A partial file that is not how its full one begins is kept and named (exit code 1): run `pd fsck`.

    --thin keeps fewer checkpoints of the archive. Entries may then be dated up to so many seconds later, for good.

    Python: plausible.ledger.storage.gc.collect
    """
    from ..ledger.storage.gc import collect

    where = folder if folder is not None else sources.folder(None)
    public = sources.public_folder(where)
    with output.stages() as tell:
        found = collect(public, remove=remove, progress=lambda done, total: tell("tiles", done, total))
        thinned = _thin(where, public, policy, thin, remove) if thin is not None else None
    if as_json:
        body: dict[str, Any] = {
            "removed": found.removed,
            "size": found.size,
            "files": found.files,
            "bytes": found.bytes,
            "edge_files": found.edge,
            "differing": list(found.differing),
            "differing_files": found.damaged,
            "checkpoints_dropped": None if thinned is None else list(thinned.dropped),
            "checkpoints_kept": None if thinned is None else len(thinned.kept),
        }
        output.document("plausible.gc/1", body)
    else:
        done = "removed" if remove else "needless, stay without --remove"
        output.result(f"{found.files} partial files, {found.bytes} bytes: {done}; {found.edge} at the edge are needed")
        if thinned is not None:
            output.result(
                f"{len(thinned.dropped)} checkpoints: {done}; {len(thinned.kept)} kept; "
                f"entries are dated at most {thinned.seconds} s later"
            )
        for name in found.differing:
            output.note(f"kept: {name} is not how its full file begins: run pd fsck")
    if found.damaged:
        raise typer.Exit(1)


def _thin(where: Path, public: Path, given: Path | None, seconds: int, remove: bool) -> Thinned:
    from ..ledger.layout import POLICY_FILE
    from ..ledger.notes.policy import Policy
    from ..ledger.storage.archive import thin
    from ..schemas.errors import UsageError

    policy = sources.policy(given)
    if policy is None:
        if not (where / POLICY_FILE).is_file():
            raise UsageError("thinning needs to know whose cosignatures date: give --policy")
        policy = Policy.parse(sources.read_bytes(where / POLICY_FILE, "the policy"))
    return thin(public, policy, seconds, remove=remove)
