"""`Ledger`: one directory, one author's chain, one log. Everything else in this room is behind it.

    ledger = Ledger.open("studio.ledger")            # made by Ledger.init or pd init
    generate = ledger.wrap(generate, model="faces")  # same signature, same results, now on the record
    ...
    ledger.close()

Reads answer for the accepted checkpoint, the last head that met the policy's quorum, and check nothing that a verifier
must check himself: `proof` and `entry` give what the log serves, damaged or not, so that a false entry is found by
whoever verifies it. docs/ledger.md says what is durable when, and what a kill can lose.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..schemas.errors import EvidenceError, PlausibleError, SetupError, UsageError
from ..schemas.record import REPLAY_FIELDS, Record
from ..schemas.statement import SEED_EPOCH
from ..schemas.text import parse_digest
from .absence.follow import Status as IndexStatus
from .config import LedgerConfig, ledger_path
from .entries.authors import Authors
from .entries.entry import Entry, parse_entry
from .entries.record import make_opening
from .keys import rotation
from .keys.keyhistory import KEY_KINDS, KeyHistory
from .layout import make_directory, read_directory, read_keys
from .merkle.public import PUBLIC_FOLDER
from .merkle.reader import DirectorySource, TiledLog
from .merkle.tiles import WIDTH
from .merkle.tree import hash_leaf
from .notes.note import Note, SignerKey, VerifierKey
from .notes.policy import AcceptedCheckpoint
from .notes.proof import make_proof
from .recorder.core import Recorder
from .seeds import openepoch
from .seeds.epochs import EpochIndex, OpenEpoch, Seed
from .storage import archive
from .storage.disk import StorageFull
from .storage.lookup import LOOKUP_FILE, Damage, Lookup, read_bundle
from .storage.state import STATE_FILE, ChainHead, EpochRow, ModelRow, State
from .vault.vault import MODEL, VAULT_FILE, Submission, Vault
from .vault.vaultkey import VaultKey
from .writing.receipt import ACCEPTED, AWAITABLE, WITNESSED, Receipt
from .writing.registry import MODELS_FOLDER, RegisteredModel, store_model
from .writing.sending import Sender
from .writing.succession import Predecessor, read_predecessor
from .writing.writer import Counters, Writer

_log = logging.getLogger("plausible.ledger")

_MAX_RECORD = 64 * 1024 * 1024
_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_forking = threading.local()


class Ledger:
    """An open ledger directory. Thread-safe; use it as a context manager or `close` it."""

    def __init__(
        self,
        path: Path,
        *,
        mode: str,
        on_error: str,
        second_writer: str,
        await_state: str,
        spool: Path | None,
        vault_key: VaultKey | None = None,
        sender: Sender | None = None,
    ) -> None:
        """Use `Ledger.open` or `Ledger.init`."""
        _check_options(mode, on_error, second_writer, await_state)
        self.path = path
        self._mode = mode
        self._on_error = on_error
        self._second_writer = second_writer
        self._spool = spool
        self._vault_key = vault_key
        self.sender = sender
        """Who sends the entries to a log elsewhere; None: they stay here."""
        self.await_state = await_state
        contents = read_directory(path)
        self.config: LedgerConfig = contents.config
        if mode == "append" and self.config.successor:
            raise SetupError(
                f"the log of {path} was closed and continues as {self.config.successor}: open that ledger, or this one "
                "with mode='read'"
            )
        self.policy = contents.policy
        self.authors = contents.authors
        self._author = contents.authors.authors[0].key if len(contents.authors.authors) == 1 else None
        self.log = TiledLog(DirectorySource(self.public))
        self._lookup = Lookup(path / LOOKUP_FILE)
        self._lock = threading.RLock()
        self._writer: Writer | None = None
        self._reader: tuple[State, Vault] | None = None
        self._closed = False
        self._forked = False
        if mode == "append":
            self._open_writer()
        else:
            self._reader = self._open_reader()
        self._last_chain = self._chain()
        self._recorder = Recorder(self)
        self._epochs = openepoch.EpochPool(self)
        _open_ledgers.add(self)

    # --- making and opening ---

    @classmethod
    def init(
        cls,
        path: Path | str,
        *,
        author: str,
        origin: str | None = None,
        policy: int | str | bytes | None = None,
        witnesses: Sequence[str] = (),
        witness_keys: str = "ed25519",
        vault_key: VaultKey | Path | str | None = None,
        index: bool = False,
    ) -> Self:
        """Make a ledger directory with fresh keys and open it.

        `author` and `origin` (default AUTHOR/log) are key names, recommended as URLs without scheme. `witnesses` are
        key names of witnesses that cosign in this process; `policy` is how many of them are the quorum (default: a
        majority), or the witness, group and quorum lines of a tlog-policy. Without witnesses the quorum is `none`.
        `witness_keys`: "ed25519", "ml-dsa-44" or "both" (then a witness's vote needs both of its signatures).
        With `vault_key` (a `VaultKey`, or the path of a key file), or where PD_VAULT_KEY or PD_VAULT_PASSPHRASE name
        one, the vault is encrypted from the start. With `index` the process that sequences keeps the absence index up
        and signs it (absence/follow.py).
        """
        folder = Path(path)
        key = _vault_key(vault_key) or VaultKey.from_environment()
        make_directory(
            folder,
            author=author,
            origin=origin,
            policy=policy,
            witnesses=witnesses,
            witness_keys=witness_keys,
            vault_key=key,
            index=index,
        )
        return cls.open(folder, vault_key=key)

    @classmethod
    def succeed(
        cls, old: Path | str, path: Path | str, *, origin: str, vault_key: VaultKey | Path | str | None = None
    ) -> Ledger:
        """Close the log of the ledger `old` and open one at `path` that continues it; see `continuing.continue_log`."""
        from .writing.continuing import continue_log

        return continue_log(Path(old), Path(path), origin=origin, vault_key=_vault_key(vault_key))

    def predecessor(self) -> Predecessor | None:
        """The closed log that this one continues, if it does."""
        return read_predecessor(self.entry(0), self.origin) if self.checkpoint().size else None

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        mode: str = "append",
        on_error: str = "raise",
        second_writer: str = "enqueue",
        await_state: str = "none",
        spool: Path | str | None = None,
        vault_key: VaultKey | Path | str | None = None,
        sender: Sender | None = None,
    ) -> Self:
        """Open a ledger directory.

        mode           "append", or "read": any number of readers, also on a read-only file system
        on_error       what happens when nothing can be stored: "raise", or "spool" to a durable local journal
        second_writer  when another process sequences: "enqueue" durably for it, or "error"
        await_state    how far `append` and wrapped calls wait: "none" (a kill loses what is still in memory),
                       "accepted" (durable), "sequenced" or "witnessed"
        spool          another place for the journal than log.toml's
        vault_key      what opens an encrypted vault: a `VaultKey`, or the path of a key file; None: what
                       PD_VAULT_KEY or PD_VAULT_PASSPHRASE name
        sender         who sends the entries to a log elsewhere (plausible.node.sender.open_ledger); its states are
                       then what receipts, `await_state` and `flush` speak of

        Raises `SetupError` with one sentence for everything that keeps the ledger from opening.
        """
        return cls(
            Path(path),
            mode=mode,
            on_error=on_error,
            second_writer=second_writer,
            await_state=await_state,
            spool=None if spool is None else Path(spool),
            vault_key=_vault_key(vault_key),
            sender=sender,
        )

    def _open_writer(self) -> None:
        self._writer = Writer(
            self.path,
            self.config,
            keys=read_keys(self.path, self.config),
            policy=self.policy,
            on_error=self._on_error,
            second_writer=self._second_writer,
            spool=self._spool or ledger_path(self.path, self.config.spool),
            vault_key=self._vault_key,
            sender=self.sender,
        )
        # a forked child opens its own, also after the environment was cleared
        self._vault_key = self._writer.vault.key

    def _open_reader(self) -> tuple[State, Vault]:
        state = State(self.path / STATE_FILE, readonly=True)
        try:
            return state, Vault(self.path / VAULT_FILE, readonly=True, key=self._vault_key)
        except BaseException:
            state.close()
            raise

    def _writer_now(self) -> Writer:
        """The writer of this process; after a fork the child opens one of its own, at the first use."""
        if self._closed:
            raise UsageError("the ledger is closed")
        if self._mode != "append":
            raise UsageError("the ledger was opened for reading: open it with mode='append' to record")
        writer = self._writer
        if writer is not None and writer.progress.pid == os.getpid():
            return writer
        with self._lock:
            if self._writer is None or self._writer.progress.pid != os.getpid():
                self._open_writer()
            assert self._writer is not None  # noqa: S101  (set by the line above)
            return self._writer

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

    @property
    def author_vkey(self) -> str:
        """The verifier key text that signs new entries; changes with a rotation."""
        return self._chain().author

    @property
    def chain(self) -> bytes:
        """The chain that new entries join, 16 bytes; changes with a rotation."""
        return self._chain().chain

    def _chain(self) -> ChainHead:
        if not self._closed:
            self._last_chain = self._reader[0].chain if self._reader is not None else self._writer_now().draws.chain
        return self._last_chain

    def chain_of(self, draw: int) -> tuple[str, bytes]:
        """(author's verifier key text, chain) that a reserved draw belongs to."""
        head = self._writer_now().draws.chain_of(draw)
        return head.author, head.chain

    @property
    def author(self) -> VerifierKey:
        """The author's verifier key."""
        return VerifierKey.parse(self.author_vkey)

    @property
    def sequencing(self) -> bool:
        """Whether this process is the one that sequences."""
        return self._writer is not None and self._writer.sequencing

    @property
    def counters(self) -> Counters:
        """What this process recorded, spooled and lost since it opened the ledger."""
        return self._writer_now().counters

    @property
    def index_status(self) -> IndexStatus | None:
        """How far this process has kept the absence index up, and what is wrong; None where it does not."""
        follower = None if self._writer is None else self._writer.index
        return None if follower is None else follower.status

    # --- recording ---

    def wrap(self, target: Any, *, model: str, **options: Any) -> Any:
        """Put a callable or an `nn.Module` on the record; see `recorder.wrap.wrap` for the options."""
        from .recorder.wrap import wrap

        return wrap(self._recorder, target, model=model, **options)

    def record(self, *, model: str, **options: Any) -> Callable[[Any], Any]:
        """`wrap` as a decorator."""

        def decorate(target: Any) -> Any:
            return self.wrap(target, model=model, **options)

        return decorate

    def generation(self, *, model: str, **options: Any) -> Any:
        """A `with` block that is one generation; see `recorder.generation.Generation`."""
        from .recorder.generation import Generation

        return Generation(self._recorder, model=model, **options)

    def append(self, *, image: Any, model: str, **fields: Any) -> Receipt:
        """Log one finished image; see `recorder.core.Recorder.append` for the fields."""
        return self._recorder.append(image=image, model=model, **fields)

    def submit(self, key: bytes, seal: Callable[[], Submission]) -> Receipt:
        """Hand one submission to the writer and wait as `await_state` says; the recorder's way in."""
        receipt = self._writer_now().submit(key, seal)
        return receipt if self.await_state == "none" else receipt.wait(self.await_state)

    def later(self, task: Callable[[], None]) -> None:
        """Have the writer's thread do something small after its next round."""
        self._writer_now().later(task)

    def take_draws(self, count: int) -> list[int]:
        """Draws for `count` images, durably reserved."""
        return self._writer_now().draws.take(count)

    def open_epoch(self, count: int = 1024) -> OpenEpoch:
        """Fix the seeds of `count` draws and publish their root; see `openepoch.open_epoch`."""
        return openepoch.open_epoch(self, count)

    def take_seeds(self, count: int) -> list[Seed]:
        """Draws of the open epoch with their seeds, durably given out; `SetupError` if there are not so many left."""
        return self._epochs.take(count)

    def take_epoch_draws(self, number: int, count: int) -> int | None:
        """Count draws of an epoch as given out, durably; the first of them, None if there are not so many."""
        return self._writer_now().state.take_epoch_draws(number, count)

    def newest_chain_id(self) -> int:
        """Which of the own chains new entries join."""
        return self._state.chain_id

    def epochs(self) -> list[EpochRow]:
        """The seed epochs of this directory, oldest first."""
        return self._state.epochs()

    # --- models ---

    def register_model(
        self, name: str, *, manifest: Mapping[str, Any] | None = None, folder: Path | str | None = None
    ) -> Receipt:
        """Keep a model under `name` and log its manifest's digest (`model:v1`), before any generation of it.

        `folder` is a model folder {manifest.json, weights.safetensors, calibrations/}; it is copied in. Registering the
        same model under the same name again returns the receipt of the entry that exists. Waits for `accepted`.
        """
        writer = self._writer_now()
        digest = store_model(self.path, name, manifest=manifest, folder=None if folder is None else Path(folder))
        for row in writer.state.models():
            if (row.name, row.digest) == (name, digest):
                receipt = Receipt(b"", writer.progress)
                receipt.accepted_as(row.position, writer.leaf_hash(row.position))
                return receipt
        key = os.urandom(16)
        receipt = writer.submit(key, lambda: Submission(key, MODEL, digest, name))
        receipt.wait(ACCEPTED, 120.0)
        return receipt

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

    # --- keys ---

    def name_successor(self, vkey: str) -> Receipt:
        """Log that `vkey` may follow the author's key (`author-key:v1`), without changing who signs."""
        return rotation.name_successor(self, vkey)

    def rotate_author_key(self, key: SignerKey | None = None) -> Receipt:
        """Log a successor of the author's key (a fresh one by default) and sign with it from then on.

        See `rotation.rotate_author_key`.
        """
        return rotation.rotate_author_key(self, key)

    def revoke_author_key(self, vkey: str) -> Receipt:
        """Log that a former key's entries count no more from now on; see `rotation.revoke_author_key`."""
        return rotation.revoke_author_key(self, vkey)

    def own_chains(self) -> list[str]:
        """The author keys (verifier key texts) that signed for this directory, oldest first; the last one signs now."""
        return list(dict.fromkeys(chain.head.author for chain in self._state.chains()))

    def read_authors(self) -> Authors:
        """authors.txt as it stands now; `Ledger.authors` follows."""
        self.authors = read_directory(self.path).authors
        return self.authors

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

    def submit_entry(self, submission: Submission) -> Receipt:
        """Hand over an entry about a key or an epoch and wait until it is accepted."""
        writer = self._writer_now()
        receipt = writer.submit(submission.key, lambda: submission)
        receipt.wait(ACCEPTED, 120.0)
        writer.draws.refill()
        return receipt

    def reserve_epoch_draws(self, count: int) -> int:
        """Reserve `count` draws of the newest chain for an epoch, in whole blocks; the first of them."""
        return self._writer_now().draws.reserve_apart(count)

    # --- reading ---

    @property
    def _state(self) -> State:
        return self._stores()[0]

    @property
    def vault(self) -> Vault:
        """The private records."""
        return self._stores()[1]

    def _stores(self) -> tuple[State, Vault]:
        if self._closed:
            raise UsageError("the ledger is closed")
        if self._reader is not None:
            return self._reader
        writer = self._writer_now()
        return writer.state, writer.vault

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

    def sign_index(self, signer: SignerKey, *, anew: bool = False) -> Note:
        """Sign and serve the absence index of the accepted checkpoint; see `absence.prove.sign_kept`.

        `signer` is the log's index key (ORIGIN/index), for which the index is kept and only new entries are read, or
        another one's. `anew`: all entries are read, whatever is kept. `EvidenceError` if the note served so far names
        another root for these entries.
        """
        from .absence.prove import sign_kept

        at = self.checkpoint().checkpoint
        return sign_kept(self.path, self.log, at, signer, anew=anew, tell=_log.warning)

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

    def erase(self, index: int) -> bool:
        """Delete the record behind an entry, its secret and key; the entry and its digests stay in the log for ever.

        What waits in the journal is taken into the vault before. False if another process keeps old bytes in the
        write-ahead log (erase again when it is closed). Backups made before still hold the record: docs/security.md.
        """
        generation = parse_entry(self.entry(index)).generation
        if generation is None:
            raise UsageError(f"entry {index} is not about an image, so there is no record behind it")
        if self._mode != "append":
            raise UsageError("the ledger was opened for reading")
        # a seed that an epoch fixed also stands among the epoch's
        gone = openepoch.erase_seed(self, generation.draw)
        return self._writer_now().erase(generation.commitment) and gone

    # --- ending ---

    def flush(self, state: str = WITNESSED, timeout: float | None = 60.0) -> None:
        """Wait until everything recorded so far is accepted, sequenced or witnessed.

        Raises what a generation died of since the last call, or `NotYet` after `timeout` seconds.
        """
        if state not in AWAITABLE:
            raise UsageError(f"flush waits for {', '.join(AWAITABLE)}, not {state!r}")
        self._writer_now().flush(state, timeout)

    def close(self) -> None:
        """Store and sequence what waits, give the lock back. Raises what was not reported yet; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            if self._reader is not None or (self._writer is not None and self._writer.progress.pid == os.getpid()):
                self._chain()
            self._closed = True
        _open_ledgers.discard(self)
        if self._reader is not None:
            for store in self._reader:
                store.close()
        elif self._writer is not None and self._writer.progress.pid == os.getpid():
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except (SetupError, StorageFull):
            # the block's own exception says more than ours
            if value is None:
                raise

    def __repr__(self) -> str:
        return f"<Ledger {self.path} of {self.config.author}{' (closed)' if self._closed else ''}>"

    # --- forks ---

    def before_fork(self) -> None:
        """Close what must not be inherited; called by the fork handlers below."""
        self._lock.acquire()
        self._lookup.lock.acquire()
        if self._reader is not None:
            for store in self._reader:
                store.db.suspend()
        elif self._writer is not None:
            self._writer.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on in the parent."""
        if self._reader is not None:
            for store in self._reader:
                store.db.resume()
        elif self._writer is not None:
            self._writer.after_fork_in_parent()
        self._lookup.lock.release()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start anew in the child, as a second writer, at the first use."""
        if self._reader is not None:
            for store in self._reader:
                store.db.resume()
        elif self._writer is not None:
            self._writer.forget()
        self._lookup.lock = threading.Lock()
        self._lock = threading.RLock()
        self._recorder.after_fork()
        self._epochs = openepoch.EpochPool(self)


def _vault_key(value: VaultKey | Path | str | None) -> VaultKey | None:
    return VaultKey.from_file(value) if isinstance(value, (str, Path)) else value


def _check_options(mode: str, on_error: str, second_writer: str, await_state: str) -> None:
    for name, value, allowed in (
        ("mode", mode, ("append", "read")),
        ("on_error", on_error, ("raise", "spool")),
        ("second_writer", second_writer, ("enqueue", "error")),
        ("await_state", await_state, ("none", *AWAITABLE)),
    ):
        if value not in allowed:
            raise UsageError(f"{name} is one of {', '.join(allowed)}, not {value!r}")


def _before_fork() -> None:
    _forking.ledgers = list(_open_ledgers)
    for ledger in _forking.ledgers:
        ledger.before_fork()


def _after_fork_in_parent() -> None:
    for ledger in _forking.ledgers:
        ledger.after_fork_in_parent()
    _forking.ledgers = []


def _after_fork_in_child() -> None:
    for ledger in _forking.ledgers:
        ledger.after_fork_in_child()
    _forking.ledgers = []


def _close_all() -> None:
    for ledger in list(_open_ledgers):
        try:
            ledger.close()
        except PlausibleError as error:
            _log.error("%s was not closed cleanly: %s", ledger.path, error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
# a program that forgets to close must not lose what is in memory; the writer's thread still runs at this point
atexit.register(_close_all)

__all__ = ["Ledger", "ModelRow", "RegisteredModel"]
