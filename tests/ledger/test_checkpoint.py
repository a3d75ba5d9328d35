"""Checkpoints against a real log's fifteen, and against spellings that must not pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import EMPTY_ROOT, MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint, open_checkpoint
from plausible.ledger.notes.note import ED25519, SignerKey, VerifierKey
from plausible.schemas.errors import EvidenceError

ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_checkpoints_of_a_real_log(vectors: Any) -> None:
    log = vectors("tiled_log_15_entries.json")
    key = VerifierKey.parse(log["log_vkey"])
    grown = MemoryTree(hash_leaf(entry.encode()) for entry in log["entries_utf8"])
    for size, note in log["checkpoints"].items():
        checkpoint, signed = open_checkpoint(note.encode(), [key], "example.com/log/testdata")
        assert (checkpoint.size, checkpoint.root) == (int(size), grown.root(int(size)))
        assert checkpoint.text == signed.text


def test_sign_and_open() -> None:
    signer = SignerKey.generate("log.example")
    checkpoint = Checkpoint("log.example", 1, hash_leaf(b"x"))
    data = checkpoint.sign(signer).encode()
    assert open_checkpoint(data, [signer.verifier])[0] == checkpoint
    with pytest.raises(EvidenceError, match="of log"):
        open_checkpoint(data, [signer.verifier], "other.example")
    with pytest.raises(EvidenceError, match="no signature"):
        open_checkpoint(data, [SignerKey("log.example", ED25519, bytes(32)).verifier])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "log\n",
        "log\n0\n",
        f"log\n0\n{ROOT}",
        f"\n0\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n0\n{ROOT}\n\n",
        f"log\n0\n{ROOT}\n\next\n",
        f"log\n00\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n 1\n{ROOT}\n",
        f"log\n1 \n{ROOT}\n",
        f"log\n1_0\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n\u0661\n{ROOT}\n",
        f"log\nfive\n{ROOT}\n",
        f"log\n9223372036854775808\n{ROOT}\n",
        f"log\n1\n{ROOT[:-1]}\n",
        f"log\n1\n {ROOT}\n",
        f"log\n1\n{ROOT[:-2]}V=\n",
        "log\n1\nAAAA\n",
        "log\n0\n" + "A" * 43 + "=\n",
        f"lo\tg\n0\n{ROOT}\n",
        f"log\n0\n{ROOT}\r\n",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(EvidenceError):
        Checkpoint.parse(text)


def test_extension_lines_are_read_and_kept() -> None:
    text = f"log\n0\n{ROOT}\nsomething else\n"
    checkpoint = Checkpoint.parse(text)
    assert checkpoint.extensions == ("something else",)
    assert checkpoint.text == text
    assert checkpoint.root == EMPTY_ROOT


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_only_one_spelling(data: st.DataObject) -> None:
    text = f"log.example/x\n{data.draw(st.integers(1, 2**64))}\n{ROOT}\n"
    place = data.draw(st.integers(0, len(text)))
    bent = text[:place] + data.draw(st.text(max_size=2)) + text[place + data.draw(st.integers(0, 2)) :]
    try:
        checkpoint = Checkpoint.parse(bent)
    except EvidenceError:
        return
    assert checkpoint.text == bent
