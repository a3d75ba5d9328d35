"""Serve a ledger's `public/` folder as C2SP tlog-tiles describes, and nothing else.

A path is served only if it has the form of one of the log's files; then it is looked up below the folder, and a link
that leads out of it does not count. So keys, vault and databases cannot be reached even when the operator points the
server at the wrong folder. Nothing served here is believed because it was served: readers check every hash.

    checkpoint, checkpoint.pending,
    index/latest                        text/plain, cached for two seconds
    checkpoints/SIZE                    text/plain, immutable
    checkpoints/sizes                   text/plain, the sizes above, one a line; cached for two seconds
    tile/L/N[.p/W], tile/entries/...    application/octet-stream, immutable
    healthz, readyz                     alive; the served checkpoint holds under the log's own policy
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..ledger.layout import POLICY_FILE
from ..ledger.merkle.public import CHECKPOINT
from ..ledger.merkle.reader import DirectorySource, Source
from ..ledger.merkle.tiles import MAX_BUNDLE_BYTES, parse_path
from ..ledger.notes.checkpoint import Checkpoint
from ..ledger.notes.note import MAX_NOTE_BYTES, Note
from ..ledger.notes.policy import Policy
from ..ledger.storage.archive import LISTING, listing
from ..schemas.errors import EvidenceError, PeerError, PlausibleError, SetupError
from . import serving
from .serving import text_answer

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
    source = DirectorySource(public_folder(folder))
    app = serving.application("plausible log")

    policy = _own_policy(folder)

    def serve(path: str) -> Response:
        return answer_file(source, path)

    def healthz() -> Response:
        return text_answer(200, "alive")

    def readyz() -> Response:
        try:
            return text_answer(200, _ready(source, policy))
        except PlausibleError as error:
            return text_answer(503, f"the served checkpoint does not hold: {error}")

    app.add_api_route("/healthz", healthz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/readyz", readyz, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/{path:path}", serve, methods=["GET", "HEAD"], response_model=None)
    return app


def _own_policy(folder: Path) -> Policy | None:
    """The policy of the ledger whose public folder is served; None for a copy, which has none."""
    path = public_folder(folder).parent / POLICY_FILE
    try:
        return Policy.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None


def _ready(source: Source, policy: Policy | None) -> str:
    """What can be said for the checkpoint as readers get it: its signatures under the log's own policy."""
    note = source.fetch(CHECKPOINT, MAX_NOTE_BYTES)
    if note is None:
        raise PeerError("there is none")
    size = Checkpoint.parse(Note.parse(note).text).size
    if policy is None:
        return f"size {size}; a copy, whose signatures are its readers' to check"
    met = policy.check(note, now=int(time.time()))
    if met.existence_time is None:
        return f"size {size}, no witness dates it"
    return f"size {size}, cosigned {max(0, int(time.time()) - met.existence_time)} seconds ago"


def run(folder: Path, *, host: str, port: int, ready: Callable[[str], None] = lambda _address: None) -> None:
    """Serve until interrupted; `ready` gets the address once it is listened on (port 0: the one the system chose).

    Raises `SetupError` if the address is taken or the extra is missing.
    """
    serving.run(create_app(folder), host=host, port=port, ready=ready)
