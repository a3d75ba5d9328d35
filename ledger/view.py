"""The reading half of a ledger: what lies under its checkpoint, and the private records behind it.

Reads answer for the accepted checkpoint, the last head that met the policy's quorum, and check nothing that a verifier
must check himself: `proof` and `entry` give what the log serves, damaged or not, so that a false entry is found by
whoever verifies it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..schemas.errors import EvidenceError, SetupError, UsageError
from ..schemas.record import REPLAY_FIELDS, Record
from ..schemas.statement import SEED_EPOCH
from ..schemas.text import parse_digest
from .config import LedgerConfig
from .entries.entry import Entry, parse_entry
from .entries.record import make_opening
from .keys.keyhistory import KEY_KINDS, KeyHistory
from .layout import Contents
from .merkle.public import PUBLIC_FOLDER
from .merkle.reader import DirectorySource, TiledLog
from .merkle.tiles import WIDTH
from .merkle.tree import hash_leaf
from .notes.policy import AcceptedCheckpoint
from .notes.proof import make_proof
from .seeds.epochs import EpochIndex
from .storage import archive
from .storage.lookup import LOOKUP_FILE, Damage, Lookup, read_bundle
from .storage.state import EpochRow, State
from .vault.vault import Vault
from .writing.registry import MODELS_FOLDER, RegisteredModel
from .writing.succession import Predecessor, read_predecessor

_MAX_RECORD = 64 * 1024 * 1024


class LedgerView(ABC):
    """A ledger directory as it can be read; `Ledger` adds writing."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """`contents` were read from `path`."""
        self.path = path
        self.config: LedgerConfig = contents.config
        self.policy = contents.policy
        self.authors = contents.authors
        self.log = TiledLog(DirectorySource(self.public))
        self._lookup = Lookup(path / LOOKUP_FILE)

    @abstractmethod
    def _stores(self) -> tuple[State, Vault]:
        """The databases; `UsageError` once it is closed."""

    @property
    def vault(self) -> Vault:
        """The private records."""
        return self._stores()[1]

    @property
    def _state(self) -> State:
        return self._stores()[0]

    # --- who and where ---

    @property
    def name(self) -> str:
        """The directory's name, for people."""
        return self.path.name

    @property
    def origin(self) -> str:
        """The log's identity, the first line of its checkpoints."""
        return self.config.origin

    @property
    def public(self) -> Path:
        """The folder that may be served; nothing else of the directory may."""
        return self.path / PUBLIC_FOLDER

    def predecessor(self) -> Predecessor | None:
        """The closed log that this one continues, if it does."""
        return read_predecessor(self.entry(0), self.origin) if self.checkpoint().size else None

    # --- entries ---

    def checkpoint(self) -> AcceptedCheckpoint:
        """The served checkpoint, held against the policy; `PolicyError` if it does not meet it."""
        return self.policy.check(self.log.checkpoint_bytes())

    def pending(self) -> bytes:
        """The last signed head as a note, cosigned or not."""
        return self._state.head.note

    def find(self, pixels: bytes | None = None, file: bytes | None = None, *, model: bytes | None = None) -> list[int]:
        """Indexes of the entries about this pixel digest, file digest or model (32 bytes each), ascending."""
        wanted = {"pixels": pixels, "file": file, "model": model}
        columns = {name: value.hex() for name, value in wanted.items() if value is not None}
        if not columns:
            raise UsageError("find needs a pixel digest, a file digest or a model digest")
        at = self.checkpoint()
        return self._lookup.find(self.log, at.size, at.root, **columns)

    def damaged(self) -> list[Damage]:
        """Entries that do not hash into the tree of the checkpoint, as found while indexing."""
        at = self.checkpoint()
        return self._lookup.damaged(self.log, at.size, at.root)

    def entry(self, index: int) -> bytes:
        """The leaf bytes of an entry as the log serves them, compared with nothing.

        `UsageError` beyond the checkpoint.
        """
        size = self.checkpoint().size
        if not 0 <= index < size:
            raise UsageError(f"there is no entry {index} under the checkpoint of size {size}")
        return read_bundle(self.log, index // WIDTH, size)[index % WIDTH]

    def proof(self, index: int, *, at: AcceptedCheckpoint | None = None) -> bytes:
        """A tlog-proof of an entry under the accepted checkpoint (or another one), with the entry as `extra`.

        Made, not verified: whoever receives it checks it, and a log whose entry was edited is found that way.
        """
        at = at or self.checkpoint()
        path = self.log.path(index, at.size)
        return make_proof(index, path, at.note, self.entry(index)).encode()

    def dated_by(self, index: int) -> AcceptedCheckpoint:
        """The first kept checkpoint that covers an entry: the one whose existence time dates it; see archive.py."""
        return archive.dated_by(self.log, index, self.policy)

    def opening(self, index: int, fields: Iterable[str] = REPLAY_FIELDS) -> bytes:
        """An opening of these fields of the record behind an entry; `context` is always among them.

        Raises `SetupError` if the vault has no such record, `UsageError` if it was erased or the entry has none.
        """
        record, secret = self._record_behind(index)
        return make_opening(record, secret, fields)

    def record_of(self, index: int) -> Record:
        """The private record behind an entry."""
        return self._record_behind(index)[0]

    def _record_behind(self, index: int) -> tuple[Record, bytes]:
        generation = parse_entry(self.entry(index)).generation
        if generation is None:
            raise UsageError(f"entry {index} is not about an image, so there is no record behind it")
        data, secret = self.vault.record(generation.commitment)
        return Record.parse(data, limit=_MAX_RECORD), secret

    def records(self) -> Iterator[tuple[int, Entry, Record]]:
        """(index, entry, record) of every generation under the checkpoint whose record is here and not erased.

        Entries that do not read as entries are passed over; `damaged` names them.
        """
        at = self.checkpoint()
        indexes = self._lookup.indexes(self.log, at.size, at.root)
        number, bundle = -1, list[bytes]()
        for commitment, record, _ in self.vault.generations():
            index = indexes.get(commitment.hex())
            if index is None:
                continue
            if number != index // WIDTH:
                number = index // WIDTH
                bundle = read_bundle(self.log, number, at.size)
            with contextlib.suppress(EvidenceError):
                yield index, parse_entry(bundle[index % WIDTH]), Record.parse(record, limit=_MAX_RECORD)

    # --- keys, epochs, models ---

    def own_chains(self) -> list[str]:
        """The author keys (verifier key texts) that signed for this directory, oldest first; the last one signs now."""
        return list(dict.fromkeys(chain.head.author for chain in self._state.chains()))

    def key_history(self) -> KeyHistory:
        """What the entries under the checkpoint say about authors' keys, as the lookup index finds them."""
        at = self.checkpoint()
        history = KeyHistory()
        for index in self._lookup.of_kinds(self.log, at.size, at.root, KEY_KINDS):
            leaf = self.entry(index)
            # what the index names is believed only where it lies in the tree
            if hash_leaf(leaf) == self.log.hash(0, index, at.size):
                history.pass_by(index, parse_entry(leaf))
        return history

    def epoch_index(self) -> EpochIndex:
        """The seed epochs under the checkpoint, as the lookup index finds them."""
        at = self.checkpoint()
        history, index = self.key_history(), EpochIndex()
        for place in self._lookup.of_kinds(self.log, at.size, at.root, (SEED_EPOCH,)):
            leaf = self.entry(place)
            if hash_leaf(leaf) == self.log.hash(0, place, at.size):
                index.pass_by(at.origin, place, parse_entry(leaf), history)
        return index

    def epochs(self) -> list[EpochRow]:
        """The seed epochs of this directory, oldest first."""
        return self._state.epochs()

    def epoch_proof(self, index: int) -> bytes | None:
        """A tlog-proof of the epoch that fixed the seed behind entry `index`; None if its record names none."""
        latent = self.record_of(index).latent
        if latent is None or latent.epoch is None:
            return None
        wanted = parse_digest(latent.epoch.entry)
        found = self.epoch_index().entries.get(wanted)
        if found is None:
            raise SetupError(f"the epoch that entry {index} names is not in this log")
        return self.proof(found.index)

    def models(self) -> list[RegisteredModel]:
        """The registered models by name."""
        folder = self.path / MODELS_FOLDER
        return [RegisteredModel(m.name, m.digest, m.position, folder / m.name) for m in self._state.models()]

    def model(self, name: str) -> RegisteredModel:
        """One registered model; `SetupError` that says how to register it if there is none of this name."""
        for model in self.models():
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models()) or "none"
        raise SetupError(
            f"no model {name!r} is registered here (registered: {known}); register it first: "
            f"ledger.register_model({name!r}, folder=...) or pd models add"
        )
