"""A log service against docs/nodes.md "A log": entries, batches, repeats, forks, refusals, and the files it serves.

The log must allow an author's key that is made for this and used for nothing else; the caller holds it. Every run
begins chains of its own, so the cases can be run again; they leave about fifty entries.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tiles import encode_bundle
from ...ledger.merkle.tree import hash_leaf
from ...ledger.notes.note import ED25519, SignerKey
from ...ledger.notes.policy import AcceptedCheckpoint, Policy
from ...ledger.notes.proof import TlogProof, verify_proof
from ...schemas.errors import EvidenceError, PlausibleError, UsageError
from ...schemas.receipt import Receipt
from ...schemas.text import digest_text
from ..asking import Answer, ask, make_client
from ..client import HttpSource
from ..log.requests import read_chain_head
from .case import Failed, Result, Skipped, run_cases
from .chain import MadeChain

WITNESS_SECONDS = 20


class LogCases:
    """The cases, over one connection pool; `policy` says under which keys the log's checkpoints count."""

    def __init__(self, url: str, author: SignerKey, policy: Policy) -> None:
        if author.kind != ED25519:
            raise UsageError("the author's key must be an Ed25519 key (type 0x01)")
        self._url, self._policy = url.rstrip("/"), policy
        self._client = make_client(WITNESS_SECONDS + 20)
        self._source = HttpSource(url)
        self._log = TiledLog(self._source)
        self._author = author
        self._chain = MadeChain(author)
        self._first = b""
        self._index: int | None = None

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._source.close()

    def run(self, done: Callable[[Result], None] = lambda _result: None) -> list[Result]:
        """All cases in order. `PeerError` if the server is out of reach, `UsageError` if it does not allow the key."""
        cases: list[tuple[str, Callable[[], None]]] = [
            ("an entry is accepted, with a receipt", self._accepted),
            ("it is sequenced, and the receipt says where", self._sequenced),
            ("it is witnessed, and the answer is a proof that verifies", self._witnessed),
            ("the same entry again has the same place", self._repeated),
            ("a batch is taken, a receipt a line", self._batch),
            ("a batch that overlaps what was taken goes on", self._overlap),
            ("another entry for a taken place: 409 and the chain's head", self._fork),
            ("a place beyond the next: 409 and the chain's head", self._gap),
            ("a wrong prev: 409 and the chain's head", self._wrong_prev),
            ("a chain that does not begin with 0: 409", self._late_start),
            ("a false signature: 403", self._false_signature),
            ("a key that is not allowed: 403", self._unknown),
            ("a time before the predecessor's: 422", self._early),
            ("a draw that was used: 422", self._draw),
            ("bytes that are no entry, or not its own JCS: 400", self._malformed),
            ("unknown or malformed parameters: 400", self._parameters),
            ("a batch of two chains: refused, nothing taken", self._mixed),
            ("a batch with one bad entry: refused, nothing taken", self._whole),
            ("a large body is refused", self._large),
            ("two entries for one place at once: one is taken", self._race),
            ("the checkpoint is signed, and cosigned as the policy asks", self._checkpoint),
            ("every entry of the run lies in the tree", self._tree),
            ("files are immutable, heads are not", self._caching),
            ("what is no file of a log: 404", self._nothing),
            ("a lookup finds the entry, with its proof", self._lookup),
            ("after all this the chain still goes on", self._goes_on),
        ]
        return run_cases(cases, done)

    # --- asking ---

    def _post(self, leaf: bytes, query: str = "") -> Answer:
        return ask(self._client, "POST", f"{self._url}/entry{query}", leaf)

    def _post_all(self, leaves: Sequence[bytes], query: str = "") -> Answer:
        return ask(self._client, "POST", f"{self._url}/entries{query}", encode_bundle(leaves))

    def _get(self, path: str) -> Answer:
        return ask(self._client, "GET", f"{self._url}/{path}")

    # --- judging ---

    @staticmethod
    def _expect(answer: Answer, *statuses: int) -> Answer:
        if answer.status not in statuses:
            raise Failed(f"it answered {answer.told}")
        return answer

    @staticmethod
    def _receipt(data: bytes, leaf: bytes) -> Receipt:
        try:
            receipt = Receipt.parse(data)
        except EvidenceError as error:
            raise Failed(f"its answer is no receipt: {error}") from None
        if receipt.leaf != digest_text(hash_leaf(leaf)):
            raise Failed("its receipt is of another entry")
        return receipt

    def _receipts(self, answer: Answer, leaves: Sequence[bytes]) -> list[Receipt]:
        lines = self._expect(answer, 200).body.split(b"\n")
        if lines.pop() != b"" or len(lines) != len(leaves):
            raise Failed(f"it answered {answer.told}, not {len(leaves)} receipts, a line each")
        return [self._receipt(line, leaf) for line, leaf in zip(lines, leaves, strict=True)]

    def _head(self, answer: Answer, chain: MadeChain) -> None:
        self._expect(answer, 409)
        try:
            head = read_chain_head(answer.body)
        except EvidenceError as error:
            raise Failed(f"its 409 does not carry the chain's head: {error}") from None
        wanted = self._author.verifier.encode(), chain.chain.hex(), chain.seq, chain.prev
        if (head.author, head.chain, head.seq, head.prev) != wanted:
            raise Failed(f"its head says next {head.seq} after {head.prev.hex()[:16]}, which is not where the chain is")

    # --- the cases ---

    def _accepted(self) -> None:
        self._first = self._chain.next()
        answer = self._post(self._first)
        if answer.status == 403:
            raise UsageError(
                f"the log at {self._url} takes no entries by {self._author.verifier}: its operator allows it"
            )
        self._receipt(self._expect(answer, 200).body, self._first)

    def _sequenced(self) -> None:
        receipt = self._receipt(self._expect(self._post(self._first, "?wait=sequenced"), 200).body, self._first)
        if receipt.index is None:
            raise Failed("a sequenced entry has an index")
        self._index = receipt.index

    def _witnessed(self) -> None:
        answer = self._post(self._first, f"?wait=witnessed&timeout={WITNESS_SECONDS}")
        if self._expect(answer, 200, 202).status == 202:
            raise Skipped(f"its quorum did not cosign within {WITNESS_SECONDS} seconds")
        try:
            proof = TlogProof.parse(answer.body)
            verify_proof(proof, hash_leaf(self._first), self._policy, now=int(time.time()))
        except PlausibleError as error:
            raise Failed(f"its proof does not verify: {error}") from None
        if proof.index != self._index:
            raise Failed(f"the proof says index {proof.index}, the receipt said {self._index}")

    def _repeated(self) -> None:
        for _ in range(2):
            receipt = self._receipt(self._expect(self._post(self._first, "?wait=sequenced"), 200).body, self._first)
            if receipt.index != self._index:
                raise Failed(f"it gave index {receipt.index} after {self._index}")

    def _batch(self) -> None:
        leaves = self._chain.several(20)
        indexes = [receipt.index for receipt in self._receipts(self._post_all(leaves, "?wait=sequenced"), leaves)]
        if None in indexes or sorted(set(indexes), key=str) != sorted(indexes, key=str):
            raise Failed("the entries of a batch do not have an index each")

    def _overlap(self) -> None:
        leaves = self._chain.several(4)
        self._receipts(self._post_all(leaves[:2]), leaves[:2])
        self._receipts(self._post_all(leaves), leaves)

    def _fork(self) -> None:
        self._head(self._post(self._chain.make(seq=1, prev=hash_leaf(self._first), draw=10_000)), self._chain)

    def _gap(self) -> None:
        self._head(self._post(self._chain.make(seq=self._chain.seq + 1)), self._chain)

    def _wrong_prev(self) -> None:
        self._head(self._post(self._chain.make(prev=hash_leaf(b"nothing"))), self._chain)

    def _late_start(self) -> None:
        other = MadeChain(self._author)
        self._head(self._post(other.make(seq=1, prev=hash_leaf(b"nothing"))), other)

    def _false_signature(self) -> None:
        value = json.loads(self._chain.make())
        value["signatures"][0]["sig"] = json.loads(self._first)["signatures"][0]["sig"]
        self._expect(self._post(_jcs(value)), 403)

    def _unknown(self) -> None:
        self._expect(self._post(MadeChain(SignerKey.generate("stranger.example", ED25519)).next()), 403)

    def _early(self) -> None:
        self._expect(self._post(self._chain.make(time="2000-01-01T00:00:00.000000Z")), 422)

    def _draw(self) -> None:
        self._expect(self._post(self._chain.make(draw=0)), 422)

    def _malformed(self) -> None:
        leaf = self._chain.make()
        for data in (b"", b"{}", bytes(range(256)), leaf + b"\n", leaf[:-1], leaf.replace(b'":"', b'": "', 1)):
            self._expect(self._post(data), 400)

    def _parameters(self) -> None:
        for query in ("?wait=now", "?timeout=0", "?timeout=01", "?timeout=-1", "?colour=red"):
            self._expect(self._post(self._first, query), 400)

    def _mixed(self) -> None:
        mine, other = MadeChain(self._author), MadeChain(self._author)
        self._expect(self._post_all([mine.next(), other.next()]), 400, 422)
        mine.seq, mine.prev = 0, bytes(32)
        self._head(self._post(mine.make(seq=1, prev=hash_leaf(b"nothing"))), mine)

    def _whole(self) -> None:
        chain = MadeChain(self._author)
        good = chain.make()
        self._expect(self._post_all([good, chain.make(seq=2, prev=hash_leaf(good))]), 409)
        self._head(self._post(chain.make(seq=1, prev=hash_leaf(good))), chain)

    def _large(self) -> None:
        try:
            answer = self._post(bytes(1 << 17))
        except PlausibleError:
            return  # cut off while it was sent
        self._expect(answer, 400, 413)

    def _race(self) -> None:
        chain = MadeChain(self._author)
        both = [chain.make(draw=draw) for draw in (1, 2)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self._post, both))
        if sorted(answer.status for answer in answers) != [200, 409]:
            raise Failed(f"it answered {answers[0].told} and {answers[1].told}")

    def _accepted_checkpoint(self) -> AcceptedCheckpoint:
        answer = self._get("checkpoint")
        if answer.status == 404:
            raise Skipped("it serves no checkpoint yet")
        try:
            return self._policy.check(self._expect(answer, 200).body, now=int(time.time()))
        except PlausibleError as error:
            raise Failed(f"its checkpoint does not hold: {error}") from None

    def _checkpoint(self) -> None:
        at = self._accepted_checkpoint()
        pending = self._get("checkpoint.pending")
        if pending.status == 200 and int(pending.body.split(b"\n")[1]) < at.size:
            raise Failed("the pending head is behind the checkpoint")

    def _tree(self) -> None:
        at = self._accepted_checkpoint()
        if self._index is None or self._index >= at.size:
            raise Skipped("the run's entries are not under the checkpoint yet")
        try:
            if self._log.root(at.size) != at.root:
                raise Failed("its tiles do not give the root that the checkpoint signs")
            entries = list(self._log.entries(self._index, at.size, at.size))
        except PlausibleError as error:
            raise Failed(f"its files do not read: {error}") from None
        if self._first not in entries:
            raise Failed("the run's first entry is not at its index")

    def _caching(self) -> None:
        at = self._accepted_checkpoint()
        if not at.size:
            raise Skipped("its tree is empty")
        width = at.size if at.size < 256 else 256
        path = "tile/0/000" if width == 256 else f"tile/0/000.p/{width}"
        if "immutable" not in self._expect(self._get(path), 200).caching:
            raise Failed(f"{path} is not served as immutable")
        if "immutable" in self._expect(self._get("checkpoint"), 200).caching:
            raise Failed("the checkpoint is served as immutable")

    def _nothing(self) -> None:
        for path in ("state.db", "keys/log.key", "tile/0/000.p/256", "tile/00/000", "tile/0/x000/000", "service.toml"):
            self._expect(self._get(path), 404)

    def _lookup(self) -> None:
        answer = self._get(f"lookup?pixels={self._chain.pixels(0).hex()}")
        if answer.status == 404:
            raise Skipped("it answers no lookups")
        at = self._accepted_checkpoint()
        if self._index is None or self._index >= at.size:
            raise Skipped("the run's entries are not under the checkpoint yet")
        try:
            found: dict[str, Any] = json.loads(self._expect(answer, 200).body)
            [entry] = found["entries"]
            proof = TlogProof.parse(base64.b64decode(entry["proof"], validate=True))
            verify_proof(proof, hash_leaf(self._first), self._policy, now=int(time.time()))
        except (ValueError, KeyError, TypeError, binascii.Error, PlausibleError) as error:
            raise Failed(f"its answer does not hold: {error}") from None

    def _goes_on(self) -> None:
        leaf = self._chain.next()
        self._receipt(self._expect(self._post(leaf), 200).body, leaf)


def _jcs(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
