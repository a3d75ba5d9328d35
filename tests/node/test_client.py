"""`HttpSource` against a real server, and against peers that are wrong, large, slow or gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from plausible.node.client import HttpSource
from plausible.schemas.errors import EvidenceError, PeerError, UsageError


def answering(handler: Callable[[httpx.Request], httpx.Response], **options: float) -> HttpSource:
    return HttpSource("https://log.example/p", transport=httpx.MockTransport(handler), pause=0.0, **options)  # type: ignore[arg-type]


def test_files_of_a_served_log(served: str, public_ledger: Path) -> None:
    with HttpSource(served + "/") as source:
        tile = (public_ledger / "public/tile/0/000").read_bytes()
        assert source.fetch("tile/0/000", 8192) == tile
        assert source.fetch("tile/0/003", 8192) is None
        with pytest.raises(EvidenceError, match="more than 8191 bytes"):
            source.fetch("tile/0/000", 8191)


@pytest.mark.parametrize("path", ["../vault.db", "/etc/passwd", "tile//0", "a/./b", "a?b", "a#b", "", "a b", "%2e%2e"])
def test_a_path_stays_inside_the_log(served: str, path: str) -> None:
    with HttpSource(served) as source, pytest.raises(EvidenceError, match="not a path"):
        source.fetch(path, 10)


@pytest.mark.parametrize("url", ["", "log.example", "ftp://log.example", "file:///etc", "https://", "https://a/?q"])
def test_not_an_address(url: str) -> None:
    with pytest.raises(UsageError):
        HttpSource(url)


def test_a_passing_failure_is_tried_again() -> None:
    codes, wait = iter((503, 429, 200)), {"Retry-After": "0"}
    with answering(lambda _: httpx.Response(next(codes), headers=wait, content=iter([b"ok"]))) as source:
        assert source.fetch("checkpoint", 10) == b"ok"


def test_a_lasting_failure_is_said_with_its_address() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(500)

    with (
        answering(handler) as source,
        pytest.raises(PeerError, match=r"https://log\.example/p/checkpoint answered 500"),
    ):
        source.fetch("checkpoint", 10)
    assert len(seen) == 3


@pytest.mark.parametrize("code", [204, 301, 302, 400, 403, 418])
def test_any_other_answer_is_a_peer_error(code: int) -> None:
    answer = httpx.Response(code, headers={"Location": "http://elsewhere.example/"} if code in (301, 302) else {})
    with answering(lambda _: answer) as source, pytest.raises(PeerError, match=str(code)):
        source.fetch("checkpoint", 10)


def test_a_compressed_answer_is_refused() -> None:
    """One kilobyte can unpack to a gigabyte."""
    headers = {"Content-Encoding": "gzip"}
    with answering(lambda _: httpx.Response(200, headers=headers, content=b"")) as source, pytest.raises(PeerError):
        source.fetch("checkpoint", 10)


def test_an_endless_answer_is_cut_off() -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1000)

    with answering(lambda _: httpx.Response(200, content=body())) as source, pytest.raises(EvidenceError):
        source.fetch("checkpoint", 10_000)
    assert sent <= 12


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpSource(f"http://127.0.0.1:{port}", pause=0.0) as source, pytest.raises(PeerError, match="cannot be read"):
        source.fetch("checkpoint", 10)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"\x00garbage\r\n\r\n"])
def test_a_peer_that_breaks_off_or_speaks_no_http(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            HttpSource(f"http://127.0.0.1:{listener.getsockname()[1]}", tries=1) as source,
            pytest.raises(PeerError, match="cannot be read"),
        ):
            source.fetch("checkpoint", 1000)
        thread.join()


def test_a_silent_peer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with HttpSource(address, timeout=0.2, tries=1) as source, pytest.raises(PeerError):
            source.fetch("checkpoint", 1000)


def test_a_dripping_peer_is_given_up() -> None:
    """Each byte in time, the whole never."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with HttpSource(address, deadline=0.3) as source, pytest.raises(PeerError, match="longer than"):
                source.fetch("checkpoint", 1_000_000)
        finally:
            stop.set()
            thread.join()
