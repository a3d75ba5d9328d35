"""`Ledger`: one directory, one author's chain, one log. Everything else in this room is behind it.

    ledger = Ledger.open("studio.ledger")            # made by Ledger.init or pd init
    generate = ledger.wrap(generate, model="faces")  # same signature, same results, now on the record
    ...
    ledger.close()

Here is what writes; reading it is view.py's. docs/ledger.md says what is durable when, and what a kill can lose.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..schemas.errors import SetupError, UsageError
from . import forks
from .absence.follow import Status as IndexStatus
from .config import ledger_path
from .entries.authors import Authors
from .entries.entry import parse_entry
from .keys import rotation
from .layout import make_directory, read_directory, read_keys
from .notes.note import Note, SignerKey, VerifierKey
from .recorder.core import Recorder
from .seeds import openepoch
from .seeds.epochs import OpenEpoch, Seed
from .storage.disk import StorageFull
from .storage.state import STATE_FILE, ChainHead, ModelRow, State
from .vault.vault import MODEL, VAULT_FILE, Submission, Vault
from .vault.vaultkey import VaultKey
from .view import LedgerView
from .writing.receipt import ACCEPTED, AWAITABLE, WITNESSED, Receipt
from .writing.registry import RegisteredModel, store_model
from .writing.sending import Sender
from .writing.writer import Counters, Writer

_log = logging.getLogger("plausible.ledger")


class Ledger(LedgerView):
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
        super().__init__(path, read_directory(path))
        self._mode = mode
        self._on_error = on_error
        self._second_writer = second_writer
        self._spool = spool
        self._vault_key = vault_key
        self.sender = sender
        """Who sends the entries to a log elsewhere; None: they stay here."""
        self.await_state = await_state
        if mode == "append" and self.config.successor:
            raise SetupError(
                f"the log of {path} was closed and continues as {self.config.successor}: open that ledger, or this one "
                "with mode='read'"
            )
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
        forks.watch(self)

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
                receipt.accepted_as(row.position, writer.following.leaf_hash(row.position))
                return receipt
        key = os.urandom(16)
        receipt = writer.submit(key, lambda: Submission(key, MODEL, digest, name))
        receipt.wait(ACCEPTED, 120.0)
        return receipt

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

    def read_authors(self) -> Authors:
        """authors.txt as it stands now; `Ledger.authors` follows."""
        self.authors = read_directory(self.path).authors
        return self.authors

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

    def _stores(self) -> tuple[State, Vault]:
        if self._closed:
            raise UsageError("the ledger is closed")
        if self._reader is not None:
            return self._reader
        writer = self._writer_now()
        return writer.state, writer.vault

    def sign_index(self, signer: SignerKey, *, anew: bool = False) -> Note:
        """Sign and serve the absence index of the accepted checkpoint; see `absence.prove.sign_kept`.

        `signer` is the log's index key (ORIGIN/index), for which the index is kept and only new entries are read, or
        another one's. `anew`: all entries are read, whatever is kept. `EvidenceError` if the note served so far names
        another root for these entries.
        """
        from .absence.prove import sign_kept

        at = self.checkpoint().checkpoint
        return sign_kept(self.path, self.log, at, signer, anew=anew, tell=_log.warning)

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
        forks.forget(self)
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


__all__ = ["Ledger", "ModelRow", "RegisteredModel"]
