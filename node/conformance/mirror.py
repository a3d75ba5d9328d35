"""C2SP tlog-mirror against a server: pending heads, packages, parts, tickets, cosignatures, and the copy it serves.

The mirror must know a log that is made for this and used for nothing else; the caller holds its key. The log is a tree
of counted leaves that goes on from wherever the mirror stands, so that the cases can be run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...ledger.merkle.reader import Source, TiledLog
from ...ledger.merkle.tiles import WIDTH
from ...ledger.merkle.tree import subtree_consistency_path
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.mirror_body import AddEntriesRequest, Package, origin_hash
from ...ledger.notes.note import Note, SignerKey, VerifierKey, parse_signature_line
from ...schemas.errors import EvidenceError, PeerError, PlausibleError, UsageError
from ..asking import Answer
from ..client import HttpSource
from ..mirror.entries import INFO_TYPE
from ..mirror.push import MirrorClient, MirrorInfo
from .case import Failed, Result, Skipped, run_cases
from .witness import CLOCK_SECONDS, MAX_SIZE, WitnessCases


class MirrorCases(WitnessCases):
    """The cases, over one connection pool. `mirror` are the verifier keys whose cosignatures are expected."""

    def __init__(self, url: str, log: SignerKey, mirror: list[VerifierKey], *, monitoring: str | None = None) -> None:
        super().__init__(url, log, mirror, monitoring=monitoring)
        self._mirror = MirrorClient(url)
        self._leaves: list[bytes] = []
        self._next = 0
        self._ticket = b""
        self._before: int | None = None
        """The next entry before only a part was sent."""

    def close(self) -> None:
        """Give the connections back."""
        super().close()
        self._mirror.close()

    def run(self, done: Callable[[Result], None] = lambda _result: None) -> list[Result]:
        """All cases in order. `PeerError` if the server is out of reach, `UsageError` if it does not know the log."""
        cases: list[tuple[str, Callable[[], None]]] = [
            ("it says its pending size, or takes the first head", self._learn),
            ("a head that continues the last becomes pending, not cosigned", self._grow),
            ("a false signature of the log: 403", self._false_signature),
            ("an unknown log: 404", self._unknown),
            ("an old size that is not its own: 409 and its size", self._out_of_step),
            ("a wrong consistency proof: 422", self._wrong_proof),
            ("the same size and another root: 422", self._other_root),
            ("malformed requests: 400", self._malformed),
            ("it says where it is: 409 and mirror info", self._where),
            ("it takes what it lacks, and cosigns when all is there", self._fill),
            ("entries of an unknown log: 404", self._unknown_log),
            ("an end that is no pending head: 409 and mirror info", self._no_head),
            ("a start behind the next entry: 409 and mirror info", self._gap),
            ("entries that are not in the tree: 422", self._false_entries),
            ("a wrong proof of a package: 422", self._false_proof),
            ("no whole package: 400", self._nothing),
            ("bytes that are no request: 400", self._garbage),
            ("a part of the packages: 202 and the next entry", self._part),
            ("nothing is cosigned or served before all is there", self._not_yet),
            ("a body that breaks off keeps its whole packages", self._broken),
            ("an earlier pending head, with its ticket", self._earlier),
            ("from below the next entry, what is known is skipped", self._overlap),
            ("the same again is cosigned again", self._same),
            ("a head below the cosigned one: 409", self._late),
            ("gzip is taken", self._gzip),
            ("two uploads at once", self._at_once),
            ("the copy is served: head, tiles, bundles", self._served),
        ]
        return run_cases(cases, done)

    # --- asking ---

    def _extend(self, size: int) -> None:
        super()._extend(size)
        while len(self._leaves) < self._tree.size:
            self._leaves.append(b"conformance %d" % len(self._leaves))

    def _request(
        self, start: int, end: int, *, packages: int | None = None, ticket: bytes = b"", origin: str | None = None
    ) -> AddEntriesRequest:
        """An upload of [start, end), or of its first packages (32 at most)."""
        made: list[Package] = []
        at = start
        while at < end and len(made) < min(32 if packages is None else packages, 32):
            stop = min(at - at % WIDTH + WIDTH, end)
            proof = subtree_consistency_path(self._tree.get, at - at % WIDTH, stop, end)
            made.append(Package(at, tuple(self._leaves[at:stop]), tuple(proof)))
            at = stop
        return AddEntriesRequest(origin or self._log.name, start, end, ticket, tuple(made))

    def _upload(self, request: AddEntriesRequest, *, packed: bool = False) -> Answer:
        return self._mirror.add_entries(request, packed=packed)

    def _show(self, new: int) -> None:
        """Make [0, new) the pending tree."""
        self._extend(new)
        self._cosigned(self._post(self._body(self._size, new)), self._note(new))
        self._size = new

    # --- judging ---

    def _cosigned(self, answer: Answer, note: bytes) -> None:
        """add-checkpoint: 200, and no line of the mirror's own key in it: entries come first."""
        self._expect(answer, 200)
        text = Note.parse(note).text
        try:
            lines = [line for line in answer.body.decode("utf-8").split("\n") if line]
            given = Note(text, tuple(parse_signature_line(line) for line in lines))
            found = given.known_signatures(self._witness)
        except (EvidenceError, UnicodeDecodeError) as error:
            raise Failed(f"its answer is no list of signature lines: {error}") from None
        if found:
            raise Failed("the mirror's key cosigned a head before its entries were there")

    def _info(self, answer: Answer, status: int) -> MirrorInfo:
        self._expect(answer, status)
        if answer.kind != INFO_TYPE:
            raise Failed(f"{status} came as {answer.kind or 'no content type'}, not {INFO_TYPE}")
        try:
            return MirrorInfo.parse(answer.body)
        except EvidenceError as error:
            raise Failed(f"{status} without three lines of mirror info: {error}") from None

    def _mirrored(self, answer: Answer, size: int) -> None:
        """add-entries: 200 with cosignatures of the head at this size by an expected key, timed about now."""
        self._expect(answer, 200)
        try:
            lines = answer.body.decode("utf-8").split("\n")
            if lines.pop() != "" or not lines:
                raise EvidenceError("the body is not a list of lines")
            text = Note.parse(self._note(size)).text
            found = Note(text, tuple(parse_signature_line(line) for line in lines)).verify(self._witness)
        except (EvidenceError, UnicodeDecodeError) as error:
            raise Failed(f"its answer holds no cosignature by the key given: {error}") from None
        for signature in found:
            if not signature.time or abs(signature.time - time.time()) > CLOCK_SECONDS:
                raise Failed(f"its cosignature carries the time {signature.time}")
        self._next = max(self._next, size)

    # --- the cases ---

    def _where(self) -> None:
        told = self._info(self._upload(AddEntriesRequest(self._log.name, 0, 0, b"", ())), 409)
        if told.size != self._size or not 0 <= told.next <= self._size:
            raise Failed(f"it says pending {told.size}, next {told.next}; its pending head is of size {self._size}")
        if told.next > MAX_SIZE:
            raise UsageError(f"the mirror holds {told.next} entries of this log: use a fresh one for these cases")
        self._next, self._ticket = told.next, told.ticket

    def _fill(self) -> None:
        for _ in range(2 + (self._size - self._next) // WIDTH):
            answer = self._upload(self._request(self._next, self._size, ticket=self._ticket))
            if answer.status == 200:
                self._mirrored(answer, self._size)
                return
            told = self._info(answer, 202)
            if told.next <= self._next:
                raise Failed(f"202, and its next entry is {told.next} as before")
            self._next, self._ticket = told.next, told.ticket
        raise Failed("it never had all entries")

    def _unknown_log(self) -> None:
        answer = self._upload(self._request(0, 1, origin=f"unknown-{time.time_ns():x}.example/log"))
        self._expect(answer, 404)

    def _no_head(self) -> None:
        self._show(self._size + 700)
        told = self._info(self._upload(self._request(self._next, self._size - 1)), 409)
        if (told.size, told.next) != (self._size, self._next):
            raise Failed(f"it says pending {told.size}, next {told.next}; right is {self._size} and {self._next}")

    def _gap(self) -> None:
        told = self._info(self._upload(self._request(self._next + 1, self._size)), 409)
        if told.next != self._next:
            raise Failed(f"it says the next entry is {told.next}; it is {self._next}")

    def _bent(self, *, leaf: bool) -> AddEntriesRequest:
        good = self._request(self._next, self._size, packages=1)
        (only,) = good.packages
        entries = (b"another entry", *only.entries[1:]) if leaf else only.entries
        proof = only.proof if leaf else (bytes(32), *only.proof[1:])
        return AddEntriesRequest(
            good.origin, good.upload_start, good.upload_end, b"", (Package(only.start, entries, proof),)
        )

    def _false_entries(self) -> None:
        self._expect(self._upload(self._bent(leaf=True)), 422)

    def _false_proof(self) -> None:
        self._expect(self._upload(self._bent(leaf=False)), 422)

    def _nothing(self) -> None:
        self._expect(self._upload(self._request(self._next, self._size, packages=0)), 400)

    def _garbage(self) -> None:
        kind = {"Content-Type": "application/octet-stream"}
        for what, body in {"an empty body": b"", "half a head": b"\0\x40log.example"}.items():
            answer = self._mirror.ask("POST", f"{self._url}/add-entries", body, **kind)
            if answer.status != 400:
                raise Failed(f"{what}: expected 400, it answered {answer.told}")

    def _part(self) -> None:
        told = self._info(self._upload(self._request(self._next, self._size, packages=1)), 202)
        stop = min(self._next - self._next % WIDTH + WIDTH, self._size)
        if (told.size, told.next) != (self._size, stop):
            raise Failed(f"it says size {told.size}, next {told.next}; right is {self._size} and {stop}")
        self._before, self._next, self._ticket = self._next, told.next, told.ticket

    def _not_yet(self) -> None:
        if self._before is None:
            raise Skipped("it took no part before")
        size = self._head().size
        if size > self._before:
            raise Failed(f"it serves a head of size {size} and was given {self._next} of {self._size} entries")

    def _broken(self) -> None:
        request = self._request(self._next, self._size)
        whole = self._request(self._next, self._size, packages=1).encode()
        body = request.encode()[: len(whole) + 40]
        kind = {"Content-Type": "application/octet-stream"}
        told = self._info(self._mirror.ask("POST", f"{self._url}/add-entries", body, **kind), 202)
        stop = min(self._next - self._next % WIDTH + WIDTH, self._size)
        if told.next != stop:
            raise Failed(f"it says the next entry is {told.next}; it got {stop}")
        self._next, self._ticket = told.next, told.ticket

    def _earlier(self) -> None:
        earlier = self._size
        self._show(earlier + 300)
        answer = self._upload(self._request(self._next, earlier, ticket=self._ticket))
        if answer.status == 409:  # the specification says SHOULD
            raise Skipped("it forgot the head that its ticket was about")
        self._mirrored(answer, earlier)

    def _overlap(self) -> None:
        start = max(self._next - 100, 0)
        answer = self._upload(self._request(start, self._size))
        if answer.status == 409 and self._info(answer, 409).next == self._next:
            raise Skipped("it takes no entries from 100 below its next one")
        self._mirrored(answer, self._size)

    def _same(self) -> None:
        if self._next < self._size:
            self._mirrored(self._upload(self._request(self._next, self._size)), self._size)
        self._mirrored(self._upload(self._request(self._size, self._size)), self._size)

    def _late(self) -> None:
        old = self._size
        self._show(old + 10)
        self._mirrored(self._upload(self._request(old, self._size)), self._size)
        told = self._info(self._upload(self._request(old, old)), 409)
        if told.next != self._size:
            raise Failed(f"it says the next entry is {told.next}; it is {self._size}")

    def _gzip(self) -> None:
        old = self._size
        self._show(old + 20)
        self._mirrored(self._upload(self._request(old, self._size), packed=True), self._size)

    def _at_once(self) -> None:
        old = self._size
        self._show(old + 600)
        request = self._request(old, self._size)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self._upload, [request, request]))
        for answer in answers:
            self._mirrored(answer, self._size)

    def _head(self) -> Checkpoint:
        """The head that is served, signed by the log and by the mirror; size 0 if there is none."""
        answer = self._ask("GET", f"{self._monitoring}/{origin_hash(self._log.name)}/checkpoint")
        if answer.status == 404:
            return Checkpoint(self._log.name, 0, self._tree.root(0))
        self._expect(answer, 200)
        try:
            note = Note.parse(answer.body)
            note.verify([self._log.verifier])
            note.verify(self._witness)
            return Checkpoint.parse(note.text)
        except EvidenceError as error:
            raise Failed(f"what it serves is no checkpoint signed by the log and by it: {error}") from None

    def _served(self) -> None:
        head = self._head()
        if head.size == 0:
            raise Skipped("it has no checkpoint at its monitoring prefix; another prefix may be given")
        if head.size != self._size or head.root != self._tree.root(head.size):
            raise Failed(f"it serves a head of size {head.size}, the last cosigned is {self._size}")
        with HttpSource(f"{self._monitoring}/{origin_hash(self._log.name)}") as source:
            self._check_copy(source, head)

    def _check_copy(self, source: Source, head: Checkpoint) -> None:
        log = TiledLog(source)
        try:
            if log.root(head.size) != head.root:
                raise Failed("the tiles it serves do not give the root it cosigned")
            start = max(head.size - 2 * WIDTH, 0)
            if list(log.entries(start, head.size, head.size)) != self._leaves[start : head.size]:
                raise Failed("the bundles it serves do not hold the entries it was given")
        except PeerError as error:
            raise Failed(f"it does not serve its copy: {error}") from None
        except PlausibleError as error:
            raise Failed(f"its copy is false: {error}") from None


__all__ = ["MirrorCases"]
