"""`pd hammer`: load on a log, every answer verified."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, sources
from .options import JsonOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.hammer import Hammered
    from ..ledger.merkle.reader import Source
    from ..ledger.notes.policy import Policy

_POLITE = 100.0


def hammer(
    where: Annotated[
        str | None, typer.Argument(metavar="DIR|URL", help="A ledger, a copy of a log, or a served log. [PD_LEDGER]")
    ] = None,
    entries: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many entries written (no writers: read) and verified.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long. [default: 10, or none]")] = None,
    writers: Annotated[int, typer.Option(min=0, max=64, help="Writing processes; what they log stays.")] = 0,
    full: Annotated[int, typer.Option(min=0, max=64, help="Readers of the whole log, again and again.")] = 1,
    random: Annotated[int, typer.Option(min=0, max=64, help="Readers of entries at random.")] = 2,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="At most so many files a second. [default: 100 of a URL]")
    ] = None,
    policy: PolicyOption = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", metavar="FILE", help="Where evidence goes. [default: named by time]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd hammer test.ledger --writers 4 --entries 10000
        pd hammer https://log.example/studio --policy court.policy --seconds 60 --json

    Write to and read from a log at once, and verify every answer against one common checkpoint.

    Full readers verify every file from the root down; random readers an entry's inclusion; every checkpoint served must
    be of one history with the others; every acknowledged entry must be at its index. Writers need a ledger's own
    folder, and their pictures stay in it for good: use one made for it. Exit code 1: the log broke what it signed, and
    a file shows how; 4: a peer or the disk failed, or the goal was missed.

    Python: plausible.ledger.hammer.hammer
    """
    from ..ledger.hammer import Goal
    from ..ledger.hammer import hammer as run

    goal = Goal(entries, seconds if seconds is not None or entries is not None else 10.0)
    with _target(where, policy, writers) as (target, chosen, polite), _line() as tell:
        found = run(
            target, policy=chosen, goal=goal, writers=writers, full_readers=full, random_readers=random,
            rate=rate if rate is not None else polite, progress=tell,
        )  # fmt: skip
    body = {"policy": "given" if chosen is not None else "not given", **found.to_json()}
    if found.broken is not None:
        body["evidence"] = str(_keep(found, evidence))
    if as_json:
        output.document("plausible.hammer/1", body)
    else:
        output.result(found.line().strip())
        _explain(found)
    if chosen is None:
        output.note("no policy given: the checkpoints' signatures were not checked")
    if "interrupted" in found.failures and found.broken is None:
        raise typer.Exit(130)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _explain(found: Hammered) -> None:
    for text in found.failures:
        output.note(f"failed: {text}")
    if found.broken is not None:
        output.note(f"broken: {found.broken}")
    if not found.exit_code:
        output.note("every answer was verified; nothing is inconsistent")
    elif found.exit_code == 4 and not found.failures:
        output.note("the goal was missed")


def _keep(found: Hammered, path: Path | None) -> Path:
    """Write the evidence, never over a file that exists."""
    from datetime import UTC, datetime

    assert found.broken is not None  # noqa: S101  (the caller asked)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    path = path or Path(f"hammer-evidence-{stamp}.json")
    body = {"format": "plausible.hammer-evidence/1", "origin": found.origin, **found.broken.evidence}
    output.write_file(path, (json.dumps(body, indent=2) + "\n").encode(), force=False)
    output.note(f"the evidence is in {path}")
    return path


@contextlib.contextmanager
def _target(
    flag: str | None, policy: Path | None, writers: int
) -> Generator[tuple[Source | Path, Policy | None, float | None]]:
    from ..ledger.config import CONFIG_FILE
    from ..ledger.layout import POLICY_FILE
    from ..ledger.merkle.reader import DirectorySource
    from ..ledger.notes.policy import Policy
    from ..schemas.errors import UsageError

    place = sources.place(flag)
    chosen = sources.policy(policy)
    if isinstance(place, str):
        if writers:
            raise UsageError(f"{place} is a served log: writers need the ledger's own folder")
        from ..node.client import HttpSource

        with HttpSource(place) as source:
            yield source, chosen, _POLITE
        return
    if (place / CONFIG_FILE).is_file():
        yield place, chosen or Policy.parse(sources.read_bytes(place / POLICY_FILE, "the policy")), None
        return
    if writers:
        raise UsageError(f"{place} is no ledger of one's own: make one with pd init")
    yield DirectorySource(sources.public_folder(place)), chosen, None


@contextlib.contextmanager
def _line() -> Generator[Callable[[Hammered], None] | None]:
    """Draws the state of the run over one line of stderr, if a person is watching."""
    if not output.watched():
        yield None
        return
    width = 0

    def tell(found: Hammered) -> None:
        nonlocal width
        text = output.printable(found.line())
        sys.stderr.write("\r" + text.ljust(width))
        sys.stderr.flush()
        width = len(text)

    try:
        yield tell
    finally:
        sys.stderr.write("\r" + " " * width + "\r")
