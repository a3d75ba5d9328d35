"""`pd witness ...`: making a witness and saying which logs it watches. It runs as `pd node witness`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .cosigner import (
    GuardOption,
    KeyTypesOption,
    NewKeysArgument,
    NoGuardOption,
    OriginArgument,
    OriginOption,
    key_kinds,
    read_keys,
    tell_guard,
)
from .options import JsonOption

if TYPE_CHECKING:
    from ..ledger.witness import Conflict, WatchedLog

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The witness's folder.")]


def init(
    folder: Folder,
    name: Annotated[str, typer.Option("--name", help="The witness's name for ever: a URL without scheme.")],
    keys: KeyTypesOption = None,
    guard: GuardOption = None,
    no_guard: NoGuardOption = False,
) -> None:
    """\b
        pd witness init notary --name witness.example/notary
        pd witness add notary LOG.vkey
        pd node witness notary --port 8101

    Make a witness: a fresh key, an empty state, and a counter elsewhere that notices if the state is ever restored.

    Never back up the folder's witness.db: a witness that lost it needs a new key. Printed is what others put into their
    policy, one verifier key a line.

    Python: plausible.node.witness.directory.make
    """
    from ..node.witness.directory import make, open_witness

    kinds = key_kinds(keys, guard, no_guard)
    config = make(folder, name, keys=kinds, guard=guard, guarded=not no_guard)
    tell_guard(folder, config.guard)
    with open_witness(folder) as witness:
        for signer in witness.signers:
            output.result(signer.verifier.encode())


def add(
    folder: Folder,
    vkeys: Annotated[
        list[str],
        typer.Argument(metavar="VKEY|FILE...", help="Verifier keys of the log, or files that hold one a line."),
    ],
    origin: OriginOption = None,
) -> None:
    """\b
        pd witness add notary models.example/studio/log+0a72cd63+AV2y...

    Watch a log. Several keys are several logs, unless --origin says they belong to one.

    A running witness takes it up at once. Watching a log again goes on from what was cosigned before.

    Python: plausible.ledger.witness.Witness.add_logs
    """
    from ..node.witness.directory import open_witness

    keys = read_keys(vkeys)
    with open_witness(folder) as witness:
        if origin is not None:
            witness.add_log(origin, keys)
        else:
            witness.add_logs([(key.name, [key]) for key in keys])
    for name in [origin] if origin is not None else [key.name for key in keys]:
        output.note(f"watching {output.printable(name)}")


def change_keys(
    folder: Folder,
    origin: OriginArgument,
    vkeys: NewKeysArgument,
) -> None:
    """\b
        pd witness keys notary models.example/studio/log OLD.vkey NEW.vkey

    Accept other keys for a watched log: both while its operator changes from one to the other, then the new one alone.

    What was cosigned stays. Ask the log's operator on another way than the log itself which keys are his.

    Python: plausible.ledger.witness.Witness.change_keys
    """
    from ..node.witness.directory import open_witness

    with open_witness(folder) as witness:
        witness.change_keys(origin, read_keys(vkeys))
    output.note(f"{output.printable(origin)} is believed under these keys now")


def remove(folder: Folder, origin: OriginArgument) -> None:
    """\b
        pd witness remove notary models.example/studio/log

    Watch a log no more: it becomes unknown (404).

    What was cosigned is kept, so that nothing is ever cosigned backwards.

    Python: plausible.ledger.witness.Witness.remove_log
    """
    from ..node.witness.directory import open_witness

    with open_witness(folder) as witness:
        witness.remove_log(origin)
    output.note(f"not watching {output.printable(origin)} any more")


def list_logs(
    folder: Folder,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="OUT", help="Write a contradiction file for each into this folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd witness list notary
        pd witness list notary --evidence caught/

    List the watched logs with the size last cosigned, and the contradictions that logs were caught in.

    With --evidence each is written as a file that anyone can verify: pd verify-contradiction.

    Exits 1 if a log was caught, 4 if this witness is frozen.

    Python: plausible.ledger.witness.Witness.logs
    """
    from ..node.witness.directory import open_witness
    from ..schemas.errors import SetupError

    with open_witness(folder) as witness:
        logs, conflicts, frozen = witness.logs(), witness.conflicts(), witness.frozen
    if evidence is not None:
        _write_evidence(evidence, logs, conflicts)
    if as_json:
        output.document(
            "plausible.witness-logs/1",
            {
                "frozen": frozen,
                "logs": [
                    {
                        "keys": [k.encode() for k in log.keys],
                        "origin": log.origin,
                        "root": log.root.hex(),
                        "size": log.size,
                    }
                    for log in logs
                ],
                "conflicts": [
                    {"ours": c.ours.decode(), "origin": c.origin, "theirs": c.theirs.decode(), "time": c.time}
                    for c in conflicts
                ],
            },
        )
    else:
        for log in logs:
            state = "" if log.keys else "  not watched any more"
            output.result(f"{log.size:>12}  {output.printable(log.origin)}{state}")
    if frozen is not None:
        raise SetupError(frozen)
    if conflicts:
        names = ", ".join(sorted({output.printable(c.origin) for c in conflicts}))
        output.note(f"these logs signed two trees of one size: {names}; --json prints both signed heads")
        raise typer.Exit(1)


def _write_evidence(folder: Path, logs: list[WatchedLog], conflicts: list[Conflict]) -> None:
    """A contradiction file for each pair of heads; one that is there already stays."""
    import hashlib

    from ..ledger.contradiction import two_heads
    from ..schemas.errors import EvidenceError

    keys = {log.origin: log.keys for log in logs}
    for conflict in conflicts:
        try:
            data = two_heads(keys.get(conflict.origin, ()), conflict.ours, conflict.theirs)
        except EvidenceError as error:  # watched no more, or under other keys since
            output.note(f"{output.printable(conflict.origin)}: no file could be made of a pair of heads: {error}")
            continue
        path = folder / f"two-heads-{hashlib.sha256(data).hexdigest()[:16]}.json"
        if not path.exists():
            output.write_file(path, data, force=False)
        output.note(f"evidence against {output.printable(conflict.origin)}: {path}")


def pull(
    folder: Folder,
    source: Annotated[str, typer.Argument(metavar="URL|FILE", help="A list of logs (logs/v0).")],
) -> None:
    """\b
        pd witness pull notary https://witness.example/log-list.1

    Watch the new logs of a published list. Nothing that is watched is changed or removed by a list.

    Python: plausible.node.witness.loglist.add_new
    """
    from ..node.client import fetch_file
    from ..node.witness.directory import open_witness
    from ..node.witness.loglist import MAX_LIST_BYTES, add_new, parse_list
    from ..schemas.errors import SetupError

    if source.startswith(("http://", "https://")):
        data = fetch_file(source, MAX_LIST_BYTES)
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise SetupError(f"{source} cannot be read: {error.strerror}") from None
    listed = parse_list(data)
    with open_witness(folder) as witness:
        added, kept = add_new(witness, listed)
    output.note(f"{len(listed)} logs listed: {len(added)} are new, {len(kept)} were known and stay as they are")
    for origin in added:
        output.result(output.printable(origin))
