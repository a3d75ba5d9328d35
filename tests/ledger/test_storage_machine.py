"""Any sequence of appends, flushes, reopenings, second writers and reads: nothing moves, nothing is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.ledger.writing.receipt import Receipt

from tests.ledger.studio import make, picture


class LedgerMachine(RuleBasedStateMachine):
    """The model is a list: picture number -> index, once acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        self.known: dict[int, int] = {}
        self.waiting: list[tuple[int, Receipt]] = []
        self.count = 0
        self.size = 0

    @initialize(witnesses=st.sampled_from([(), ("one.example/w",), ("a.example/w", "b.example/w", "c.example/w")]))
    def create(self, witnesses: tuple[str, ...]) -> None:
        self.ledger = make(self.folder / "a.ledger", witnesses=witnesses)

    @rule(count=st.integers(1, 40))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.waiting.append((self.count, self.ledger.append(image=picture(self.count, 2), model="m")))
            self.count += 1

    @rule(state=st.sampled_from(["accepted", "sequenced", "witnessed"]))
    def flush(self, state: str) -> None:
        self.ledger.flush(state)
        self.settle()

    @rule(mode=st.sampled_from(["reopen", "second", "read"]))
    def reopen(self, mode: str) -> None:
        if mode == "second":
            with Ledger.open(self.ledger.path) as other:
                receipt = other.append(image=picture(self.count, 2), model="m").wait("accepted", 60)
                assert receipt.index is not None
                self.known[self.count] = receipt.index
                self.count += 1
        elif mode == "reopen":
            self.ledger.close()
            self.settle()
            self.ledger = Ledger.open(self.folder / "a.ledger")
        else:
            with Ledger.open(self.ledger.path, mode="read") as reader:
                self.check(reader)

    def settle(self) -> None:
        for number, receipt in self.waiting:
            assert receipt.index is not None
            self.known[number] = receipt.index
        self.waiting = []

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def look_up(self, data: st.DataObject) -> None:
        self.ledger.flush()
        number = data.draw(st.sampled_from(sorted(self.known)))
        index = self.known[number]
        assert self.ledger.find(pixels=pixel_digest(picture(number, 2))) == [index]
        proof = TlogProof.parse(self.ledger.proof(index))
        assert proof.extra is not None
        verify_proof(proof, hash_leaf(proof.extra), self.ledger.policy)

    @rule()
    def lose_the_lookup(self) -> None:
        (self.ledger.path / "lookup.db").unlink(missing_ok=True)

    def check(self, ledger: Ledger) -> None:
        at = ledger.checkpoint() if self.size or self.known else None
        if at is not None:
            assert ledger.log.root(at.size) == at.root
            assert at.size >= self.size, "the log never shrinks"
            self.size = at.size

    @invariant()
    def indexes_are_distinct(self) -> None:
        assert len(set(self.known.values())) == len(self.known)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            with Ledger.open(self.folder / "a.ledger", mode="read") as reader:
                if self.count:
                    assert reader.checkpoint().size == self.count + 1
                    assert reader.damaged() == []
                    found = {number: reader.find(pixels=pixel_digest(picture(number, 2))) for number in self.known}
                    assert found == {number: [index] for number, index in self.known.items()}
        shutil.rmtree(self.folder)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=6,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
