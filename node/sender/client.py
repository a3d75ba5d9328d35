"""Writing to a log service: one POST, its answers read strictly. Reading is `node.client`'s.

A failure that may pass (no connection, 429, 5xx) is tried again a few times, with pauses that grow and differ, so that
a thousand authors do not come back at once; after that it is a `PeerError`, and whoever sends decides when to come
again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import stamina

from ...ledger.merkle.tiles import encode_bundle
from ...ledger.merkle.tree import hash_leaf
from ...schemas.errors import EvidenceError, PeerError, UsageError
from ...schemas.receipt import Receipt
from ...schemas.text import digest_text
from ..asking import Answer, TooLong, ask, make_client
from ..log.chains import OutOfStep
from ..log.requests import read_chain_head

SILENCE_SECONDS = 20.0
WAIT_SECONDS = 10
"""How long the log may take to sequence what it accepted, before it answers that it has not yet."""
TRIES, TRIES_SECONDS, PAUSE_SECONDS = 3, 15.0, 0.2
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Refused(PeerError):  # noqa: N818  (named by what happened)
    """The log does not take these entries, and says why."""


class Forked(PeerError):  # noqa: N818
    """The log's chain stands elsewhere; `head` says where."""

    def __init__(self, message: str, head: OutOfStep) -> None:
        super().__init__(message)
        self.head = head


class _Passing(Exception):  # noqa: N818  never leaves this module
    """A failure that may pass."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the log says of entries sent together: their indexes, or None while it has not sequenced them all."""

    indexes: tuple[int, ...] | None


class LogClient:
    """The writing side of the log at `url`. Used by one thread."""

    def __init__(self, url: str) -> None:
        try:
            base = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise UsageError(f"{url!r} is not the address of a log: {error}") from None
        if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment:
            raise UsageError(f"{url!r} is not the address of a log: give https://HOST/PREFIX")
        self.url = str(base).rstrip("/")
        self._client = make_client(SILENCE_SECONDS)

    def send(self, leaves: Sequence[bytes]) -> Sent:
        """Send entries of one chain (at most 256). `Forked`, `Refused` or another `PeerError` if they are not taken."""
        body = encode_bundle(leaves)
        try:
            for attempt in stamina.retry_context(
                on=_Passing,
                attempts=TRIES,
                timeout=TRIES_SECONDS,
                wait_initial=PAUSE_SECONDS,
                wait_max=2.0,
                wait_jitter=PAUSE_SECONDS,
            ):
                with attempt:
                    return self._send(leaves, body)
        except _Passing as error:
            raise PeerError(str(error)) from None
        raise PeerError(f"{self.url}: never tried")

    def _send(self, leaves: Sequence[bytes], body: bytes) -> Sent:
        answer = self._post(f"{self.url}/entries?wait=sequenced&timeout={WAIT_SECONDS}", body)
        status, data = answer.status, answer.body
        if status in (200, 202):
            try:
                receipts = [Receipt.parse(line) for line in data.split(b"\n")[:-1]]
                if [receipt.leaf for receipt in receipts] != [digest_text(hash_leaf(leaf)) for leaf in leaves]:
                    raise EvidenceError("its receipts are of other entries")
            except EvidenceError as error:
                raise PeerError(f"{self.url} answered {status} with something that is no receipt: {error}") from None
            indexes = [receipt.index for receipt in receipts if receipt.index is not None]
            return Sent(tuple(indexes) if len(indexes) == len(receipts) else None)
        if status == 409:
            try:
                head = read_chain_head(data)
            except EvidenceError as error:
                raise PeerError(f"{self.url} answered 409 without its chain's head: {error}") from None
            raise Forked(f"{self.url} has this chain differently: {_told(head.reason.encode())}", head)
        raise Refused(f"{self.url} answered {status}: {_told(data)}")

    def _post(self, address: str, body: bytes) -> Answer:
        try:
            answer = ask(self._client, "POST", address, body)
        except TooLong:
            raise
        except PeerError as error:
            raise _Passing(str(error)) from None
        if answer.status == 429 or answer.status >= 500:
            raise _Passing(f"{self.url} answered {answer.status}: {_told(answer.body)}")
        return answer

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def _told(data: bytes) -> str:
    """The first line of what somebody said, safe to print."""
    return _UNPRINTABLE.sub("?", data[:200].decode("utf-8", "replace").strip().split("\n")[0]) or "no reason given"
