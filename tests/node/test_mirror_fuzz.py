"""Bodies that no client sends: a mirror answers each with a status of the protocol, and goes on."""

from __future__ import annotations

import gzip
import random
import resource
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from plausible.ledger.witness import AddCheckpointRequest
from plausible.node.mirror.directory import LogSettings, make
from plausible.node.mirror.mirror import Mirror
from plausible.node.mirror.push import MirrorClient

from tests.node.mirrors import LOG, NAME
from tests.node.test_mirror_push import TREE, note, serving, show, upload

ENTRIES = {200, 202, 400, 404, 409, 422}
CHECKPOINT = {200, 400, 403, 404, 409, 422}


@pytest.fixture
def client(tmp_path: Path) -> Generator[MirrorClient]:
    make(tmp_path / "m", NAME, guard=tmp_path / "m.count")
    with Mirror(tmp_path / "m") as mirror:
        mirror.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name))
        with serving(mirror) as at:
            made = MirrorClient(at)
            assert show(made, 0, 700) == 200
            yield made
            made.close()


def bent(body: bytes, rng: random.Random) -> bytes:
    """A body with a few bytes changed, cut out, doubled or put in; often near its beginning, where lengths stand."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(min(len(data), 60)) if rng.random() < 0.6 else rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place : place + rng.choice((1, 2, 300, 5000))]
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.choice((1, 2, 8, 70)))
        else:
            data[place : place + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
        data = data or bytearray(b"\0")
    return bytes(data)


def fuzz(client: MirrorClient, count: int, seed: int) -> Counter[int]:
    rng, seen = random.Random(seed), Counter[int]()
    uploads = [upload(0, 700).encode(), upload(0, 700, parts=1).encode(), upload(250, 700, parts=1).encode()]
    heads = [AddCheckpointRequest(700, tuple(TREE.consistency(700, 900)), note(900)).encode()]
    for number in range(count):
        if number % 4 == 3:
            answer = client.ask("POST", f"{client.url}/add-checkpoint", bent(heads[0], rng))
            allowed = CHECKPOINT
        else:
            body, headers = bent(rng.choice(uploads), rng), {"Content-Type": "application/octet-stream"}
            if rng.random() < 0.1:
                headers["Content-Encoding"] = "gzip"
                packed = gzip.compress(body)
                body = packed if rng.random() < 0.5 else bent(packed, rng)
            answer = client.ask("POST", f"{client.url}/add-entries", body, **headers)
            allowed = ENTRIES
        assert answer.status in allowed, (seed, number, answer.told)
        seen[answer.status] += 1
    return seen


def check_alive(client: MirrorClient) -> None:
    """It still does what it should."""
    answer = client.add_entries(upload(0, 700))
    if answer.status == 409:  # a bent head that stayed valid moved the pending one
        answer = client.add_entries(upload(0, 900))
    assert answer.status == 200


def test_every_answer_is_one_of_the_protocols(client: MirrorClient) -> None:
    seen = fuzz(client, 150, 1)
    assert {400, 422} <= set(seen)
    check_alive(client)


@pytest.mark.long
def test_a_hundred_thousand(client: MirrorClient) -> None:
    fuzz(client, 1_000, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzz(client, 100_000, 3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (200 << (20 if sys.platform == "darwin" else 10))  # kB on Linux, bytes on macOS
    check_alive(client)
