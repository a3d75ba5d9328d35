"""The HTTP interfaces as OpenAPI 3.1 documents, which docs/make_openapi.py writes to docs/openapi/*.json.

They come from the table below and not from the code, since bodies here are notes, proofs and bytes: what a framework
would guess from signatures says nothing. Tests hold the table against the routes of each application, and answers of
running services against the table. The protocols are C2SP's; what is ours alone is said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TEXT, BINARY, JSON, LINES = "text/plain", "application/octet-stream", "application/json", "application/jsonl"
SIZE, MIRROR_INFO = "text/x.tlog.size", "text/x.tlog.mirror-info"

Answers = Mapping[int, tuple[str, tuple[str, ...]]]
"""Status -> (what it means, the content types it may have)."""


HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
    429: {
        "Retry-After": {
            "required": True,
            "description": "How many seconds to wait.",
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}
"""Status -> the headers that its answers have besides Content-Type."""


_EVERYWHERE = (
    "Besides what stands below, text/plain: 400 for what is no HTTP, 404 for other paths, 405 with Allow for other"
    " methods, 503 beyond 1,024 connections at once. A connection that has not sent a request's head within 10 seconds"
    " is closed. HEAD is answered wherever a GET of files, /healthz or /readyz is."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path."""

    method: str
    path: str
    summary: str
    answers: Answers
    body: str = ""
    query: Mapping[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])
    """Name -> (what it says, whether it must be given)."""


def _text(answers: Mapping[int, str]) -> dict[int, tuple[str, tuple[str, ...]]]:
    return {status: (what, (TEXT,)) for status, what in answers.items()}


_LIMITS = _text(
    {
        408: "The body came too slowly.",
        413: "The body is too large.",
        429: "Too many requests wait: come again after `Retry-After` seconds.",
        500: "The disk failed, nothing was signed.",
        503: "It may not sign any more, or nothing can be stored.",
    }
)
_ALIVE = Operation("get", "/healthz", "Whether the process is alive.", _text({200: "It is."}))
_FILES: Answers = {200: ("The file.", (TEXT, BINARY)), 404: ("There is none.", (TEXT,))}
_ADDED: Answers = _LIMITS | _text(
    {
        200: "Cosignature lines; of a mirror nothing.",
        400: "Malformed, or the old size is above the checkpoint's.",
        403: "No signature by a key of the log, or one that is false.",
        404: "The log is not known here.",
        422: "The trees are not consistent.",
    }
) | {409: ("The last size is another one, and is the body.", (SIZE,))}  # fmt: skip
_ADD = Operation("post", "/add-checkpoint", "Submit a signed checkpoint (C2SP tlog-witness).", _ADDED, TEXT)
_SUBTREE = Operation(
    "post",
    "/sign-subtree",
    "Sign a subtree of a cosigned tree (C2SP tlog-witness); only with an ML-DSA-44 key.",
    _LIMITS
    | _text(
        {
            200: "Signature lines with time 0.",
            400: "Malformed.",
            403: "No signature by the log, or none of ours.",
            404: "No ML-DSA-44 key here, or the log is not known.",
            422: "The subtree is not part of the tree.",
        }
    ),
    TEXT,
)
_LOGGED: Answers = {status: said for status, said in _LIMITS.items() if status != 500} | _text(
    {400: "Malformed.", 403: "Entries by this key are not taken.", 422: "No log may ever take these."}
) | {
    200: ("A receipt, a line each for a batch; or the tlog-proof of one entry that is witnessed.", (JSON, LINES, TEXT)),
    202: ("Stored; what was waited for did not come in time. A receipt.", (JSON, LINES)),
    409: ("The chain goes on elsewhere: its head.", (JSON,)),
}  # fmt: skip
_WAIT = {
    "wait": ("How far to wait: `accepted`, `sequenced` or `witnessed`.", False),
    "timeout": ("How many seconds to wait at most.", False),
}


def _ready(what: str) -> Operation:
    return Operation("get", "/readyz", what, _text({200: "It is; in a line, why.", 503: "It is not; in a line, why."}))


def _asked(what: str, more: Mapping[int, str] | None = None) -> Answers:
    found = _text({400: "Malformed.", 503: "It cannot be answered at the moment.", **(more or {})})
    return found | {200: (what, (JSON,))}


SERVICES: Final[dict[str, tuple[str, tuple[Operation, ...]]]] = {
    "serve": (
        "A ledger's public files: pd node serve",
        (
            _ALIVE,
            _ready("Whether the served checkpoint holds under the log's own policy."),
            Operation("get", "/{path}", "One of the log's files (C2SP tlog-tiles).", _FILES),
        ),
    ),
    "log": (
        "A log that several authors write to: pd node log",
        (
            Operation("post", "/entry", "Log one entry, signed by its author.", _LOGGED, BINARY, _WAIT),
            Operation("post", "/entries", "Log several: u16 length and bytes each.", _LOGGED, BINARY, _WAIT),
            Operation(
                "get",
                "/lookup",
                "The entries about a picture with their proofs, or a proof that there is none.",
                _asked("plausible.lookup/1, canonical JSON."),
                query={"pixels": ("Pixel digest, 64 hex digits.", True), "file": ("File digest.", False)},
            ),
            Operation(
                "get",
                "/similar",
                "Entries with a near perceptual hash, for whom the operator allows.",
                _asked("plausible.similar/1.", {401: "Not with this token.", 404: "This log answers nobody."}),
                query={"pdq": ("A PDQ, 64 hex digits.", True), "within": ("Bits that may differ.", False)},
            ),
            _ALIVE,
            _ready("Whether the served checkpoint holds and is not too old, and entries can be stored."),
            Operation("get", "/{path}", "One of the log's files (C2SP tlog-tiles).", _FILES),
        ),
    ),
    "witness": (
        "A witness: pd node witness",
        (
            _ADD,
            _SUBTREE,
            _ALIVE,
            _ready("Whether it may sign."),
            Operation(
                "get",
                "/{digest}/checkpoint",
                "The last cosigned checkpoint of the log whose origin has this SHA-256, in hex.",
                _text({200: "The signed note.", 404: "None was cosigned.", 500: "The disk failed."}),
            ),
        ),
    ),
    "mirror": (
        "A mirror: pd node mirror",
        (
            _ADD,
            Operation(
                "post",
                "/add-entries",
                "Upload entries (C2SP tlog-mirror), plain or gzip.",
                _text(
                    {
                        200: "All is stored: cosignature lines.",
                        400: "Nothing in it can be used.",
                        404: "The log is not mirrored.",
                        415: "Another content type or coding.",
                        422: "Nothing is pending, or a package does not verify.",
                        429: "Too many uploads at once.",
                        500: "The disk failed.",
                        503: "It may not sign any more.",
                    }
                )
                | {
                    202: ("A part is stored: how to go on.", (MIRROR_INFO,)),
                    409: ("Out of step: how to go on.", (MIRROR_INFO,)),
                },
                BINARY,
            ),
            _SUBTREE,
            _ALIVE,
            _ready("Whether it may sign."),
            Operation("get", "/{digest}/{path}", "One of the copy's files.", _FILES | _text({500: "The disk failed."})),
        ),
    ),
}


def document(service: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a service."""
    title, operations = SERVICES[service]
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("digest", "path")
            if f"{{{name}}}" in operation.path
        ]
        parameters += [
            {"name": name, "in": "query", "required": must, "description": what, "schema": {"type": "string"}}
            for name, (what, must) in operation.query.items()
        ]
        found: dict[str, Any] = {"summary": operation.summary, "responses": _responses(operation.answers)}
        if parameters:
            found["parameters"] = parameters
        if operation.body:
            found["requestBody"] = {"required": True, "content": {operation.body: {}}}
        paths.setdefault(operation.path, {})[operation.method] = found
    info = {"title": title, "version": "1", "description": _EVERYWHERE}
    return {"openapi": "3.1.0", "info": info, "paths": paths}


def _responses(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, (what, kinds) in sorted(answers.items()):
        found[str(status)] = {"description": what, "content": {kind: {} for kind in kinds}}
        if status in HEADERS:
            found[str(status)]["headers"] = HEADERS[status]
    return found


__all__ = ["SERVICES", "Operation", "document"]
