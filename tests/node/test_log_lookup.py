"""Lookups: an entry with its proof, the proof that there is none, and hashes for whom the developer allows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from plausible.ledger.absence.note import IndexPolicy
from plausible.ledger.absence.proof import AbsenceProof, verify_absence
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.node.log.similar import Similar
from plausible.schemas.errors import EvidenceError, SetupError

from tests.node.log_process import ANNA, BERT, MadeChain, bundle, make_log, policy_of, running
from tests.node.test_cosigning import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_log(tmp_path_factory.mktemp("log") / "shared.log")
    text = (made / "service.toml").read_text()
    text = text.replace("# [similar]", "[similar]").replace("# hashes", "hashes").replace("# token", "token")
    (made / "service.toml").write_text(text)
    (made / "similar.txt").write_text(f"0 {'00' * 32}\n7 {'00' * 31}ff\n9 {'ff' * 32}\n")
    (made / "keys" / "similar.token").write_text("a-token-that-nobody-guesses\n")
    return made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with running(folder) as (at, _), httpx.Client(base_url=at, timeout=30) as made:
        yield made


def looked_up(client: httpx.Client, **query: str) -> dict[str, Any]:
    answer = client.get("/lookup", params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert json.dumps(found, separators=(",", ":"), sort_keys=True) == answer.text
    return found


def test_a_logged_picture_is_found_with_its_proof(client: httpx.Client, folder: Path) -> None:
    """...by anybody who has the picture, and the proof holds under the policy without asking the log again."""
    chain = MadeChain(ANNA)
    leaves = chain.several(3)
    assert client.post("/entries?wait=witnessed", content=bundle(leaves)).status_code == 200
    found = looked_up(client, pixels=chain.pixels(1).hex())
    assert found["count"] == 1 and found["absence"] is None
    proof = TlogProof.parse(base64.b64decode(found["entries"][0]["proof"]))
    assert proof.extra == leaves[1] and proof.index == found["entries"][0]["index"]
    verify_proof(proof, hash_leaf(leaves[1]), policy_of(folder))
    generation = parse_entry(leaves[1]).generation
    assert generation is not None and generation.pixels == chain.pixels(1)


def test_a_picture_that_is_not_there_is_proven_absent(client: httpx.Client, folder: Path) -> None:
    chain = MadeChain(BERT)
    leaf = chain.next()
    absent = chain.pixels(1)
    client.post("/entry?wait=witnessed", content=leaf)
    until(lambda: looked_up(client, pixels=absent.hex())["absence"] is not None)
    data = base64.b64decode(looked_up(client, pixels=absent.hex())["absence"])
    index_key = read_key(folder / "keys" / "index.key").verifier
    trust = IndexPolicy.parse(f"log {index_key}\nquorum none\n".encode())
    evidence = verify_absence(
        AbsenceProof.parse(data), pixels=absent, file=None, policy=policy_of(folder), index_policy=trust
    )
    assert evidence.absent
    # logged now, and found at once: the index may follow later, the lookup does not wait for it
    client.post("/entry?wait=witnessed", content=chain.next())
    assert looked_up(client, pixels=absent.hex())["count"] == 1


def test_queries_are_read_strictly(client: httpx.Client) -> None:
    for query in ({}, {"pixels": "00"}, {"pixels": "G" * 64}, {"pixels": "00" * 32, "x": "1"}, {"file": "00" * 32}):
        assert client.get("/lookup", params=query).status_code == 400, query


def test_similar_pictures_for_whom_the_developer_allows(client: httpx.Client, tmp_path: Path) -> None:
    query = {"pdq": "00" * 31 + "01"}
    assert client.get("/similar", params=query).status_code == 401
    assert client.get("/similar", params=query, headers={"Authorization": "Bearer guess"}).status_code == 401
    allowed = {"Authorization": "Bearer a-token-that-nobody-guesses"}
    found = client.get("/similar", params=query, headers=allowed).json()
    assert found["entries"] == [{"distance": 1, "index": 0}, {"distance": 7, "index": 7}]
    assert client.get("/similar", params={**query, "within": "1000"}, headers=allowed).status_code == 400
    with running(make_log(tmp_path / "off")) as (at, _):
        assert httpx.get(f"{at}/similar", params=query, headers=allowed).status_code == 404


def test_hashes_and_tokens_are_read_strictly(tmp_path: Path) -> None:
    hashes, token = tmp_path / "similar.txt", tmp_path / "token"
    hashes.write_text("")
    token.write_text("short")
    with pytest.raises(SetupError, match="guesses"):
        Similar(hashes, token)
    token.write_text("a-token-that-nobody-guesses")
    similar = Similar(hashes, token)
    assert json.loads(similar.answer({"pdq": "00" * 32}))["entries"] == []
    hashes.write_text(f"5 {'00' * 32}\n")
    assert json.loads(similar.answer({"pdq": "00" * 32}))["entries"] == [{"distance": 0, "index": 5}]
    for wrong in ({"pdq": "00"}, {"pdq": "00" * 32, "within": "-1"}, {}):
        with pytest.raises(EvidenceError):
            similar.answer(wrong)
    for text in ("x 00\n", f"05 {'00' * 32}\n", f"5  {'00' * 32}\n"):
        hashes.write_text(text)
        with pytest.raises(SetupError, match="line 1"):
            Similar(hashes, token)
