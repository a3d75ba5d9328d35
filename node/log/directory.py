"""The folder of a log with many authors: its settings, keys, policy, allowlist and state.

service.toml     origin, key files, how files are flushed, how often an idle head is cosigned again
policy.txt       the log's key, its witnesses with their addresses, the quorum (C2SP tlog-policy)
authors.txt      whose entries are taken; read anew when it changes
keys/            private keys, 0600
state.db         the signed head, the authors' chains, entries that are not in files yet; never restored from a backup
public/          all that is served, by this program or any web server
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...ledger.entries.authors import Authors
from ...ledger.keys.keyfile import check_roles, read_key, write_key
from ...ledger.layout import AUTHORS_FILE, POLICY_FILE
from ...ledger.merkle.public import CHECKPOINTS, PUBLIC_FOLDER
from ...ledger.merkle.tree import EMPTY_ROOT
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import ED25519, SignerKey, VerifierKey
from ...ledger.notes.policy import Policy
from ...ledger.storage.disk import staged_folder, storage, sync_folder, write_file
from ...ledger.storage.lock import LOCK_FILE, SequencerLock
from ...ledger.storage.store import STATE_FILE, Head
from ...ledger.witness.remote import open_witnesses
from ...ledger.writing.witnessed import WitnessedLog
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..settings import quoted, read_table
from .allowlist import Allowlist
from .chains import ChainStore
from .keeper import Keeper
from .lookup import Finder
from .similar import Similar

CONFIG = "service.toml"
LOG_KEY = "keys/log.key"
INDEX_KEY = "keys/index.key"
SYNC_MODES = ("lazy", "strict")
_FIELDS = {"origin", "keys", "sync", "refresh_seconds", "max_age_seconds", "index_key", "similar"}


@dataclass(frozen=True, slots=True)
class LogConfig:
    """service.toml. `refresh` and `max_age` in seconds: when an idle head is cosigned again, when it is too old."""

    origin: str
    keys: tuple[str, ...] = (LOG_KEY,)
    sync: str = "lazy"
    refresh: int = 3600
    max_age: int = 3 * 3600
    index_key: str = ""
    """The key that signs the absence index; empty: the log signs none."""
    similar: tuple[str, str] | None = None
    """(file of perceptual hashes, file of the token that who asks must bring); None: nobody can ask."""

    def to_toml(self) -> str:
        """The file's text."""
        return "\n".join(
            [
                "# A log with many authors. Only public/ may be served; keys/ and state.db are private.",
                "version = 1",
                f"origin = {quoted(self.origin)}",
                f"keys = [{', '.join(map(quoted, self.keys))}]",
                "# strict: files reach the disk before a head names them, for where another program serves public/",
                f"sync = {quoted(self.sync)}",
                "# an idle head is cosigned again after refresh_seconds; /readyz fails above max_age_seconds",
                f"refresh_seconds = {self.refresh}",
                f"max_age_seconds = {self.max_age}",
                *([f"index_key = {quoted(self.index_key)}"] if self.index_key else []),
                "# lookup by perceptual hash, for who brings the token (off): hashes is lines of INDEX PDQ",
                *(_similar_lines(self.similar)),
                "",
            ]
        )

    @classmethod
    def read(cls, folder: Path) -> LogConfig:
        """Read service.toml; `SetupError` if it is missing or says anything unknown."""
        path = folder / CONFIG
        missing = f"{folder} is no log (it has no {CONFIG}): make one with pd node log-init"
        table = read_table(path, _FIELDS, missing)
        return cls(
            origin=_text(table, "origin", path),
            keys=_texts(table, "keys", path),
            sync=_one_of(table, "sync", SYNC_MODES, path),
            refresh=_seconds(table, "refresh_seconds", cls.refresh, path),
            max_age=_seconds(table, "max_age_seconds", LogConfig.max_age, path),
            index_key=_text(table, "index_key", path) if "index_key" in table else "",
            similar=_similar(table, path),
        )


def make(folder: Path, origin: str, *, authors: Sequence[VerifierKey] = (), policy: str | None = None) -> SignerKey:
    """Make a log: a fresh key, an empty signed tree, a policy, an allowlist; `UsageError` if the folder is not empty.

    `policy` are the witness, group and quorum lines of a tlog-policy; None: no witnesses. Returns the log's key.
    """
    with storage(f"making {folder}"):
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken:
        raise UsageError(f"{folder} holds something already: choose an empty folder")
    try:
        key = SignerKey.generate(origin, ED25519)
    except EvidenceError as error:
        raise UsageError(f"{origin!r} is no name for a log: {error}") from None
    lines = f"log {key.verifier}\n{policy if policy is not None else 'quorum none'}\n"
    allowed = "# Whose entries this log takes: author VKEY [ORIGIN FIRST_REFUSED_INDEX]\n"
    allowed += "".join(f"author {author}\n" for author in authors)
    try:
        Policy.parse(lines.encode())
        Authors.parse(allowed)
    except EvidenceError as error:
        raise UsageError(f"this cannot be used: {error}") from None
    with staged_folder(folder, f"making {folder}") as temporary:
        (temporary / PUBLIC_FOLDER / CHECKPOINTS).mkdir(parents=True)
        (temporary / "keys").mkdir(mode=0o700)
        write_key(temporary / LOG_KEY, key)
        write_key(temporary / INDEX_KEY, SignerKey.generate(f"{origin}/index", ED25519))
        write_file(temporary / POLICY_FILE, lines.encode())
        write_file(temporary / AUTHORS_FILE, allowed.encode())
        note = Checkpoint(origin, 0, EMPTY_ROOT).sign(key).encode()
        ChainStore.create_chains(temporary / STATE_FILE, head=Head(0, EMPTY_ROOT, note), origin=origin)
        write_file(temporary / CONFIG, LogConfig(origin, index_key=INDEX_KEY).to_toml().encode())
        sync_folder(temporary)
    return key


@dataclass(frozen=True, slots=True)
class OpenLog:
    """An open log: what the service needs of it."""

    folder: Path
    config: LogConfig
    policy: Policy
    allowlist: Allowlist
    keeper: Keeper
    finder: Finder
    similar: Similar | None

    @property
    def public(self) -> Path:
        """All that may be served."""
        return self.folder / PUBLIC_FOLDER


@contextmanager
def open_log(folder: Path) -> Generator[OpenLog]:
    """The log of a folder, its thread running; `SetupError` if anything of it is missing, or another process has it.

    Leaving the block answers and publishes what was taken.
    """
    config = LogConfig.read(folder)
    try:
        policy = Policy.parse((folder / POLICY_FILE).read_bytes())
    except OSError as error:
        raise SetupError(f"{folder / POLICY_FILE} cannot be read: {error.strerror}") from None
    except EvidenceError as error:
        raise SetupError(f"{folder / POLICY_FILE}: {error}") from None
    keys = [read_key(folder / file) for file in config.keys]
    if any(key.name != config.origin for key in keys):
        raise SetupError(f"{folder / CONFIG} names the log {config.origin}, its key has another name")
    allowlist = Allowlist(folder / AUTHORS_FILE)
    roles = [("log", key.verifier.public) for key in keys]
    index_key = read_key(folder / config.index_key) if config.index_key else None
    roles += [("index", index_key.verifier.public)] if index_key is not None else []
    roles += [("author", author.key.public) for author in allowlist.authors.authors]
    check_roles(roles)
    if config.origin not in {log.key.name for log in policy.logs}:
        raise SetupError(f"{folder / POLICY_FILE} does not name the log {config.origin}")
    with ExitStack() as stack:
        lock = SequencerLock(folder / LOCK_FILE)
        if not lock.acquire():
            raise SetupError(f"another process runs the log in {folder}")
        stack.callback(lock.release)
        store = ChainStore(folder / STATE_FILE)
        stack.callback(store.close)
        if store.origin != config.origin:
            raise SetupError(f"{folder / STATE_FILE} is of the log {store.origin}, {CONFIG} says {config.origin}")
        witnesses = open_witnesses(policy)
        for witness in witnesses:
            stack.callback(witness.close)
        log = WitnessedLog(
            folder,
            store,
            log_keys=keys,
            policy=policy,
            witnesses=witnesses,
            strict=config.sync == "strict",
            remedy="It takes and signs nothing. Put back the newest state.db and public/, or start a new log",
        )
        keeper = Keeper(log, store, allowlist, refresh=config.refresh)
        stack.callback(keeper.close)
        finder = Finder(folder, folder / PUBLIC_FOLDER, policy, index_key)
        stack.callback(finder.close)
        similar = None if config.similar is None else Similar(*(folder / name for name in config.similar))
        yield OpenLog(folder, config, policy, allowlist, keeper, finder, similar)


def _text(table: dict[str, Any], name: str, path: Path) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise SetupError(f"{path}: {name} is missing or not a text")
    return value


def _texts(table: dict[str, Any], name: str, path: Path) -> tuple[str, ...]:
    value: Any = table.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):  # pyright: ignore[reportUnknownVariableType]
        raise SetupError(f"{path}: {name} is a list of texts")
    return tuple(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType]


def _similar(table: dict[str, Any], path: Path) -> tuple[str, str] | None:
    value = table.get("similar")
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"hashes", "token"}:  # pyright: ignore[reportUnknownArgumentType]
        raise SetupError(f"{path}: [similar] has hashes and token, two files")
    return _text(value, "hashes", path), _text(value, "token", path)  # pyright: ignore[reportUnknownArgumentType]


def _similar_lines(similar: tuple[str, str] | None) -> list[str]:
    names = similar or ("similar.txt", "keys/similar.token")
    lines = ["[similar]", f"hashes = {quoted(names[0])}", f"token = {quoted(names[1])}"]
    return lines if similar is not None else [f"# {line}" for line in lines]


def _one_of(table: dict[str, Any], name: str, allowed: tuple[str, ...], path: Path) -> str:
    value = table.get(name, allowed[0])
    if value not in allowed:
        raise SetupError(f"{path}: {name} is one of {', '.join(allowed)}")
    return str(value)


def _seconds(table: dict[str, Any], name: str, default: int, path: Path) -> int:
    value = table.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9:
        raise SetupError(f"{path}: {name} is a whole number of seconds")
    return value
