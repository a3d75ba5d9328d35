"""The OpenAPI documents say what the services do: the same routes, and no answer that they do not name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from plausible.cli.main import main
from plausible.node.log.directory import open_log
from plausible.node.log.service import create_app as log_app
from plausible.node.mirror.mirror import Mirror
from plausible.node.mirror.service import create_app as mirror_app
from plausible.node.openapi import SERVICES, document
from plausible.node.server import create_app as serve_app
from plausible.node.serving import BODY_SECONDS
from plausible.node.witness.directory import open_witness
from plausible.node.witness.service import create_app as witness_app

from tests.ledger.falselog import Chain, FalseLog
from tests.node.log_process import make_log

ROOT = Path(__file__).resolve().parents[2]


def files(folder: Path) -> Path:
    FalseLog(folder / "public").grow(Chain().leaves(3))
    return folder


def witness(folder: Path) -> Path:
    assert main(["witness", "init", str(folder), "--name", "w.example/w", "--no-guard"]) == 0
    return folder


def mirror(folder: Path) -> Path:
    assert main(["mirror", "init", str(folder), "--name", "m.example/m", "--no-guard"]) == 0
    return folder


MAKE: dict[str, Callable[[Path], Path]] = {"serve": files, "log": make_log, "witness": witness, "mirror": mirror}


@contextlib.contextmanager
def application(service: str, folder: Path, *, body_seconds: float = BODY_SECONDS) -> Generator[Any]:
    if service == "serve":
        yield serve_app(folder)
    elif service == "log":
        with open_log(folder) as opened:
            yield log_app(opened, body_seconds=body_seconds)
            opened.keeper.close()
    elif service == "witness":
        with open_witness(folder) as opened_witness:
            yield witness_app(opened_witness, body_seconds=body_seconds)
    else:
        with Mirror(folder) as opened_mirror:
            yield mirror_app(opened_mirror, poll_seconds=None, body_seconds=body_seconds)


@pytest.mark.parametrize("service", SERVICES)
def test_the_documents_are_current(service: str) -> None:
    """`python docs/make_openapi.py` writes them; a change of an interface shows as a change of a file."""
    path = ROOT / "docs" / "openapi" / f"{service}.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(document(service)))


@pytest.mark.parametrize("service", SERVICES)
def test_the_routes_are_those_of_the_document(service: str, tmp_path: Path) -> None:
    written = {(op.method, op.path) for op in SERVICES[service][1]}
    with application(service, MAKE[service](tmp_path / service)) as app:
        found = {
            (method.lower(), re.sub(r":path\}", "}", route.path))
            for route in app.routes
            for method in route.methods - {"HEAD"}
        }
    assert found == written


REQUESTS: dict[str, list[tuple[str, str, bytes]]] = {
    "serve": [("GET", "/checkpoint", b""), ("GET", "/tile/0/000.p/3", b""), ("GET", "/nothing", b"")],
    "log": [
        ("POST", "/entry", b"nonsense"), ("POST", "/entries", b"\0\1x"), ("POST", "/entry?wait=never", b"x"),
        ("POST", "/entry", Chain().leaf()), ("POST", "/entry", b"x" * 70_000), ("GET", "/lookup", b""),
        ("GET", "/lookup?pixels=" + "00" * 32, b""), ("GET", "/similar?pdq=" + "00" * 32, b""),
        ("GET", "/checkpoint", b""), ("GET", "/nothing", b""),
    ],
    "witness": [
        ("POST", "/add-checkpoint", b"old 0\n\nnonsense"), ("POST", "/sign-subtree", b"x"),
        ("POST", "/add-checkpoint", b"x" * 200_000), ("GET", "/" + "00" * 32 + "/checkpoint", b""),
    ],
    "mirror": [
        ("POST", "/add-checkpoint", b"old 0\n\nnonsense"), ("POST", "/sign-subtree", b"x"),
        ("POST", "/add-entries", b"x"), ("GET", "/" + "00" * 32 + "/checkpoint", b""),
    ],
}  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_what_the_document_says(service: str, tmp_path: Path) -> None:
    with application(service, MAKE[service](tmp_path / service)) as app:
        asyncio.run(ask(service, app))


async def ask(service: str, app: Any) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node.example") as client:
        for method, path, body in [*REQUESTS[service], ("GET", "/healthz", b""), ("GET", "/readyz", b"")]:
            operation = operation_of(service, method, path)
            headers = {"Content-Type": operation.body} if operation.body else {}
            answer = await client.request(method, path, content=body or None, headers=headers, timeout=30)
            assert answer.status_code in operation.answers, (path, answer.status_code, answer.text[:200])
            kind = answer.headers["Content-Type"].partition(";")[0]
            assert kind in operation.answers[answer.status_code][1], (path, kind)


def operation_of(service: str, method: str, path: str) -> Any:
    """The operation that a request is for: the most literal path first."""
    plain = path.partition("?")[0]
    for operation in sorted(SERVICES[service][1], key=lambda op: op.path.count("{")):
        pattern = re.sub(r"\{digest\}", "[^/]+", re.sub(r"\{path\}", ".+", operation.path))
        if operation.method == method.lower() and re.fullmatch(pattern, plain):
            return operation
    raise AssertionError(path)
