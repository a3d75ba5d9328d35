"""Serve a ledger's `public/` folder as C2SP tlog-tiles describes, and nothing else.

A path is served only if it has the form of one of the log's files; then it is looked up below the folder, and a link
that leads out of it does not count. So keys, vault and databases cannot be reached even when the operator points the
server at the wrong folder. Nothing served here is believed because it was served: readers check every hash.

    checkpoint, checkpoint.pending,
    index/latest                        text/plain, cached for two seconds
    checkpoints/SIZE                    text/plain, immutable
    checkpoints/sizes                   text/plain, the sizes above, one a line; cached for two seconds
    tile/L/N[.p/W], tile/entries/...    application/octet-stream, immutable
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..ledger.merkle.reader import DirectorySource, Source
from ..ledger.merkle.tiles import MAX_BUNDLE_BYTES, parse_path
from ..ledger.storage.archive import LISTING, listing
from ..schemas.errors import EvidenceError, SetupError
from . import serving

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response

_KEPT = re.compile(r"checkpoints/(?:0|[1-9][0-9]{0,19})", re.ASCII)
_HEADS = ("checkpoint", "checkpoint.pending", "index/latest")

IMMUTABLE = "public, max-age=31536000, immutable"
SHORT = "public, max-age=2"
TEXT, BINARY = "text/plain; charset=utf-8", "application/octet-stream"


def describe(path: str) -> tuple[str, str] | None:
    """(content type, cache control) of a served path, or None if the log has no file of that form."""
    if path in _HEADS or path == LISTING:
        return TEXT, SHORT
    if _KEPT.fullmatch(path):
        return TEXT, IMMUTABLE
    try:
        parse_path(path)
    except EvidenceError:
        return None
    return BINARY, IMMUTABLE


def public_folder(folder: Path) -> Path:
    """The folder to serve, given a ledger or its `public/`; `SetupError` if there is neither."""
    inner = folder / "public"
    chosen = inner if inner.is_dir() else folder
    if chosen.name != "public" or not chosen.is_dir():
        raise SetupError(f"{folder} is no ledger: it has no public/ folder to serve")
    return chosen.resolve()


def answer_file(source: Source, path: str) -> Response:
    """The answer to a GET of one of a log's files: 200 with its type and how long it may be kept, or 404."""
    from starlette.responses import Response

    common = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
    kind = describe(path)
    try:
        if path == LISTING and isinstance(source, DirectorySource):
            data = listing(source.folder)
        else:
            data = source.fetch(path, MAX_BUNDLE_BYTES) if kind else None
    except (EvidenceError, SetupError):  # a link that leads out, a folder or socket of that name
        data = None
    if kind is None or data is None:
        # not for long: a tile that is missing now may be there after the next checkpoint
        headers = {"Cache-Control": SHORT, **common}
        return Response("not found\n", status_code=404, media_type=TEXT, headers=headers)
    return Response(data, media_type=kind[0], headers={"Cache-Control": kind[1], **common})


def create_app(folder: Path) -> FastAPI:
    """The application for a ledger or its `public/` folder. Needs the `node` extra (`SetupError` names it)."""
    try:
        from fastapi import FastAPI
    except ImportError:
        raise SetupError("serving needs FastAPI: pip install 'plausible-deniability[node]'") from None
    source = DirectorySource(public_folder(folder))
    app = FastAPI(title="plausible log", docs_url=None, redoc_url=None, openapi_url=None)

    def serve(path: str) -> Response:
        return answer_file(source, path)

    app.add_api_route("/{path:path}", serve, methods=["GET", "HEAD"], response_model=None)
    return app


def run(folder: Path, *, host: str, port: int, ready: Callable[[str], None] = lambda _address: None) -> None:
    """Serve until interrupted; `ready` gets the address once it is listened on (port 0: the one the system chose).

    Raises `SetupError` if the address is taken or the extra is missing.
    """
    serving.run(create_app(folder), host=host, port=port, ready=ready)
