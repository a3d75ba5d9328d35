"""`pd mirror ...`: making a mirror and saying which logs it copies. It runs as `pd node mirror`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, sources
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
from .options import JsonOption, LedgerOption

if TYPE_CHECKING:
    from ..node.mirror.mirror import Mirror

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The mirror's folder.")]


def init(
    folder: Folder,
    name: Annotated[str, typer.Option("--name", help="The mirror's name for ever: a URL without scheme.")],
    keys: KeyTypesOption = None,
    guard: GuardOption = None,
    no_guard: NoGuardOption = False,
) -> None:
    """\b
        pd mirror init archive --name mirror.example/archive
        pd mirror add archive LOG.vkey --from https://log.example/studio
        pd node mirror archive --port 8102

    Make a mirror: fresh keys, empty states, and a counter elsewhere that notices if the state is ever restored.

    Never back up the folder's mirror.db. Printed are the verifier keys: those of its cosignatures, for policies, and
    last that of its notes about the absence index, for index policies. A mirror and a witness never share a key.

    Python: plausible.node.mirror.directory.make
    """
    from ..node.mirror.directory import make
    from ..node.mirror.mirror import Mirror

    kinds = key_kinds(keys, guard, no_guard)
    config = make(folder, name, keys=kinds, guard=guard, guarded=not no_guard)
    tell_guard(folder, config.guard)
    with Mirror(folder) as mirror:
        for signer in (*mirror.signers, mirror.index_key):
            output.result(signer.verifier.encode())


def add(
    folder: Folder,
    vkeys: Annotated[
        list[str],
        typer.Argument(metavar="VKEY|FILE...", help="Verifier keys of one log, or files that hold one a line."),
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="URL|DIR", help="Where the log is served; without it, it must be pushed.")
    ] = "",
    origin: OriginOption = None,
    signatures: Annotated[
        bool, typer.Option("--signatures", help="Verify every entry's signature by the author that it names.")
    ] = False,
) -> None:
    """\b
        pd mirror add archive models.example/studio/log+0a72cd63+AV2y... --from https://log.example/studio

    Mirror a log. A running mirror takes it up at once; a log that was mirrored before goes on from there.

    With --from the log is followed; anybody may push its entries besides (C2SP tlog-mirror). Given again with the same
    keys, the command changes --from and --signatures.

    Python: plausible.node.mirror.mirror.Mirror.add_log
    """
    from ..node.mirror.directory import LogSettings
    from ..node.mirror.mirror import Mirror
    from ..schemas.errors import UsageError

    keys = read_keys(vkeys)
    names = {key.name for key in keys} if origin is None else {origin}
    if len(names) != 1:
        raise UsageError("these keys have several names: give --origin, or add one log after the other")
    chosen = names.pop()
    if source and not source.startswith(("http://", "https://")):
        source = str(Path(source).absolute())
    with Mirror(folder) as mirror:
        mirror.add_log(chosen, keys, LogSettings(chosen, source, signatures))
        where = mirror.log_folder(chosen).name
    output.note(f"mirroring {output.printable(chosen)}; its copy is served at /{where}")


def change_keys(
    folder: Folder,
    origin: OriginArgument,
    vkeys: NewKeysArgument,
) -> None:
    """\b
        pd mirror keys archive models.example/studio/log OLD.vkey NEW.vkey

    Accept other keys for a mirrored log: both while its operator changes from one to the other, then the new one alone.

    What was cosigned stays. Ask the log's operator on another way than the log itself which keys are his.

    Python: plausible.node.mirror.mirror.Mirror.change_keys
    """
    from ..node.mirror.mirror import Mirror

    with Mirror(folder) as mirror:
        mirror.change_keys(origin, read_keys(vkeys))
    output.note(f"{output.printable(origin)} is believed under these keys now")


def remove(folder: Folder, origin: OriginArgument) -> None:
    """\b
        pd mirror remove archive models.example/studio/log

    Mirror a log no more. Its copy stays and is served on; what was cosigned is kept.

    Python: plausible.node.mirror.mirror.Mirror.remove_log
    """
    from ..node.mirror.mirror import Mirror

    with Mirror(folder) as mirror:
        mirror.remove_log(origin)
    output.note(f"not mirroring {output.printable(origin)} any more")


def list_logs(folder: Folder, as_json: JsonOption = False) -> None:
    """\b
        pd mirror list archive

    List the mirrored logs with the size last cosigned, and what was wrong with them when they were last read.

    Exits 1 if a log is false (a changed file, a head that went back, two histories), 4 if one cannot be read or this
    mirror signs no more.

    Python: plausible.node.mirror.mirror.Mirror.logs
    """
    from ..node.mirror.mirror import Mirror
    from ..schemas.errors import SetupError

    with Mirror(folder) as mirror:
        rows = [_row(mirror, log.origin) for log in mirror.logs()]
        troubles = {log.origin: mirror.said(log.origin).values() for log in mirror.logs()}
        frozen = mirror.frozen
    if as_json:
        output.document("plausible.mirror-logs/1", {"frozen": frozen, "logs": rows})
    else:
        for row in rows:
            state = "" if row["keys"] else "  not mirrored any more"
            output.result(f"{row['size']:>12}  {output.printable(str(row['origin']))}{state}")
            for trouble in troubles[str(row["origin"])]:
                output.result(f"{'':>12}  {trouble.kind}: {output.printable(trouble.text)}")
    if frozen is not None:
        raise SetupError(frozen)
    kinds = {trouble.kind for found in troubles.values() for trouble in found}
    if kinds:
        raise typer.Exit(1 if "false" in kinds else 4)


def _row(mirror: Mirror, origin: str) -> dict[str, object]:
    log = mirror.head(origin)
    return {
        "hash": mirror.log_folder(origin).name,
        "keys": [key.encode() for key in log.keys],
        "origin": origin,
        "root": log.root.hex(),
        "size": log.size,
        "source": mirror.settings(origin).source,
        "trouble": [
            {"kind": trouble.kind, "part": part, "text": trouble.text, "time": trouble.time}
            for part, trouble in sorted(mirror.said(origin).items())
        ],
    }


def pull(
    folder: Folder,
    origins: Annotated[
        list[str] | None, typer.Argument(metavar="ORIGIN...", help="Which logs (default: all that have a source).")
    ] = None,
) -> None:
    """\b
        pd mirror pull archive

    Read each log once, copy and verify what is new, cosign it and sign its absence index. For machines without a
    service of their own; resumes where it was interrupted.

    Exits 1 if a log is false, 4 if one cannot be read.

    Python: plausible.node.mirror.follow.follow
    """
    from ..node.mirror.archive import keep_archive
    from ..node.mirror.directory import locked
    from ..node.mirror.follow import follow_once, open_source
    from ..node.mirror.index import sign_index
    from ..node.mirror.mirror import Mirror
    from ..schemas.errors import EvidenceError, PlausibleError, UsageError

    failed: list[PlausibleError] = []
    with locked(folder), Mirror(folder) as mirror, output.stages() as tell:
        known = [log.origin for log in mirror.watched() if mirror.settings(log.origin).source]
        if unknown := sorted(set(origins or ()) - set(known)):
            raise UsageError(f"{unknown[0]} is not mirrored from anywhere: pd mirror add ... --from")
        for origin in origins or known:
            done = None
            try:
                done = follow_once(mirror, origin, progress=lambda at, size: tell("entries", at, size))
                mirror.say(origin, "log")
                with open_source(mirror.settings(origin).source) as source:
                    sign_index(mirror, origin, source, progress=lambda at, size: tell("absence index", at, size))
                    keep_archive(mirror, origin, source)
                mirror.say(origin, "index")
                output.result(f"{done.size:>12}  {output.printable(origin)}, {done.taken} new")
            except PlausibleError as error:
                part = "index" if done is not None else "log"
                mirror.say(origin, part, "false" if isinstance(error, EvidenceError) else "unreachable", str(error))
                output.note(f"{output.printable(origin)}: {output.printable(str(error))}")
                failed.append(error)
    if failed:
        raise typer.Exit(1 if any(isinstance(error, EvidenceError) for error in failed) else 4)


def push(
    url: Annotated[str, typer.Argument(metavar="URL", help="The mirror's submission prefix.")],
    vkeys: Annotated[list[str], typer.Option("--mirror", metavar="VKEY", help="The mirror's key; repeatable.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd mirror push https://mirror.example --mirror mirror.example/archive+1c25f8a4+BHr... --ledger studio.ledger

    Send a log to a mirror (C2SP tlog-mirror), for a log that it cannot reach. Printed are its cosignatures.

    The mirror says how far it is: whatever was interrupted goes on there. Its operator must have added the log.

    Python: plausible.node.mirror.push.push
    """
    from ..ledger.notes.note import VerifierKey
    from ..node.mirror.push import MirrorClient
    from ..node.mirror.push import push as run

    keys = [VerifierKey.parse(text) for text in vkeys]
    client = MirrorClient(url)
    try:
        with sources.served(ledger) as log, output.stages() as tell:
            lines = run(log.log, client, keys, progress=lambda at, size: tell("entries", at, size))
            size = log.checkpoint.size
    finally:
        client.close()
    if as_json:
        rows = [{"key_id": line.key_id.hex(), "line": line.line.rstrip("\n"), "name": line.name} for line in lines]
        output.document("plausible.mirror-push/1", {"cosignatures": rows, "size": size, "url": url})
        return
    for line in lines:
        output.result(line.line.rstrip("\n"))
    output.note(f"the mirror holds all {size} entries")
