"""A witness somewhere else: add-checkpoint over HTTP (C2SP tlog-witness), with the same answers as one in this process.

It is trusted for nothing: an answer has a limit of bytes and of seconds, redirects are not followed, and only signature
lines that verify under the witness's keys of the policy are passed on, because one false line under a known key would
spoil the whole note. Whatever else goes wrong is a `PeerError` that names the address; the log asks again later.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Sequence

import httpx

from ...schemas.errors import EvidenceError, PeerError, UsageError
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note, VerifierKey, parse_signature_line, split_note
from ..notes.policy import Policy
from ..notes.wire import parse_decimal
from .answer import SIZE_TYPE, Cosigned, Outcome, OutOfStep, Refused
from .request import AddCheckpointRequest

MAX_ANSWER_BYTES = 64 * 1024
SILENCE_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_REFUSALS = (400, 403, 404, 422)
_log = logging.getLogger("plausible.ledger")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class RemoteWitness:
    """The witness `name` with these cosignature keys at `url` (its submission prefix). Threads may share one."""

    def __init__(
        self,
        name: str,
        keys: Sequence[VerifierKey],
        url: str,
        *,
        silence: float = SILENCE_SECONDS,
        deadline: float = ANSWER_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            base = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise UsageError(f"the witness {name} has no usable address: {error}") from None
        if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment:
            raise UsageError(f"the witness {name} has no usable address: {url!r}; give https://HOST/PREFIX")
        self.name, self.url = name, str(base).rstrip("/")
        self._keys = tuple(keys)
        self._deadline = deadline
        headers = {"Accept-Encoding": "identity", "User-Agent": "plausible-deniability"}
        try:
            self._client = httpx.Client(timeout=silence, headers=headers, follow_redirects=False, transport=transport)
        except (ValueError, OSError) as error:  # a proxy or a certificate file of the environment
            raise UsageError(f"the network settings of the environment do not work: {error}") from None

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        """Ask for cosignatures of a signed checkpoint; see `Witness.add_checkpoint`. Raises `PeerError`."""
        body = AddCheckpointRequest(old_size, tuple(proof), note).encode()
        status, kind, data = self._post(body)
        where = f"the witness {self.name} at {self.url}"
        if status == 200:
            return self._cosigned(note, data, where)
        if status == 409:
            try:
                if kind != SIZE_TYPE:
                    raise EvidenceError(f"its content type is not {SIZE_TYPE}")
                return OutOfStep(parse_decimal(data.decode("ascii").removesuffix("\n"), "the size"))
            except (EvidenceError, UnicodeDecodeError) as error:
                # some witnesses answered 409 without a size where the roots differ: never to be taken for "try again"
                raise PeerError(f"{where} answered 409 without a readable size: {error}") from None
        reason = _UNPRINTABLE.sub("?", data[:200].decode("utf-8", "replace").strip().split("\n")[0])
        if status in _REFUSALS:
            return Refused(status, reason or "no reason given")
        raise PeerError(f"{where} answered {status}: {reason}")

    def _cosigned(self, note: bytes, data: bytes, where: str) -> Cosigned:
        text, _ = split_note(note)
        try:
            lines = data.decode("utf-8").split("\n")
            if lines.pop() != "" or not lines:
                raise EvidenceError("it is not a list of signature lines")
            given = Note(text, tuple(parse_signature_line(line) for line in lines))
            signatures = tuple(found.signature for found in given.verify(self._keys))
        except (EvidenceError, UnicodeDecodeError) as error:
            raise PeerError(f"{where} answered 200 with something that is no cosignature of its own: {error}") from None
        return Cosigned(Checkpoint.parse(text), signatures)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """(status, content type, body) of one request."""
        end = time.monotonic() + self._deadline
        address = f"{self.url}/add-checkpoint"
        try:
            with self._client.stream("POST", address, content=body) as answer:
                data = bytearray()
                for part in answer.iter_raw():
                    data += part
                    if len(data) > MAX_ANSWER_BYTES:
                        raise PeerError(f"{address} answered with more than {MAX_ANSWER_BYTES} bytes")
                    if time.monotonic() > end:
                        raise PeerError(f"{address} took longer than {self._deadline:g} seconds")
                kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                return answer.status_code, kind, bytes(data)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise PeerError(f"{address} cannot be reached: {error or type(error).__name__}") from None

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def open_witnesses(policy: Policy, near: Collection[str] = ()) -> list[RemoteWitness]:
    """Connections to the witnesses that a policy gives an address for, but not to those with a name in `near`.

    One without a usable address is left out and logged: one witness less is what a quorum is for.
    """
    far: dict[str, tuple[str, list[VerifierKey]]] = {}
    for witness in policy.witnesses:
        if witness.url is not None and witness.key.name not in near:
            far.setdefault(witness.key.name, (witness.url, []))[1].append(witness.key)
    opened: list[RemoteWitness] = []
    for name, (url, keys) in far.items():
        try:
            opened.append(RemoteWitness(name, keys, url))
        except UsageError as error:
            _log.warning("%s", error)
    return opened
