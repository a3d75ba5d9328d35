"""Recording into a log elsewhere: the same wrap, a log that is away, killed, restored or false, and a forked chain."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from plausible.ledger import Ledger
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.note import VerifierKey
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.ledger.writing.receipt import NotYet
from plausible.node.sender import open_ledger
from plausible.node.sender.client import Forked, LogClient, Refused
from plausible.node.sender.settings import read_settings
from plausible.schemas.errors import PeerError, SetupError, UsageError

from tests.ledger.studio import AUTHOR, manifest, picture
from tests.node.log_process import ANNA, MadeChain, make_log, policy_of, running
from tests.node.test_cosigning import until


def studio(path: Path) -> VerifierKey:
    """A ledger without witnesses and with the model `m`; its author's key."""
    with Ledger.init(path, author=AUTHOR) as ledger:
        ledger.register_model("m", manifest=manifest())
        return ledger.author


def allowing(folder: Path, author: VerifierKey) -> Path:
    """A log that takes this author's entries."""
    made = make_log(folder)
    with (made / "authors.txt").open("a") as file:
        file.write(f"author {author}\n")
    return made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def numbered() -> Callable[[int], NDArray[np.uint8]]:
    """A generator: another picture for every number."""

    def generate(number: int) -> NDArray[np.uint8]:
        return picture(number)

    return generate


def test_the_same_wrap_with_a_url(tmp_path: Path) -> None:
    """Wrapped as ever; what is witnessed is proven under the log's policy, and the record stays here."""
    folder = allowing(tmp_path / "log", studio(tmp_path / "studio"))
    policy = policy_of(folder)
    with running(folder) as (at, _):
        with open_ledger(at, tmp_path / "studio", policy=policy.source, await_state="witnessed") as ledger:
            generate = ledger.wrap(numbered(), model="m")
            assert np.array_equal(generate(1), picture(1)) and np.array_equal(generate(2), picture(2))
            receipt = ledger.append(image=picture(3), model="m").wait("witnessed", 30)
            document = receipt.to_document()
            assert document.state == "witnessed" and document.index is not None
            assert receipt.index is not None
            assert ledger.sender is not None
            proof = TlogProof.parse(ledger.sender.proof(receipt.index))  # type: ignore[attr-defined]
            assert proof.index == document.index
            verify_proof(proof, hash_leaf(ledger.entry(receipt.index)), policy)
            assert ledger.opening(receipt.index)
        assert httpx.get(f"{at}/checkpoint").text.split("\n")[1] == "4"
        with pytest.raises(UsageError, match="sends to"):
            open_ledger("http://127.0.0.1:1", tmp_path / "studio")


@pytest.mark.long
def test_a_log_that_is_away_holds_up_nobody(tmp_path: Path) -> None:
    """Generation goes on at its own pace; everything is there when the log comes, also after this program ended."""
    folder = allowing(tmp_path / "log", studio(tmp_path / "studio"))
    policy, port = policy_of(folder), free_port()
    url = f"http://127.0.0.1:{port}"
    with open_ledger(url, tmp_path / "studio", policy=policy.source) as ledger:
        began = time.monotonic()
        receipts = [ledger.append(image=picture(n), model="m") for n in range(30)]
        for receipt in receipts:
            receipt.wait("accepted", 20)
        assert time.monotonic() - began < 10
        with pytest.raises(NotYet, match="cannot be reached"):
            receipts[-1].wait("witnessed", 2.5)
        assert receipts[-1].state == "accepted"
    with running(folder, port=port), open_ledger(url, tmp_path / "studio") as ledger:
        ledger.flush("witnessed", 40)
        last = ledger.append(image=picture(99), model="m").wait("witnessed", 40)
        assert last.to_document().index == 31  # the model, thirty pictures, this one


@pytest.mark.long
def test_a_log_that_is_killed_or_lost_entries_gets_them_again(tmp_path: Path) -> None:
    folder = allowing(tmp_path / "log", studio(tmp_path / "studio"))
    policy, port = policy_of(folder), free_port()
    url = f"http://127.0.0.1:{port}"
    empty = tmp_path / "empty"
    shutil.copytree(folder, empty)
    with open_ledger(url, tmp_path / "studio", policy=policy.source) as ledger:
        with running(folder, port=port) as (_, process):
            ledger.append(image=picture(1), model="m").wait("witnessed", 30)
            process.kill()
            process.wait(20)
        receipt = ledger.append(image=picture(2), model="m").wait("accepted", 20)
        with running(folder, port=port):
            receipt.wait("witnessed", 40)
    # put back as it was when it was empty: it takes nothing twice, and what it lost is sent again
    shutil.rmtree(folder)
    shutil.copytree(empty, folder)
    with running(folder, port=port), open_ledger(url, tmp_path / "studio") as ledger:
        ledger.append(image=picture(3), model="m").wait("witnessed", 40)
        assert httpx.get(f"{url}/checkpoint").text.split("\n")[1] == "4"


@pytest.mark.long
def test_a_second_copy_of_the_ledger_is_noticed(tmp_path: Path) -> None:
    """Two copies write one chain: the second one's entries are never sent, and it says why."""
    folder = allowing(tmp_path / "log", studio(tmp_path / "studio"))
    policy = policy_of(folder)
    shutil.copytree(tmp_path / "studio", tmp_path / "copy")
    with running(folder) as (at, _):
        with open_ledger(at, tmp_path / "studio", policy=policy.source) as ledger:
            ledger.append(image=picture(1), model="m").wait("witnessed", 30)
        with open_ledger(at, tmp_path / "copy", policy=policy.source) as ledger:
            receipt = ledger.append(image=picture(2), model="m").wait("accepted", 20)
            assert ledger.sender is not None
            until(lambda: "another copy" in (ledger.sender.trouble or ""))  # type: ignore[union-attr]
            assert receipt.state == "accepted"
        assert httpx.get(f"{at}/checkpoint").text.split("\n")[1] == "2"


@pytest.mark.long
def test_an_author_who_is_not_allowed_waits(tmp_path: Path) -> None:
    """...and is sent once the operator has added the key."""
    author = studio(tmp_path / "studio")
    folder = make_log(tmp_path / "log")
    with running(folder) as (at, _), open_ledger(at, tmp_path / "studio", policy=policy_of(folder).source) as ledger:
        receipt = ledger.append(image=picture(1), model="m")
        assert ledger.sender is not None
        until(lambda: "403" in (ledger.sender.trouble or ""))  # type: ignore[union-attr]
        with (folder / "authors.txt").open("a") as file:
            file.write(f"author {author}\n")
        receipt.wait("witnessed", 40)


def test_answers_are_read_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that answers nonsense is a peer's fault, told in one sentence, and tried again only where that may help."""
    monkeypatch.setattr("plausible.node.sender.client.PAUSE_SECONDS", 0.001)
    leaves = MadeChain(ANNA).several(2)
    asked: list[int] = []

    def client(status: int, body: bytes) -> LogClient:
        def answer(_request: httpx.Request) -> httpx.Response:
            asked.append(status)
            return httpx.Response(status, stream=httpx.ByteStream(body))

        made = LogClient("http://log.example")
        made._client = httpx.Client(transport=httpx.MockTransport(answer))
        return made

    for status, body, error, times in (
        (200, b"", PeerError, 1),
        (200, b"{}\n{}\n", PeerError, 1),
        (200, b"x" * (1 << 21), PeerError, 1),
        (409, b"no head", PeerError, 1),
        (403, b"takes no entries\x1b[31m", Refused, 1),
        (429, b"", PeerError, 3),
        (503, b"later", PeerError, 3),
    ):
        asked.clear()
        with pytest.raises(error) as caught:
            client(status, body).send(leaves)
        assert not isinstance(caught.value, Forked) and "\x1b" not in str(caught.value)
        assert len(asked) == times, status
    for url in ("ftp://log.example", "log.example", "http://log.example/?x"):
        with pytest.raises(UsageError):
            LogClient(url)


def test_settings(tmp_path: Path) -> None:
    studio(tmp_path / "studio")
    with pytest.raises(SetupError, match="--send-to"):
        open_ledger("http://127.0.0.1:1", tmp_path / "studio")
    with pytest.raises(UsageError, match="cannot be used"):
        open_ledger("http://127.0.0.1:1", tmp_path / "studio", policy=b"nonsense\n")
    log = policy_of(make_log(tmp_path / "log"))
    open_ledger("http://127.0.0.1:1/", tmp_path / "studio", policy=log.source).close()
    assert read_settings(tmp_path / "studio").url == "http://127.0.0.1:1"
