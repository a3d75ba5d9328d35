"""Who asks a log about a picture: the entries with its digests, each with its proof, or the proof that there is none.

    GET /lookup?pixels=HEX[&file=HEX]    plausible.lookup/1 (JCS): origin, size, count, entries [{index, proof}],
    absence

`proof` is a tlog-proof with the entry as `extra`, `absence` an absence proof (ledger/absence), both in base64. Nothing
of it is believed for being answered here: whoever asked verifies it under his own policies. Absence needs an index
note, which the log signs with its own index key over what it recomputed; that the log alone signed it is worth little,
so mirrors and monitors sign too. The index follows the checkpoint by a few seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from ...ledger.absence.pages import ABSENCE_FILE
from ...ledger.absence.prove import merged, prove_absence, publish, published, recompute
from ...ledger.absence.store import AbsenceStore
from ...ledger.merkle.public import CHECKPOINT
from ...ledger.merkle.reader import DirectorySource, TiledLog
from ...ledger.notes.note import Note, SignerKey
from ...ledger.notes.policy import AcceptedCheckpoint, Policy
from ...ledger.notes.proof import make_proof
from ...ledger.storage.lookup import LOOKUP_FILE, Lookup
from ...ledger.writing.receipt import NotYet
from ...schemas import jcs
from ...schemas.errors import EvidenceError, PeerError, PlausibleError
from ...schemas.text import b64, parse_hex

MAX_ENTRIES = 16
"""Entries that are proven in one answer; `count` says how many there are."""
INDEX_SECONDS = 2.0
"""How often the index follows the checkpoint."""
_log = logging.getLogger("plausible.log")


class Finder:
    """Answers lookups of one log's folder; calls from any thread. `close` ends the thread that keeps the index."""

    def __init__(
        self, folder: Path, public: Path, policy: Policy, index_key: SignerKey | None, *, seconds: float = INDEX_SECONDS
    ) -> None:
        self._log = TiledLog(DirectorySource(public))
        self._public = public
        self._policy = policy
        self._key = index_key
        self._seconds = seconds
        self._lookup = Lookup(folder / LOOKUP_FILE)
        self._store = AbsenceStore(folder / ABSENCE_FILE, lazy=True, signer=index_key, anew=_tell)
        self._accepted: AcceptedCheckpoint | None = None
        self._indexed = -1
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-index", daemon=True)
        if index_key is not None:
            self._thread.start()

    def close(self) -> None:
        """Keep the index no more, and write what is not written of it."""
        self._end.set()
        if self._key is not None:
            self._thread.join()
            self._store.close(self._policy.logs[0].key.name)

    def checkpoint(self) -> AcceptedCheckpoint:
        """The served checkpoint under the log's own policy; `NotYet` before there is one."""
        try:
            note = self._log.checkpoint_bytes(CHECKPOINT)
        except PeerError:
            raise NotYet("no head has met the quorum yet") from None
        if self._accepted is None or self._accepted.note != note:
            self._accepted = self._policy.check(note)
        return self._accepted

    def answer(self, query: Mapping[str, str]) -> bytes:
        """The answer to a query; `EvidenceError` if it is malformed."""
        if not {"pixels"} <= set(query) <= {"pixels", "file"}:
            raise EvidenceError("a lookup names pixels, or pixels and file, as 64 hex digits each")
        digests = {name: parse_hex(value, 32, name) for name, value in query.items()}
        at = self.checkpoint()
        found: set[int] = set()
        for name, digest in digests.items():
            found.update(self._lookup.find(self._log, at.size, at.root, **{name: digest.hex()}))
        entries: list[jcs.Json] = []
        for index in sorted(found)[:MAX_ENTRIES]:
            leaf = self._log.entry(index, at.size)
            proof = make_proof(index, self._log.path(index, at.size), at.note, leaf).encode()
            entries.append({"index": index, "proof": b64(proof)})
        absence = None if found else self._absence(at, digests["pixels"], digests.get("file"))
        return jcs.encode(
            {
                "absence": None if absence is None else b64(absence),
                "count": len(found),
                "entries": entries,
                "format": "plausible.lookup/1",
                "origin": at.origin,
                "size": at.size,
            }
        )

    def _absence(self, at: AcceptedCheckpoint, pixels: bytes, file: bytes | None) -> bytes | None:
        note = published(self._log)
        if note is None or self._key is None or self._indexed < 0:
            return None
        proof = prove_absence(self._log, note, at.note, pixels=pixels, file=file, store=self._store)
        return proof.encode()

    # --- the thread ---

    def _follow(self) -> None:
        while not self._end.wait(self._seconds if self._indexed >= 0 else min(self._seconds, 0.2)):
            try:
                self._sign()
            except NotYet:
                continue
            except PlausibleError as error:
                _log.error("the absence index does not follow: %s", error)
            except Exception:  # noqa: BLE001
                # a bug: the log goes on without an index, and says so each time
                _log.exception("the absence index does not follow")

    def _sign(self) -> None:
        at, key = self.checkpoint(), self._key
        if key is None or at.size == self._indexed:
            return
        head = recompute(self._log, at.checkpoint, store=self._store)
        note = head.sign(key)
        served = published(self._log)
        if served is not None and (other := Note.parse(served)).text == note.text:
            note = merged(note, other)
        publish(self._public, note)
        self._indexed = at.size


def _tell(reason: str) -> None:
    _log.warning("the absence index is made anew from every entry: %s", reason)
