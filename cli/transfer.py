"""`pd export` and `pd import`: a whole public log in one file, verified on the way out and on the way in."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from . import output, sources
from .options import ForceOption, JsonOption, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.merkle.reader import TiledLog
    from ..ledger.notes.policy import AcceptedCheckpoint, Policy


def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; `-` means stdout.")],
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
    private: Annotated[
        bool, typer.Option("--private", help="A backup: state and vault too, mode 0600; keys are not in it.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd export studio.tar --ledger studio.ledger
        pd export - --ledger https://log.example/studio --policy court.policy | zstd > studio.tar.zst

    Write a whole log into one tar: checkpoint, index note, tiles, entries, kept checkpoints. Public data only.

    Every file is verified before it goes out; a damaged log ends the export (run `pd fsck`) and leaves no file. The
    same log under the same checkpoint gives the same bytes. The checkpoint is held against --policy, or an own
    ledger's. Of a served log that lists no sizes (any static server) only the kept checkpoint of its own size goes out.

    --private adds the state and the vault of an own ledger that nobody writes to (`pd vault backup` for one in use).

    Python: plausible.ledger.transfer.export_log
    """
    from ..ledger.transfer import export_log, export_private

    if private:
        with _writing(out, force, 0o600) as file, output.stages() as tell:
            done = export_private(sources.folder(ledger), file, progress=lambda at, size: tell("entries", at, size))
        chosen = done.accepted
    else:
        with _log(ledger, policy) as (log, chosen), _writing(out, force) as file, output.stages() as tell:
            done = export_log(log, file, policy=chosen, progress=lambda at, size: tell("entries", at, size))
    if chosen is None:
        output.note("no policy given: the checkpoint's signatures were not checked")
    if as_json and str(out) != "-":
        body = {"file": str(out), "origin": done.origin, "size": done.size, "root": done.root.hex(),
                "checkpoints": done.checkpoints, "index": done.index, "bytes": done.bytes,
                **_vouched(done.accepted)}  # fmt: skip
        output.document("plausible.exported/1", body)
        return
    output.note(f"{done.origin}, {done.size} entries, {done.checkpoints} kept checkpoints: {done.bytes} bytes")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export; `-` means stdin.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The copy's folder; absent or empty.")],
    policy: PolicyOption = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="A private export of one's own: state and vault too."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd import studio.tar copy/ --policy court.policy
        pd node serve copy/

    Make a copy of a log from an export that anybody may have made: verified first, then visible, or not at all.

    The checkpoint must meet --policy; every tile and entry must hash into it, every kept checkpoint into the same
    history; the root in a note of the absence index is recomputed. Nothing beyond that can be in the file. The copy can
    be read, served and checked (--ledger DIR, `pd node serve`, `pd fsck`); it holds no keys and signs nothing. Exit
    code 5: the policy is not met; 4: the file is false, cut off or of another format, or the disk did not take it. DIR
    is then as it was.

    With --private it is a ledger, without keys and models: put them back into DIR/keys and DIR/models. It signs
    nothing before a quorum of its witnesses has shown that it knows of nothing newer; with `quorum none`, before you
    remove DIR/restored.

    Python: plausible.ledger.transfer.import_log
    """
    from ..ledger.transfer import import_log, import_private
    from ..schemas.errors import UsageError

    chosen = sources.policy(policy)
    if chosen is None:
        raise UsageError("give --policy: an export proves nothing to somebody who does not say whose signatures count")
    with _reading(file) as stream, output.stages() as tell:
        work = import_private if private else import_log
        done = work(stream, folder, chosen, progress=lambda at, size: tell("entries", at, size))
    at = done.accepted
    if as_json:
        body = {"folder": str(folder), "origin": at.origin, "size": at.size, "root": at.root.hex(),
                "checkpoints": done.checkpoints, "left_out": done.left_out, "index": done.index, "bytes": done.bytes,
                **_vouched(at)}  # fmt: skip
        output.document("plausible.imported/1", body)
        return
    output.result(f"{at.origin}, {at.size} entries, {done.checkpoints} kept checkpoints: {folder}")
    if done.left_out:
        output.note(f"{done.left_out} kept checkpoints carry no signature by the policy's key of the log: left out")


def _vouched(accepted: AcceptedCheckpoint | None) -> dict[str, object]:
    if accepted is None:
        return {"policy": "not given", "cosigners": [], "existence_time": None}
    names = [{"name": cosigner.name, "time": cosigner.time} for cosigner in accepted.cosigners]
    return {"policy": "met", "cosigners": names, "existence_time": accepted.existence_time}


@contextlib.contextmanager
def _log(flag: str | None, given: Path | None) -> Generator[tuple[TiledLog, Policy | None]]:
    from ..ledger.config import CONFIG_FILE
    from ..ledger.layout import POLICY_FILE
    from ..ledger.merkle.reader import DirectorySource, TiledLog
    from ..ledger.notes.policy import Policy

    where = sources.place(flag)
    chosen = sources.policy(given)
    if isinstance(where, str):
        from ..node.client import HttpSource

        with HttpSource(where) as source:
            yield TiledLog(source), chosen
        return
    if chosen is None and (where / CONFIG_FILE).is_file():
        chosen = Policy.parse(sources.read_bytes(where / POLICY_FILE, "the policy"))
    yield TiledLog(DirectorySource(sources.public_folder(where))), chosen


@contextlib.contextmanager
def _reading(file: Path) -> Generator[BinaryIO]:
    from ..schemas.errors import UsageError

    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"the export {file} is no file") from None
    with stream:
        yield stream


@contextlib.contextmanager
def _writing(out: Path, force: bool, mode: int = 0o644) -> Generator[BinaryIO]:
    """Standard output, or a file that appears under its name only when the block ends well."""
    from ..schemas.errors import UsageError

    if str(out) == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not force and out.exists():
        raise UsageError(f"{out} exists already; name another file or pass --force")
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        if not force and out.exists():
            raise UsageError(f"{out} exists already; name another file or pass --force")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
