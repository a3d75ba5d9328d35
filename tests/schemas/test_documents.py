"""Documents: generated schemas are current, receipts and manifests keep their rules, one byte form each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plausible.ledger.entries.digests import model_manifest
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError
from plausible.schemas.generate import DOCUMENTS, FOLDER, schema_text
from plausible.schemas.manifest import Manifest
from plausible.schemas.receipt import Receipt
from plausible.schemas.text import digest_text

LEAF = digest_text(bytes(32))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_the_json_schemas_are_current(name: str) -> None:
    path = FOLDER / f"{name}.json"
    assert path.read_text(encoding="utf-8") == schema_text(name), "run python -m plausible.schemas.generate"


def test_no_schema_without_its_model() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DOCUMENTS)


def receipt(**changes: Any) -> bytes:
    value = {"format": "plausible.receipt/1", "index": 4, "leaf": LEAF, "size": 5, "state": "witnessed"}
    return jcs.encode(value | changes)


def test_receipts_of_every_state() -> None:
    for data in (
        receipt(),
        receipt(state="sequenced"),
        receipt(state="accepted", index=None, size=None),
    ):
        assert Receipt.parse(data).to_jcs() == data


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "accepted"},
        {"index": None},
        {"size": None},
        {"size": 4},
        {"index": None, "size": None},
        {"state": "spooled"},
        {"format": "plausible.receipt/2"},
        {"signature": "x"},
        {"index": "4"},
        {"index": True},
    ],
)
def test_receipts_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        Receipt.parse(receipt(**changes))


def test_a_field_left_out_is_refused_even_where_it_has_a_default() -> None:
    value = json.loads(receipt())
    del value["format"]
    with pytest.raises(EvidenceError, match="leaves out"):
        Receipt.parse(jcs.encode(value))


def test_messages_do_not_show_values() -> None:
    with pytest.raises(EvidenceError) as caught:
        Receipt.parse(receipt(leaf="a private prompt"))
    assert "private" not in str(caught.value)
    assert "leaf" in str(caught.value)


def test_a_manifest_made_here_is_read_back() -> None:
    tensors = [("b", "float32", [2], bytes(32)), ("a", "float32", [], bytes(32)), ("é", "int64", [1], bytes(32))]
    made = model_manifest("dcgan-64", {"z": 100}, {"rounding": "round_half_even_255", "psi": 0.7}, tensors)
    data = jcs.encode(made)
    manifest = Manifest.parse(data)
    assert manifest.to_jcs() == data
    assert [row.name for row in manifest.tensors] == ["a", "b", "é"]
    made["tensors"].reverse()
    with pytest.raises(EvidenceError, match="sorted"):
        Manifest.parse(jcs.encode(made))
    made["tensors"] = [made["tensors"][0]] * 2
    with pytest.raises(EvidenceError, match="twice"):
        Manifest.parse(jcs.encode(made))
