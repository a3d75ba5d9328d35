"""Clients that drip, fall silent or announce too much are cut off by every service, while others are served."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from plausible.ledger.merkle.tiles import MAX_ENTRY_BYTES
from plausible.ledger.witness import MAX_REQUEST_BYTES
from plausible.node.log.requests import MAX_BATCH_BYTES

from tests.node.test_openapi import MAKE, SERVICES

SERVER = """
import sys
from pathlib import Path
from plausible.node.serving import run
from tests.node.test_openapi import application
with application(sys.argv[1], Path(sys.argv[2]), body_seconds=0.5) as app:
    run(app, host="127.0.0.1", port=0, head_seconds=0.5, ready=lambda at: print(at, flush=True))
"""
HTTP = "POST {} HTTP/1.1\r\nHost: n\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n"
CUT_SECONDS = 20.0
"""Far above the half second that is allowed: what is shown is an end, not when."""


@pytest.fixture(scope="module", params=list(SERVICES))
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, int]]:
    """A service's name and port; it allows half a second for heads and for bodies."""
    folder = MAKE[request.param](tmp_path_factory.mktemp("slow") / request.param)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", SERVER, request.param, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield request.param, int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def connected(port: int) -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=CUT_SECONDS) as made:
        yield made


def alive(port: int) -> None:
    with connected(port) as other:
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 200")


def dripped(port: int, data: bytes) -> bytes:
    """What a client gets that sends a byte each 50 ms until it is cut off; others are served meanwhile."""
    got, end = bytearray(), time.monotonic() + CUT_SECONDS
    with connected(port) as slow:
        reader = threading.Thread(target=lambda: got.extend(everything(slow)))
        reader.start()
        with contextlib.suppress(OSError):
            for place in range(len(data)):
                slow.sendall(data[place : place + 1])
                reader.join(0.05)
                if not reader.is_alive():
                    break
                assert time.monotonic() < end, "it was not cut off"
                if place == 5:
                    alive(port)
        reader.join(CUT_SECONDS)
        assert not reader.is_alive()
    return bytes(got)


def everything(open_socket: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := open_socket.recv(65536):
            data += part
    return data


def paths(name: str) -> tuple[str, ...]:
    return {
        "serve": (), "log": ("/entry", "/entries"), "witness": ("/add-checkpoint", "/sign-subtree"),
        "mirror": ("/add-checkpoint", "/add-entries", "/sign-subtree"),
    }[name]  # fmt: skip


def test_a_head_byte_by_byte(service: tuple[str, int]) -> None:
    assert dripped(service[1], b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 200) == b""


def test_a_body_byte_by_byte(service: tuple[str, int]) -> None:
    name, port = service
    for path in paths(name):
        with connected(port) as slow:
            slow.sendall(HTTP.format(path, 2000).encode())
            got = bytearray()
            reader = threading.Thread(target=lambda into, of: into.extend(everything(of)), args=(got, slow))
            reader.start()
            end = time.monotonic() + CUT_SECONDS
            with contextlib.suppress(OSError):
                for byte in itertools.chain(b"\x00\xc8", itertools.repeat(ord("a"))):  # an upload of a long name
                    if not reader.is_alive():
                        break
                    slow.sendall(bytes([byte]))
                    reader.join(0.05)
                    assert time.monotonic() < end, f"{path} was not cut off"
            reader.join(CUT_SECONDS)
            if path == "/add-entries":  # what came would count, if it were something
                assert b"ends before its entries" in got
            else:
                assert bytes(got).startswith(b"HTTP/1.1 408"), (path, got)
        alive(port)


def test_more_than_is_taken_is_refused_before_it_is_sent(service: tuple[str, int]) -> None:
    name, port = service
    limits = {"/entry": MAX_ENTRY_BYTES, "/entries": MAX_BATCH_BYTES}
    for path in paths(name):
        if path == "/add-entries":  # it has no limit: it is read package by package
            continue
        with connected(port) as large:
            large.sendall(HTTP.format(path, limits.get(path, MAX_REQUEST_BYTES) + 1).encode())
            assert everything(large).startswith(b"HTTP/1.1 413"), path
    alive(port)


def test_a_body_that_nobody_asked_for(service: tuple[str, int]) -> None:
    """A file's GET with a body that never ends is answered, and its connection does not stay."""
    name, port = service
    path = "/healthz"
    with connected(port) as slow:
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000\r\n\r\n".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 200"), name
        end = time.monotonic() + CUT_SECONDS
        with contextlib.suppress(OSError):
            while True:
                slow.sendall(b"\0")
                time.sleep(0.05)
                assert time.monotonic() < end, "it was not cut off"
    alive(port)


def test_many_silent_connections_keep_nobody_out(service: tuple[str, int]) -> None:
    port = service[1]
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(100)]
        alive(port)
        assert all(everything(one) == b"" for one in silent)
    alive(port)
