"""`pd log archive`: the kept checkpoints, and which of them dates an entry."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import JsonOption, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.merkle.reader import TiledLog
    from ..ledger.notes.policy import Policy
    from ..ledger.storage.archive import Kept


def archive(
    which: Annotated[
        str | None, typer.Argument(metavar="INDEX|IMAGE", help="Only what dates this entry; an image needs one's own.")
    ] = None,
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
    start: Annotated[int, typer.Option("--from", min=0, metavar="SIZE", help="First tree size.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many checkpoints.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd log archive --ledger studio.ledger
        pd log archive 3 --ledger studio.ledger --policy court.policy

    List the kept checkpoints: size, the entries each is the first to cover, since when they existed, who cosigned.

    The first kept checkpoint that covers an entry dates it: by the time it names, the quorum of witnesses had seen the
    entry's place in the log. Each is held against the policy (an own ledger's, unless --policy gives another) and the
    tiles. A served log that lists no sizes (any static server) is asked only for the one of its own size. Exit code 1:
    one is false; 5: one does not meet the policy; 4: one cannot be read.

    Python: plausible.ledger.storage.archive.walk_archive
    """
    from ..ledger.storage.archive import dating, sizes_of, walk_archive

    with _log(ledger, policy) as (log, chosen):
        if which is not None:
            found = [dating(log, _index(ledger, which), chosen)]
            more = 0
        else:
            sizes = [size for size in sizes_of(log) if size >= start]
            found = list(walk_archive(log, chosen, sizes[:limit]))
            more = len(sizes) - len(found)
    if as_json:
        output.document("plausible.log-archive/1", {"kept": [_row(kept) for kept in found], "not_listed": more})
    else:
        header = ("size", "first covers", "existed by", "cosigned by")
        output.table(header, [_cells(kept) for kept in found])
        output.note(f"{len(found)} checkpoints" + (f", {more} more with --from or --limit" if more else ""))
    if code := _exit_code(found):
        raise typer.Exit(code)


@contextlib.contextmanager
def _log(flag: str | None, policy: Path | None) -> Generator[tuple[TiledLog, Policy]]:
    """The log behind a folder or URL and the policy its checkpoints are held against."""
    from ..ledger.config import CONFIG_FILE
    from ..ledger.layout import POLICY_FILE
    from ..ledger.merkle.reader import DirectorySource, TiledLog
    from ..ledger.notes.policy import Policy
    from ..schemas.errors import UsageError

    where = sources.place(flag)
    given = sources.policy(policy)
    if isinstance(where, str):
        if given is None:
            raise UsageError(f"{where} is another's log: give --policy, which says whose signatures count")
        from ..node.client import HttpSource

        with HttpSource(where) as source:
            yield TiledLog(source), given
        return
    if given is None:
        if not (where / CONFIG_FILE).is_file():
            raise UsageError(f"{where} is a copy of a log: give --policy, which says whose signatures count")
        given = Policy.parse(sources.read_bytes(where / POLICY_FILE, "the policy"))
    yield TiledLog(DirectorySource(sources.public_folder(where))), given


def _index(flag: str | None, which: str) -> int:
    if which.isascii() and which.isdigit():
        return int(which)
    with sources.own(flag) as opened:
        return sources.index_of(opened, which)[0]


def _time(seconds: int | None) -> str | None:
    from datetime import UTC, datetime

    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cells(kept: Kept) -> tuple[object, ...]:
    covers = f"{kept.first}-{kept.size - 1}" if kept.size > kept.first else "nothing"
    if kept.accepted is None:
        return kept.size, covers, "-", f"does not count: {kept.problem}"
    names = ", ".join(cosigner.name for cosigner in kept.accepted.cosigners) or "nobody"
    return kept.size, covers, _time(kept.accepted.existence_time) or "not dated", names


def _row(kept: Kept) -> dict[str, Any]:
    at = kept.accepted
    return {
        "size": kept.size,
        "first": kept.first,
        "root": None if at is None else at.root.hex(),
        "existence_time": None if at is None else at.existence_time,
        "existed_by": None if at is None else _time(at.existence_time),
        "cosigners": [{"name": c.name, "time": c.time} for c in at.cosigners] if at else [],
        "problem": None if kept.problem is None else str(kept.problem),
    }


def _exit_code(found: list[Kept]) -> int:
    from ..schemas.errors import EvidenceError, PolicyError
    from ..schemas.verdict import Verdict, worst_exit

    codes = {0}
    for kept in found:
        if isinstance(kept.problem, EvidenceError):
            codes.add(Verdict.REFUTED.exit_code)
        elif isinstance(kept.problem, PolicyError):
            codes.add(Verdict.UNTRUSTED.exit_code)
        elif kept.problem is not None:
            codes.add(Verdict.INCOMPLETE.exit_code)
    return worst_exit(codes)
