"""`pd monitor ...` and `pd node monitor`: following logs, and what was found about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .operations import operating
from .options import JsonOption

if TYPE_CHECKING:
    from ..node.monitor.watch import Outcome

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The monitor's folder.")]


def init(
    folder: Folder,
    hook: Annotated[
        list[str] | None,
        typer.Option("--hook", metavar="WORD", help="Program (and arguments) to run for each evidence file."),
    ] = None,
    poll: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.")] = 60.0,
) -> None:
    """\b
        pd monitor init watch --hook /usr/local/bin/page-me
        pd monitor add watch --policy studio.policy
        pd node monitor watch

    Make a monitor: a folder with monitor.toml, its state, and the evidence of what it catches.

    The hook runs without a shell, with the path of an evidence file as its last argument.

    Python: plausible.node.monitor.directory.make
    """
    from ..node.monitor.directory import make

    make(folder, hook=hook or (), poll_seconds=poll)
    output.note(f"{folder} follows nothing yet: pd monitor add {folder} --policy FILE")


def add(
    folder: Folder,
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy of the log: keys, witnesses.")],
    url: Annotated[str, typer.Option(metavar="DIR|URL", help="Where it is served, if its policy does not say.")] = "",
    mirror: Annotated[
        list[str] | None, typer.Option("--mirror", metavar="DIR|URL", help="A copy to compare with; repeatable.")
    ] = None,
    index_policy: Annotated[
        Path | None, typer.Option("--index-policy", metavar="FILE", help="Whose index notes to recompute.")
    ] = None,
    max_age: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="An older head could not be looked at (exit code 4).")
    ] = None,
) -> None:
    """\b
        pd monitor add watch --policy studio.policy --mirror https://mirror.example

    Follow a log: its own heads, those of the policy's witnesses that have addresses, and those of mirrors.

    The policies are copied into DIR. A running monitor takes it up when it is started again.

    Python: plausible.node.monitor.directory.add
    """
    from ..node.monitor.directory import add as follow

    index = None if index_policy is None else sources.read_bytes(index_policy, "the index policy")
    data = sources.read_bytes(policy, "the policy")
    origin = follow(folder, data, url=url, mirrors=mirror or (), index_policy=index, max_age=max_age)
    output.note(f"following {output.printable(origin)}")


def status(
    folder: Folder,
    max_age: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Older looks do not count (default: three polls and 60 s).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd monitor status watch

    Say how the last look at each log ended and what stands against it, without looking again.

    Exit codes as those of pd node monitor; a look that is too old, or never was, is 4. Fit for a health check.

    Python: plausible.node.monitor.state.MonitorState.look
    """
    from ..node.monitor.config import STATE, read_config
    from ..node.monitor.state import MonitorState
    from ..node.monitor.status import read_status
    from ..schemas.errors import SetupError
    from ..schemas.verdict import worst_exit

    config = read_config(folder)
    if not (config.folder / STATE).exists():
        raise SetupError(f"{folder} has not looked at anything yet: pd node monitor {folder} --once")
    state = MonitorState(config.folder / STATE, readonly=True)
    try:
        rows = read_status(config, state, max_age)
    finally:
        state.close()
    if as_json:
        output.document("plausible.monitor-status/1", {"logs": [row.to_json() for row in rows]})
    else:
        table = [(row.code, row.origin, row.size, row.time or "never", row.sound or "never") for row in rows]
        output.table(("exit", "log", "entries", "last look", "last sound"), table)
        for row in rows:
            for finding in row.findings:
                output.result(f"{row.origin}: {finding}")
    code = worst_exit([row.code for row in rows] or [4])
    if code:
        raise typer.Exit(code)


def lift(
    folder: Folder,
    origin: Annotated[str, typer.Argument(metavar="ORIGIN", help="The log.")],
    restart: Annotated[bool, typer.Option("--restart", help="Check it from its first entry again.")] = False,
) -> None:
    """\b
        pd monitor lift watch models.example/studio/log

    Follow a log again that was caught, once a person has decided so. The evidence files stay.

    A log that signed two histories has no right one: follow its successor instead. Nothing may be running in DIR.

    Python: plausible.node.monitor.state.MonitorState.lift
    """
    from ..node.monitor.service import open_monitor
    from ..schemas.errors import UsageError

    with open_monitor(folder) as monitor:
        count = monitor.state.lift(origin)
        if restart:
            monitor.state.forget(origin)
    if not count and not restart:
        raise UsageError(f"nothing stands against {output.printable(origin)}")
    output.note(f"{count} findings lifted")


def run(
    where: Annotated[Path, typer.Argument(metavar="DIR|CONFIG", help="A monitor's folder, or its monitor.toml.")],
    once: Annotated[bool, typer.Option("--once", help="One look at every log, then end: for cron.")] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd monitor init watch; pd monitor add watch --policy studio.policy
        pd node monitor watch --once

    Follow logs: check every new entry, compare what the log, its witnesses and its mirrors show, keep evidence.

    A log that is caught is kept in quarantine until pd monitor lift; its evidence file goes to the hook, and to anyone:
    pd verify-contradiction FILE. Exit code (of --once, or of the last looks at Ctrl-C or SIGTERM), the worst of all
    logs: 0 all was looked at and is sound; 1 a log is false; 5 a policy is not met, or a revoked key was used; 4
    something could not be looked at.

    With --json each look is one line on stdout.

    Python: plausible.node.monitor.service.open_monitor
    """
    import signal
    import threading

    from ..node.gauges import of_monitor
    from ..node.monitor.service import open_monitor

    def report(outcome: Outcome) -> None:
        if as_json:
            line(outcome)
        else:
            for finding in outcome.findings:
                output.result(f"{outcome.origin}: {finding}")
            verdict = "sound" if outcome.exit_code == 0 else f"exit code {outcome.exit_code}"
            output.note(f"{outcome.origin}, {outcome.size} entries: {verdict}")

    with open_monitor(where) as monitor:
        if once:
            code = monitor.once(report)
        else:
            stop = threading.Event()
            before = [signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)]
            output.note(f"following {len(monitor.config.logs)} logs; Ctrl-C ends it")
            try:
                with operating("monitor", lambda: of_monitor(monitor.config, monitor.state)):
                    code = monitor.follow(report, stop)
            finally:
                for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
                    signal.signal(number, handler)
    if code:
        raise typer.Exit(code)


def line(outcome: Outcome) -> None:
    """One look as one line of JSON."""
    import json
    import sys

    body: dict[str, Any] = {
        "format": "plausible.monitor-look/1",
        "origin": outcome.origin,
        "entries": outcome.size,
        "exit_code": outcome.exit_code,
        "findings": [{"kind": f.kind.value, "place": f.place, "what": f.what} for f in outcome.findings],
    }
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()
