"""`pd node ...`: services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A ledger, or its public/ folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 lets the system choose.")] = 8080,
) -> None:
    """\b
        pd node serve studio.ledger --port 8080
        pd verify image.png --ledger http://127.0.0.1:8080

    Serve a ledger's public/ folder as C2SP tlog-tiles describes, and nothing outside it.

    Any web server or bucket can do the same; a reader believes nothing because of who served it. Ends with Ctrl-C.

    Python: plausible.node.server.run
    """
    from ..node.server import public_folder, run

    def ready(address: str) -> None:
        output.note(f"serving {public_folder(folder)} at {address}; Ctrl-C ends it")

    run(folder, host=host, port=port, ready=ready)
