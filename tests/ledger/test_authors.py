"""authors.txt: whom a verifier believes, and up to where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.entries.authors import Authors
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.schemas.errors import EvidenceError, PolicyError

from tests.ledger import keys

VKEY, OTHER = keys.AUTHOR.verifier.encode(), keys.OTHER.verifier.encode()


def test_a_file_with_comments_and_a_revocation() -> None:
    text = f"# whom we believe\n\nauthor {VKEY}\nauthor\t{OTHER}  log.example 12 \n"
    authors = Authors.parse(text)
    assert [author.name for author in authors.authors] == ["models.example/studio", "other.example/studio"]
    assert authors.source == text.encode()
    assert authors.check(VKEY).key == keys.AUTHOR.verifier
    assert authors.revocation(VKEY) == "not checked"
    assert authors.revocation(OTHER) == "revoked: log.example from index 12"
    assert len(authors.named("models.example/studio")) == 1
    assert authors.named("nobody") == ()
    assert authors == Authors.parse(text.encode())


def test_a_revoked_key_counts_below_its_index_and_nowhere_else() -> None:
    authors = Authors.parse(f"author {OTHER} log.example 12\nauthor {OTHER} b.example 0\n")
    assert authors.check(OTHER, 11, "log.example").name == "other.example/studio"
    for index, origin in ((12, "log.example"), (13, "log.example"), (0, "b.example"), (3, "c.example")):
        with pytest.raises(PolicyError, match="revoked"):
            authors.check(OTHER, index, origin)
    for index, origin in ((None, None), (3, None), (None, "log.example")):
        with pytest.raises(PolicyError, match="nothing shows"):
            authors.check(OTHER, index, origin)


def test_nobody_else_is_believed() -> None:
    with pytest.raises(PolicyError, match="not among"):
        Authors.of([keys.OTHER.verifier]).check(VKEY)
    with pytest.raises(PolicyError, match="not among"):
        Authors.parse("").check(VKEY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("witness x", "form"),
        (f"author {VKEY} log.example", "form"),
        (f"author {VKEY} log.example 1 2", "form"),
        ("author", "form"),
        (f"author {VKEY} log.example -1", "decimal"),
        (f"author {VKEY} log.example 01", "decimal"),
        (f"author {VKEY[:-1]}", "line 1"),
        (f"author {VKEY.replace('8c7402d5', '8c7402d6')}", "key ID"),
        (f"author {VKEY}\nauthor {VKEY}", "line 2: .*twice"),
        (f"author {VKEY}\nauthor {VKEY} log.example 3", "twice"),
        (f"author {VKEY} log.example 3\nauthor {VKEY}", "twice"),
        (f"author {VKEY} log.example 3\nauthor {VKEY} log.example 4", "twice"),
        (f"author {VKEY}\nauthor {SignerKey('renamed', ED25519, keys.AUTHOR.seed).verifier}", "another name"),
        (f"author {SignerKey('w', COSIGNATURE_ED25519, bytes(32)).verifier}", "no Ed25519"),
        (f"author {VKEY}\r\n", "control"),
        ("\x00", "control"),
        ("\ud800", "UTF-8"),
    ],
)
def test_mistakes_name_their_line(text: str, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Authors.parse(text)


@given(st.text(max_size=60) | st.text("author +0aZ\n\t", max_size=60).map(lambda tail: f"author {VKEY}{tail}"))
def test_arbitrary_text_raises_nothing_but_our_errors(text: str) -> None:
    try:
        authors = Authors.parse(text)
    except EvidenceError:
        return
    assert all(author.key.kind == ED25519 for author in authors.authors)
