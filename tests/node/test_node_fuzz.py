"""Services under mutated bodies and requests: no fault in a few hundred; and the fuzzer sees what it looks for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from benchmarks.node.fuzz import Outcome, Run, main
from benchmarks.node.targets import TARGETS, Kind, Target, get, post


@pytest.mark.parametrize("service", ["witness", "mirror"])
def test_a_few_hundred(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["-n", "150", "--service", service])
    assert status == 0, capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("service", TARGETS)
def test_ten_thousand(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["-n", "10000", "--service", service])
    assert status == 0, capsys.readouterr().out


class Answering(BaseHTTPRequestHandler):
    """Answers a POST with whatever the test says."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    kind: ClassVar[str] = "text/plain"

    def do_GET(self) -> None:
        self._say(200, b"alive", "text/plain")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.status == 0:
            self.close_connection = True
            return
        self._say(self.status, self.body, self.kind)

    def _say(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def fuzz(tmp_path: Path) -> Generator[Callable[[type[Answering]], Outcome]]:
    """A false server of the given kind is fuzzed as if it were a witness."""
    servers: list[ThreadingHTTPServer] = []

    def run(handler: type[Answering]) -> Outcome:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "told").touch()
        process = cast(Any, SimpleNamespace(pid=os.getpid()))
        kind = Kind("x", "/add-checkpoint", [b"old 0\n"], lambda _rng, data: (post("/add-checkpoint", data), False))
        target = Target("witness", process, server.server_port, tmp_path / "told", [kind], lambda: (get("/x"), 200))
        return Run(target, kind, 20, "1").go()

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_answers_that_the_document_names_are_no_fault(fuzz: Callable[[type[Answering]], Outcome]) -> None:
    outcome = fuzz(Answering)
    assert (outcome.statuses, outcome.counts) == ({200: 20}, {})
    assert outcome.checks >= 1


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [(500, "text/plain", "5xx"), (503, "text/plain", "5xx"), (0, "", "lost"), (418, "text/plain", "unnamed"),
     (200, "text/html", "unnamed")],
)  # fmt: skip
def test_faults_are_seen(fuzz: Callable[[type[Answering]], Outcome], status: int, kind: str, fault: str) -> None:
    said, content = status, kind

    class Wrong(Answering):
        status = said
        kind = content

    assert fuzz(Wrong).counts == {fault: 20}


def test_a_service_that_does_not_do_its_work_is_seen(fuzz: Callable[[type[Answering]], Outcome]) -> None:
    class Tired(Answering):
        def do_GET(self) -> None:
            self._say(404, b"", "text/plain")

    assert fuzz(Tired).counts["hung"] >= 2  # healthz, and what was valid
