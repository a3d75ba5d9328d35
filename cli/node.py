"""`pd node ...`: services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output
from .operations import HostOption, PortOption, address, operating


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A ledger, or its public/ folder.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """\b
        pd node serve studio.ledger --port 8080
        pd verify image.png --ledger http://127.0.0.1:8080

    Serve a ledger's public/ folder as C2SP tlog-tiles describes, and nothing outside it.

    Any web server or bucket can do the same; a reader believes nothing because of who served it. Ends with Ctrl-C.

    Python: plausible.node.server.run
    """
    from ..node.gauges import of_public
    from ..node.server import public_folder, run

    def ready(address: str) -> None:
        output.note(f"serving {public_folder(folder)} at {address}; Ctrl-C ends it")

    where, number = address(host, port, 8080)
    with operating("log", lambda: of_public(public_folder(folder))):
        run(folder, host=where, port=number, ready=ready)


def witness(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A witness's folder, made by pd witness init.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """\b
        pd witness init notary --name witness.example/notary
        pd node witness notary --port 8101

    Cosign the logs that this witness watches, each only forwards (C2SP tlog-witness).

    Every answer leaves after the state is on the disk. Put a web server with TLS before it. Ends with Ctrl-C or
    SIGTERM, after the requests in hand.

    Python: plausible.node.witness.service.create_app
    """
    from ..node.gauges import of_witness
    from ..node.serving import run
    from ..node.witness.directory import open_witness
    from ..node.witness.service import create_app

    with open_witness(folder) as opened:
        if opened.frozen is not None:
            from ..schemas.errors import SetupError

            raise SetupError(opened.frozen)
        watched = sum(bool(log.keys) for log in opened.logs())

        def ready(address: str) -> None:
            output.note(f"{opened.name} watches {watched} logs at {address}; Ctrl-C ends it")

        where, number = address(host, port, 8101)
        with operating("witness", lambda: of_witness(opened)):
            run(create_app(opened), host=where, port=number, ready=ready)


def mirror(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A mirror's folder, made by pd mirror init.")],
    host: HostOption = None,
    port: PortOption = None,
    poll: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often a log is looked at.")] = 5.0,
) -> None:
    """\b
        pd mirror init archive --name mirror.example/archive
        pd node mirror archive --port 8102

    Copy logs, verify every entry, cosign what is whole and on the disk, and serve the copies (C2SP tlog-mirror).

    Logs with a source are followed; the others are pushed. Put a web server with TLS before it. Ends with Ctrl-C or
    SIGTERM, after what is in hand; after a kill it goes on where it was.

    Python: plausible.node.mirror.service.create_app
    """
    from ..node.gauges import of_mirror
    from ..node.mirror.directory import locked
    from ..node.mirror.mirror import Mirror
    from ..node.mirror.service import create_app
    from ..node.serving import run

    with locked(folder), Mirror(folder) as opened:
        if opened.frozen is not None:
            from ..schemas.errors import SetupError

            raise SetupError(opened.frozen)
        count = len(opened.watched())

        def ready(address: str) -> None:
            output.note(f"{opened.name} mirrors {count} logs at {address}; Ctrl-C ends it")

        where, number = address(host, port, 8102)
        with operating("mirror", lambda: of_mirror(opened)):
            run(create_app(opened, poll_seconds=poll), host=where, port=number, ready=ready)


def log_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The log's folder, absent or empty.")],
    origin: Annotated[str, typer.Option("--origin", help="The log's name for ever: a URL without scheme.")],
    authors: Annotated[
        list[str] | None,
        typer.Option("--author", metavar="VKEY|FILE", help="Whose entries it takes; repeatable, or edit authors.txt."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Witness, group and quorum lines (default: no witnesses)."),
    ] = None,
) -> None:
    """\b
        pd node log-init shared.log --origin log.example/shared --policy witnesses.txt --author AUTHOR.vkey
        pd node log shared.log --port 8100

    Make a log that several authors write to: a fresh key, a policy, an allowlist, an empty tree.

    Printed is the log's verifier key: for its witnesses (pd witness add), and for the policies of whoever verifies.
    authors.txt in the folder says whose entries are taken; a running log reads it anew when it changes.

    Python: plausible.node.log.directory.make
    """
    from ..node.log.directory import make
    from ..schemas.errors import SetupError
    from .cosigner import read_keys

    lines = None
    if policy is not None:
        try:
            lines = policy.read_text("ascii")
        except (OSError, UnicodeError) as error:
            raise SetupError(f"{policy} cannot be read: {error}") from None
    key = make(folder, origin, authors=read_keys(authors or []), policy=lines)
    if lines is None:
        output.note("without witnesses nothing dates the entries, and a restored backup would fork the log unnoticed")
    output.result(key.verifier.encode())


def log(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A log's folder, made by pd node log-init.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """\b
        pd node log-init shared.log --origin log.example/shared --author AUTHOR.vkey
        pd node log shared.log --port 8100

    Take entries of the allowed authors, sign heads over them, have them cosigned, and serve the log.

    An entry is answered after it is durable. Put a web server with TLS before it. Ends with Ctrl-C or SIGTERM, after
    the requests in hand, with everything published that was taken.

    Python: plausible.node.log.service.create_app
    """
    from ..node.gauges import of_log
    from ..node.log.directory import open_log
    from ..node.log.service import create_app
    from ..node.serving import run

    with open_log(folder) as opened:
        if opened.keeper.trouble is not None:
            output.note(opened.keeper.trouble)
        allowed = len(opened.allowlist.authors.authors)

        def ready(address: str) -> None:
            output.note(f"{opened.config.origin} takes entries of {allowed} author keys at {address}; Ctrl-C ends it")

        where, number = address(host, port, 8100)
        with operating("log", lambda: of_log(opened)):
            run(create_app(opened), host=where, port=number, ready=ready, stopping=opened.keeper.hurry)
