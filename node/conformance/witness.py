"""C2SP tlog-witness against a server: statuses, bodies, the order of checks, a race, the monitoring path.

The witness must watch a log that is made for this and used for nothing else; the caller holds its key. The log is a
tree of counted leaves that goes on from whatever size the witness last cosigned, so that the cases can be run again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...ledger.merkle.tree import MemoryTree, hash_leaf
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import ED25519, Note, SignerKey, VerifierKey, parse_signature_line
from ...ledger.notes.wire import encode_base64, parse_decimal
from ...ledger.witness import AddCheckpointRequest
from ...schemas.errors import EvidenceError, PeerError, UsageError
from ..asking import Answer, TooLong, ask, make_client
from .case import Failed, Result, Skipped, run_cases

MAX_SIZE = 1 << 20
SIZE_TYPE = "text/x.tlog.size"
CLOCK_SECONDS = 600
"""How far a cosignature's time may be from this machine's clock."""


class WitnessCases:
    """The cases, over one connection pool. `witness` are the verifier keys whose cosignatures are expected."""

    def __init__(self, url: str, log: SignerKey, witness: list[VerifierKey], *, monitoring: str | None = None) -> None:
        if log.kind != ED25519:
            raise UsageError("the log's key must be an Ed25519 key (type 0x01)")
        self._url, self._log, self._witness = url.rstrip("/"), log, witness
        self._monitoring = (monitoring or url).rstrip("/")
        self._client = make_client(20)
        self._tree = MemoryTree()
        self._size = 0

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def run(self, done: Callable[[Result], None] = lambda _result: None) -> list[Result]:
        """All cases in order. `PeerError` if the server is out of reach, `UsageError` if it does not watch the log."""
        cases: list[tuple[str, Callable[[], None]]] = [
            ("it says its size, or cosigns the first checkpoint", self._learn),
            ("a checkpoint that continues the last is cosigned", self._grow),
            ("the same checkpoint is cosigned again, with a time", self._again),
            ("lines of strangers do not matter", self._strangers),
            ("a false signature of the log: 403", self._false_signature),
            ("no signature of the log: 403", self._no_signature),
            ("an unknown log: 404", self._unknown),
            ("an old size that is not its own: 409 and its size", self._out_of_step),
            ("an old size above the checkpoint's: 400", self._old_above),
            ("a missing consistency proof: 422", self._no_proof),
            ("a wrong consistency proof: 422", self._wrong_proof),
            ("the same size and another root: 422", self._other_root),
            ("more than 63 proof lines: 400", self._long_proof),
            ("malformed requests: 400", self._malformed),
            ("the signature is checked before the old size", self._order),
            ("two requests at once: one is cosigned", self._race),
            ("a large body is refused", self._large),
            ("the last checkpoint can be fetched", self._fetch),
            ("after all this it still goes on from its size", self._grow),
        ]
        return run_cases(cases, done)

    # --- asking ---

    def _post(self, body: bytes) -> Answer:
        return self._ask("POST", f"{self._url}/add-checkpoint", body)

    def _ask(self, method: str, url: str, body: bytes | None = None) -> Answer:
        try:
            return ask(self._client, method, url, body)
        except TooLong as error:
            raise Failed(str(error)) from None

    def _note(self, size: int, root: bytes | None = None, signer: SignerKey | None = None) -> bytes:
        value = self._tree.root(size) if root is None else root
        return Checkpoint(self._log.name, size, value).sign(signer or self._log).encode()

    def _proof(self, old: int, new: int) -> tuple[bytes, ...]:
        return tuple(self._tree.consistency(old, new)) if 0 < old < new else ()

    def _body(self, old: int, new: int) -> bytes:
        return AddCheckpointRequest(old, self._proof(old, new), self._note(new)).encode()

    def _extend(self, size: int) -> None:
        while self._tree.size < size:
            self._tree.append(hash_leaf(b"conformance %d" % self._tree.size))

    # --- judging ---

    def _expect(self, answer: Answer, *statuses: int) -> Answer:
        if answer.status not in statuses:
            wanted = " or ".join(map(str, statuses))
            raise Failed(f"expected {wanted}, it answered {answer.told}")
        return answer

    def _cosigned(self, answer: Answer, note: bytes) -> None:
        """The body is signature lines, one of them by an expected key over this checkpoint, timed about now."""
        self._expect(answer, 200)
        text = Note.parse(note).text
        try:
            lines = answer.body.decode("utf-8").split("\n")
            if lines.pop() != "" or not lines:
                raise EvidenceError("the body is not a list of lines")
            given = Note(text, tuple(parse_signature_line(line) for line in lines))
            found = given.verify(self._witness)
        except (EvidenceError, UnicodeDecodeError) as error:
            raise Failed(f"its answer holds no cosignature by the key given: {error}") from None
        for signature in found:
            if not signature.time or abs(signature.time - time.time()) > CLOCK_SECONDS:
                raise Failed(f"its cosignature carries the time {signature.time}")

    def _told_size(self, answer: Answer) -> int:
        self._expect(answer, 409)
        if answer.kind != SIZE_TYPE:
            raise Failed(f"409 came as {answer.kind or 'no content type'}, not {SIZE_TYPE}")
        try:
            text = answer.body.decode("ascii")
            if not text.endswith("\n"):
                raise EvidenceError("it does not end with a newline")
            return parse_decimal(text[:-1], "the size")
        except (EvidenceError, UnicodeDecodeError) as error:
            raise Failed(f"409 without a size on a line of its own: {error}") from None

    # --- the cases ---

    def _learn(self) -> None:
        self._extend(1)
        answer = self._post(self._body(0, 1))
        if answer.status == 404:
            raise UsageError(f"the witness does not watch {self._log.name}: let its operator add this log first")
        if answer.status == 200:
            self._size = 1
            self._cosigned(answer, self._note(1))
            return
        self._size = self._told_size(answer)
        if self._size > MAX_SIZE:
            raise UsageError(f"the witness has cosigned size {self._size} of this log: use a fresh one for these cases")
        self._extend(self._size + 1)

    def _grow(self) -> None:
        new = self._size + 3
        self._extend(new)
        self._cosigned(self._post(self._body(self._size, new)), self._note(new))
        self._size = new

    def _again(self) -> None:
        self._cosigned(self._post(self._body(self._size, self._size)), self._note(self._size))

    def _strangers(self) -> None:
        note = Note.parse(self._note(self._size))
        for number in range(4):
            note = note.sign(SignerKey.generate(f"stranger-{number}.example/log"))
        answer = self._post(AddCheckpointRequest(self._size, (), note.encode()).encode())
        self._cosigned(answer, note.encode())

    def _forged(self) -> bytes:
        """The note of a next size under the log's name and key ID, with a signature that is not its own."""
        new = self._size + 1
        self._extend(new)
        note = Note.parse(self._note(new))
        line = note.signatures[0]
        false = line.signature[:-1] + bytes([line.signature[-1] ^ 1])
        return Note(note.text).add(type(line)(line.name, line.key_id, false)).encode()

    def _false_signature(self) -> None:
        note = self._forged()
        proof = self._proof(self._size, self._size + 1)
        self._expect(self._post(AddCheckpointRequest(self._size, proof, note).encode()), 403)

    def _no_signature(self) -> None:
        new = self._size + 1
        self._extend(new)
        other = SignerKey.generate(self._log.name)
        body = AddCheckpointRequest(self._size, self._proof(self._size, new), self._note(new, signer=other)).encode()
        self._expect(self._post(body), 403)

    def _unknown(self) -> None:
        other = SignerKey.generate(f"unknown-{time.time_ns():x}.example/log")
        note = Checkpoint(other.name, 1, self._tree.root(1)).sign(other).encode()
        self._expect(self._post(AddCheckpointRequest(0, (), note).encode()), 404)

    def _out_of_step(self) -> None:
        self._extend(self._size + 2)
        for old in {0, self._size - 1}:
            told = self._told_size(self._post(self._body(old, self._size + 2)))
            if told != self._size:
                raise Failed(f"it says size {told} and has cosigned {self._size}")

    def _old_above(self) -> None:
        body = AddCheckpointRequest(self._size + 1, (), self._note(self._size)).encode()
        self._expect(self._post(body), 400)

    def _no_proof(self) -> None:
        self._extend(self._size + 1)
        self._expect(self._post(AddCheckpointRequest(self._size, (), self._note(self._size + 1)).encode()), 422)

    def _wrong_proof(self) -> None:
        new = self._size + 1
        self._extend(new)
        proof = self._proof(self._size, new)
        bent = (bytes(32), *proof[1:])
        self._expect(self._post(AddCheckpointRequest(self._size, bent, self._note(new)).encode()), 422)

    def _other_root(self) -> None:
        note = self._note(self._size, root=hashlib.sha256(b"another tree").digest())
        answer = self._post(AddCheckpointRequest(self._size, (), note).encode())
        if answer.status == 409:
            raise Failed(
                "it answered 409, as tlog-witness 1.0.0 said; a client cannot tell that from being out of step"
            )
        self._expect(answer, 422)

    def _long_proof(self) -> None:
        body = AddCheckpointRequest(self._size, (bytes(32),) * 64, self._note(self._size + 1)).encode()
        self._expect(self._post(body), 400)

    def _malformed(self) -> None:
        note = self._note(self._size)
        good = self._body(self._size, self._size)
        text = note.decode()
        bodies = {
            "an empty body": b"",
            "no old size": b"\n" + note,
            "an old size with a leading zero": b"old 0%d\n\n" % self._size + note,
            "a negative old size": b"old -1\n\n" + note,
            "no empty line": good.replace(b"\n\n", b"\n", 1),
            "a proof line that is no hash": b"old %d\nAAAA\n\n" % self._size + note,
            "a note without signatures": good.rpartition(b"\n\n")[0] + b"\n\n",
            "a size in words": good.replace(f"\n{self._size}\n".encode(), b"\nfive\n"),
            "a root of 31 bytes": good.replace(text.split("\n")[2].encode(), encode_base64(bytes(31)).encode()),
        }
        for what, body in bodies.items():
            answer = self._post(body)
            if answer.status != 400:
                raise Failed(f"{what}: expected 400, it answered {answer.told}")

    def _order(self) -> None:
        # a false signature and an old size that is not its own: whoever cannot sign for the log learns nothing
        self._expect(self._post(AddCheckpointRequest(0, (), self._forged()).encode()), 403)

    def _race(self) -> None:
        old = self._size
        self._extend(old + 2)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self._post, [self._body(old, old + 1), self._body(old, old + 2)]))
        statuses = sorted(answer.status for answer in answers)
        if statuses != [200, 409]:
            raise Failed(f"expected 200 and 409, it answered {' and '.join(map(str, statuses))}")
        self._size = old + 1 if answers[0].status == 200 else old + 2
        told = self._told_size(answers[1] if answers[0].status == 200 else answers[0])
        if told != self._size:
            raise Failed(f"the one that came too late was told size {told}; {self._size} was cosigned")

    def _large(self) -> None:
        try:
            answer = self._post(b"old 0\n\n" + b"x" * (4 << 20))
        except PeerError:
            return  # cutting the connection is a refusal
        if not 400 <= answer.status < 500:
            raise Failed(f"4 MiB of nonsense were answered with {answer.told}")

    def _fetch(self) -> None:
        digest = hashlib.sha256(self._log.name.encode()).hexdigest()
        answer = self._ask("GET", f"{self._monitoring}/{digest}/checkpoint")
        if answer.status == 404:
            raise Skipped("it has no checkpoint at its monitoring prefix; another prefix may be given")
        self._expect(answer, 200)
        try:
            note = Note.parse(answer.body)
            note.verify([self._log.verifier])
            note.verify(self._witness)
            size = Checkpoint.parse(note.text).size
        except EvidenceError as error:
            raise Failed(f"what it serves is no checkpoint signed by the log and by it: {error}") from None
        if size != self._size:
            # the specification allows an hour
            raise Skipped(f"it serves size {size}, the last cosigned is {self._size}: it may lag by an hour")
