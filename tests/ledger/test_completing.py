"""A head that met its quorum, and the witnesses that were away: they have it later, and nobody waits for them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace

import pytest
from plausible.ledger import Ledger
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.storage.disk import StorageBroken
from plausible.ledger.storage.state import Head
from plausible.ledger.witness import Cosigned, Outcome, OutOfStep, Refused, Witness
from plausible.ledger.writing import cosigning
from plausible.ledger.writing.cosigning import MAX_REST_SECONDS, REST_SECONDS, Cosigners
from plausible.schemas.errors import PeerError

from tests.ledger.studio import AUTHOR, WITNESSES, manifest


def test_a_witness_that_comes_back_cosigns_the_head_that_is_served(tmp_path: Path) -> None:
    path = tmp_path / "studio"
    served, copy = path / "public" / "checkpoint", path / "public" / "checkpoints" / "1"
    with Ledger.init(path, author=AUTHOR, witnesses=WITNESSES) as ledger:
        log = ledger.policy.logs[0].key
        with Witness(WITNESSES[2], [], path / "witnesses" / "three.example-witness.db") as third:
            third.remove_log(log.name)  # it answers 404 from now on
            assert ledger.register_model("one", manifest=manifest()).wait("witnessed", 40)
            first = copy.read_bytes()
            assert {c.key.name for c in ledger.policy.check(first).cosigners} == set(WITNESSES[:2])
            third.add_log(log.name, [log])
        end = time.monotonic() + 60
        while len(ledger.checkpoint().cosigners) < 3:
            assert time.monotonic() < end, "it was not asked again"
            time.sleep(0.05)
        whole = served.read_bytes()
        assert Note.parse(whole).text == Note.parse(first).text
        assert whole.startswith(first), "what was served is still there"
        assert copy.read_bytes() == first, "the dated copy tells when the quorum was met"
    # a kill between state.db and the file: the file is made again from state.db
    shutil.copy(copy, served)
    with Ledger.open(path) as ledger:
        assert served.read_bytes() == whole and len(ledger.checkpoint().cosigners) == 3


# --- whom it asks, and how often ---

LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
SIGNERS = [SignerKey.generate(name, COSIGNATURE_ED25519) for name in WITNESSES[:2]]
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(5))


def head(size: int) -> Head:
    return Head(size, TREE.root(size), Checkpoint(LOG.name, size, TREE.root(size)).sign(LOG).encode())


class Asked:
    """A witness that signs whatever it is asked, or answers as told; it counts."""

    def __init__(self, signer: SignerKey) -> None:
        self.name, self.signer = signer.name, signer
        self.sizes: list[int] = []
        self.answer: Outcome | PeerError | None = None

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        text = Note.parse(note).text
        self.sizes.append(Checkpoint.parse(text).size)
        if isinstance(self.answer, PeerError):
            raise self.answer
        return self.answer or Cosigned(Checkpoint.parse(text), (self.signer.sign(text, 1_700_000_000),))

    def close(self) -> None:
        pass


class Arrangement:
    """One of two witnesses is enough; the clock of the questions is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(cosigning, "time", SimpleNamespace(monotonic=lambda: self.now))
        lines = [f"log {LOG.verifier}", *(f"witness w{n} {s.verifier}" for n, s in enumerate(SIGNERS))]
        policy = Policy.parse("\n".join([*lines, "group one any w0 w1", "quorum one", ""]).encode())
        self.there, self.away = (Asked(signer) for signer in SIGNERS)
        self.away.answer = PeerError("it is away")
        self.cosigners = Cosigners(policy, [self.there, self.away], TREE.consistency)

    def witnessed(self, size: int) -> bytes:
        """The served note of a head that `there` cosigned."""
        while (found := self.cosigners.collect(head(size))) is None:
            pass
        return Note.parse(found[0].note).add(*found[1]).encode()

    def rest(self, size: int, served: bytes) -> list[str]:
        """Whose signatures come, once everybody who was asked has answered."""
        names = [line.name for line in self.cosigners.rest(head(size), served)]
        shown = self.cosigners._rest
        if shown is not None and shown.out:
            wait(shown.out.values(), timeout=60)
            names += [line.name for line in self.cosigners.rest(head(size), served)]
        return names


@pytest.fixture
def arrangement(monkeypatch: pytest.MonkeyPatch) -> Arrangement:
    return Arrangement(monkeypatch)


def test_only_the_missing_are_asked_ever_more_rarely(arrangement: Arrangement) -> None:
    served = arrangement.witnessed(3)
    assert arrangement.rest(3, served) == [] and len(arrangement.away.sizes) == 1, "a newer head may come at once"
    pauses: list[float] = []
    for _ in range(8):
        before, began = len(arrangement.away.sizes), arrangement.now
        while len(arrangement.away.sizes) == before:
            arrangement.now += 0.5
            assert arrangement.rest(3, served) == []
        assert len(arrangement.away.sizes) == before + 1
        pauses.append(arrangement.now - began)
    assert pauses == sorted(pauses) and pauses[:3] == [REST_SECONDS, REST_SECONDS, 2 * REST_SECONDS]
    assert pauses[-1] == MAX_REST_SECONDS
    arrangement.away.answer = None
    arrangement.now += MAX_REST_SECONDS
    asked = len(arrangement.away.sizes)
    assert arrangement.rest(3, served) == [WITNESSES[1]]
    for _ in range(5):  # it has signed: nobody is asked any more
        arrangement.now += MAX_REST_SECONDS
        assert arrangement.rest(3, served) == []
    assert len(arrangement.away.sizes) == asked + 1 and arrangement.there.sizes == [3]


def test_a_newer_head_ends_it_and_after_a_start_the_note_says_who_is_missing(arrangement: Arrangement) -> None:
    served = arrangement.witnessed(3)
    arrangement.away.answer = None
    newer = arrangement.witnessed(5)
    arrangement.now += REST_SECONDS
    arrangement.rest(5, newer)
    assert arrangement.away.sizes[-1] == 5 and 3 not in arrangement.away.sizes[1:]
    again = Cosigners(arrangement.cosigners._policy, [arrangement.there, arrangement.away], TREE.consistency)
    arrangement.cosigners = again
    arrangement.there.sizes.clear()
    arrangement.rest(3, served)
    arrangement.now += REST_SECONDS
    assert arrangement.rest(3, served) == [WITNESSES[1]] and arrangement.there.sizes == []


@pytest.mark.parametrize("answer", [Refused(422, "another root"), OutOfStep(4)])
def test_a_late_witness_that_contradicts_stops_the_log(arrangement: Arrangement, answer: Outcome) -> None:
    served = arrangement.witnessed(3)
    arrangement.now += REST_SECONDS
    arrangement.away.answer = answer
    with pytest.raises(StorageBroken, match="the writer stops"):
        arrangement.rest(3, served)
