"""Requests that stop being HTTP half-way: who sent them is answered or cut off, and the operator's log stays clean."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

SERVER = """
import logging
from plausible.node.serving import application, run
logging.basicConfig()
run(application("n"), host="127.0.0.1", port=0, ready=lambda at: print(at, flush=True))
"""
HEAD = b"HEAD /nothing HTTP/1.1\r\nHost: n\r\n"
POST = b"POST /nothing HTTP/1.1\r\nHost: n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = b"Content-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[int, Path]]:
    """The port of a service without routes, and the file with what it tells its operator."""
    root, told = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("broken") / "told"
    with (
        told.open("w") as sink,
        subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=sink, text=True, cwd=root
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rsplit(":", 1)[1]), told
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD + CHUNKED + b"P/1.1\r\n"], id="a HEAD with a broken chunk, whose answer may have no body"),
        pytest.param([HEAD + WHOLE + HEAD + CHUNKED + b"P/1.1\r\n"], id="the same behind another request"),
        pytest.param([POST + WHOLE + POST + CHUNKED + b"P/1.1\r\n"], id="a POST behind another"),
        pytest.param([POST + CHUNKED, b"P/1.1\r\n"], id="broken after it was answered"),
        pytest.param([POST + CHUNKED + b"5\r\nab", b"cdeXX\r\n"], id="broken at the end of a chunk"),
        pytest.param([HEAD + WHOLE + b"\x00\x01\r\n\r\n"], id="no request behind one"),
    ],
)
def test_a_request_that_stops_being_http(service: tuple[int, Path], pieces: list[bytes]) -> None:
    port, told = service
    before = told.read_text("utf-8")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        got = b""
        for piece in pieces:
            client.sendall(piece)
            got += client.recv(65536)
        while part := client.recv(65536):
            got += part
    assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as other:
        other.sendall(POST + WHOLE)
        assert other.recv(65536).startswith(b"HTTP/1.1 404")
    assert told.read_text("utf-8") == before
