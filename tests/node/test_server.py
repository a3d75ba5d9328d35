"""The served folder over a real socket: the log's files with their headers, and not one byte of anything else."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from plausible.node.server import IMMUTABLE, SHORT, create_app, public_folder, run
from plausible.schemas.errors import SetupError

SECRET = b"nobody may read this"  # as conftest.py writes it


@pytest.mark.parametrize(
    ("path", "content_type", "cache"),
    [
        ("checkpoint", "text/plain; charset=utf-8", SHORT),
        ("checkpoint.pending", "text/plain; charset=utf-8", SHORT),
        ("checkpoints/300", "text/plain; charset=utf-8", IMMUTABLE),
        ("tile/0/000", "application/octet-stream", IMMUTABLE),
        ("tile/0/001.p/44", "application/octet-stream", IMMUTABLE),
        ("tile/entries/000", "application/octet-stream", IMMUTABLE),
    ],
)
def test_the_logs_files_come_with_their_type_and_lifetime(
    served: str, public_ledger: Path, path: str, content_type: str, cache: str
) -> None:
    answer = httpx.get(f"{served}/{path}")
    assert answer.status_code == 200
    assert answer.content == (public_ledger / "public" / path).read_bytes()
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == cache
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = httpx.head(f"{served}/{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


def test_the_kept_sizes_are_listed(served: str, public_ledger: Path) -> None:
    answer = httpx.get(f"{served}/checkpoints/sizes")
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, "300\n", SHORT)
    assert not (public_ledger / "public/checkpoints/sizes").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/../vault.db",
        "/tile/../../vault.db",
        "/tile/0/%2e%2e/%2e%2e/%2e%2e/vault.db",
        "/..%2fvault.db",
        "/%2e%2e%2fkeys%2flog.key",
        "//etc/passwd",
        "/keys/log.key",
        "/vault.db",
        "/.temporary",
        "/notes.txt",
        "/tile",
        "/tile/0",
        "/tile/0/002",  # a link that leads out of the folder
        "/tile/64/000",
        "/tile/0/0",
        "/tile/0/1000",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/%D9%A1%D9%A1%D9%A1",  # digits, but not ASCII's
        "/checkpoints/",
        "/checkpoints/0300",
        "/checkpoint%00",
        "/checkpoint/",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(served: str, path: str) -> None:
    """Sent as written: an HTTP client would tidy the dots away."""
    address = urlsplit(served)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert SECRET not in body


def test_writing_methods_are_refused(served: str) -> None:
    assert httpx.post(f"{served}/checkpoint", content=b"x").status_code == 405
    assert httpx.delete(f"{served}/tile/0/000").status_code == 405


def test_a_ledger_or_its_public_folder_can_be_named(public_ledger: Path, tmp_path: Path) -> None:
    assert public_folder(public_ledger) == public_folder(public_ledger / "public")
    with pytest.raises(SetupError, match="no public/ folder"):
        create_app(tmp_path)
    with pytest.raises(SetupError, match="no public/ folder"):
        create_app(public_ledger / "keys")


def test_a_taken_address_is_said(served: str, public_ledger: Path) -> None:
    with pytest.raises(SetupError, match="cannot listen"):
        run(public_ledger, host="127.0.0.1", port=urlsplit(served).port or 0)
