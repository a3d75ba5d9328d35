"""`log.toml`: what a ledger directory is, in a file that people read and edit. It holds no secret.

    version = 1
    author = "models.example/studio"
    origin = "models.example/studio/log"
    sync = "lazy"
    spool = "spool.journal"

    [batch]
    entries = 1000
    wait_ms = 50.0

    [[witness]]
    name = "notary"
    key = "keys/witness-notary.key"
    state = "witnesses/notary.db"
    more_keys = ["keys/witness-notary-ml-dsa-44.key"]   # signs beside `key`, under the same name

    [index]
    follow = true            # the process that sequences keeps the absence index and signs it (absence/follow.py)
    key = "keys/index.key"

Unknown keys are refused: a misspelt option that silently does nothing is how durability gets lost. Paths are relative
to the directory unless absolute. The file is trusted like the keys beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..schemas import toml
from ..schemas.errors import EvidenceError, SetupError, UsageError

CONFIG_FILE = "log.toml"
LAYOUT_VERSION = 1
"""Version of the directory layout and of both databases; a newer one is refused, never guessed at."""

_TOP = {"version", "author", "origin", "log_keys", "successor", "sync", "spool", "batch", "witness", "index"}
_LOG_KEY = "keys/log.key"
INDEX_KEY = "keys/index.key"
SYNC_MODES = ("lazy", "strict")


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """A witness that cosigns in this process: its name, key file and the database that keeps it from going back.

    `more_keys` are further key files under the same name: ML-DSA-44 beside Ed25519, or the next key during a rotation.
    """

    name: str
    key: str
    state: str
    more_keys: tuple[str, ...] = ()

    @property
    def key_files(self) -> tuple[str, ...]:
        """All its key files."""
        return (self.key, *self.more_keys)


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """The parsed `log.toml`. `sync` "strict" flushes tiles before a head names them, "lazy" within about a second."""

    author: str
    origin: str
    sync: str = "lazy"
    spool: str = "spool.journal"
    batch_entries: int = 1000
    batch_wait_ms: float = 50.0
    witnesses: tuple[WitnessConfig, ...] = ()
    log_keys: tuple[str, ...] = ("keys/log.key",)
    """Files of the keys that sign heads; two while one follows the other (logkeys.py)."""
    successor: str = ""
    """The origin of the log that continues this one (succession.py): then this one signs no more. Empty: it goes on."""
    index_follow: bool = False
    """Whether the process that sequences keeps the absence index up and signs it, with the key in this file."""
    index_key: str = INDEX_KEY

    def to_toml(self) -> str:
        """The file's text. Whatever stands in it reads back the same."""
        lines = [
            "# A ledger directory. Only public/ may be served; keys/, state.db and vault.db are private.",
            f"version = {LAYOUT_VERSION}",
            f"author = {_quote(self.author)}",
            f"origin = {_quote(self.origin)}",
            *([f"log_keys = [{', '.join(map(_quote, self.log_keys))}]"] if self.log_keys != (_LOG_KEY,) else []),
            *([f"successor = {_quote(self.successor)}"] if self.successor else []),
            "# lazy: tiles reach the disk within about a second of the head that names them (re-derived at start);",
            "# strict: before it, for where another program serves public/",
            f"sync = {_quote(self.sync)}",
            '# where on_error = "spool" keeps what the databases could not take; put it on another disk if you can',
            f"spool = {_quote(self.spool)}",
            "",
            "[batch]",
            f"entries = {self.batch_entries}",
            f"wait_ms = {self.batch_wait_ms}",
        ]
        for witness in self.witnesses:
            lines += [
                "",
                "[[witness]]",
                f"name = {_quote(witness.name)}",
                f"key = {_quote(witness.key)}",
                f"state = {_quote(witness.state)}",
            ]
            if witness.more_keys:
                lines.append(f"more_keys = [{', '.join(map(_quote, witness.more_keys))}]")
        if self.index_follow or self.index_key != INDEX_KEY:
            follow = "true" if self.index_follow else "false"
            lines += ["", "[index]", f"follow = {follow}", f"key = {_quote(self.index_key)}"]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str, path: str = CONFIG_FILE) -> LedgerConfig:
        """Read a `log.toml`; raises `SetupError` with one sentence for anything wrong in it."""
        try:
            table = toml.decode(text.encode("utf-8", "surrogatepass"), path)
        except EvidenceError as error:
            raise SetupError(str(error)) from None
        version = table.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise SetupError(f"{path} does not say which version of the layout it is")
        if version > LAYOUT_VERSION:
            raise SetupError(
                f"{path} is of version {version}, this program knows {LAYOUT_VERSION}: the ledger was made by a newer "
                "plausible-deniability; upgrade to open it"
            )
        _refuse_unknown(table, _TOP, path)
        batch = _table(table.get("batch", {}), f"{path}: [batch]")
        _refuse_unknown(batch, {"entries", "wait_ms"}, f"{path}: [batch]")
        entries = batch.get("entries", 1000)
        wait_ms = batch.get("wait_ms", 50.0)
        if not isinstance(entries, int) or isinstance(entries, bool) or not 1 <= entries <= 100_000:
            raise SetupError(f"{path}: batch.entries is a number from 1 to 100000")
        if not isinstance(wait_ms, (int, float)) or isinstance(wait_ms, bool) or not 0 <= wait_ms <= 10_000:
            raise SetupError(f"{path}: batch.wait_ms is a number of milliseconds from 0 to 10000")
        index = _table(table.get("index", {}), f"{path}: [index]")
        _refuse_unknown(index, {"follow", "key"}, f"{path}: [index]")
        follow = index.get("follow", False)
        if not isinstance(follow, bool):
            raise SetupError(f"{path}: index.follow is true or false")
        sync = _text(table, "sync", path, "lazy")
        if sync not in SYNC_MODES:
            raise SetupError(f'{path}: sync is "lazy" or "strict", not {sync!r}')
        raw = table.get("witness", [])
        if not isinstance(raw, list):
            raise SetupError(f"{path}: witnesses are given as [[witness]] tables")
        witnesses: list[WitnessConfig] = []
        for number, value in enumerate(cast("list[Any]", raw)):
            where = f"{path}: [[witness]] {number + 1}"
            item = _table(value, where)
            _refuse_unknown(item, {"name", "key", "state", "more_keys"}, where)
            more = _texts(item, "more_keys", where)
            witnesses.append(
                WitnessConfig(_text(item, "name", where), _text(item, "key", where), _text(item, "state", where), more)
            )
        if len({w.name for w in witnesses}) != len(witnesses) or len({w.state for w in witnesses}) != len(witnesses):
            raise SetupError(f"{path}: two witnesses share a name or a state file")
        return cls(
            author=_text(table, "author", path),
            origin=_text(table, "origin", path),
            sync=sync,
            spool=_text(table, "spool", path, "spool.journal"),
            batch_entries=entries,
            batch_wait_ms=float(wait_ms),
            witnesses=tuple(witnesses),
            log_keys=_texts(table, "log_keys", path) or (_LOG_KEY,),
            successor=_text(table, "successor", path) if "successor" in table else "",
            index_follow=follow,
            index_key=_text(index, "key", f"{path}: [index]", INDEX_KEY),
        )

    @classmethod
    def read(cls, directory: Path) -> LedgerConfig:
        """The configuration of a ledger directory; `SetupError` if it is not one."""
        path = directory / CONFIG_FILE
        try:
            with path.open("rb") as file:
                text = file.read(toml.MAX_TOML_BYTES + 1).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise SetupError(f"{directory} is not a ledger: it has no {CONFIG_FILE} (make one with pd init)") from None
        except (OSError, UnicodeError) as error:
            raise SetupError(f"{path} cannot be read: {error}") from None
        return cls.parse(text, str(path))


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but surrogate pairs are not, nor is a bare DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def ledger_path(directory: Path, value: str) -> Path:
    """A path of `log.toml`: relative ones start at the ledger directory."""
    if not value:
        raise UsageError("a path in log.toml is empty")
    return directory / value


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SetupError(f"{where} is not a table")
    return cast("dict[str, Any]", value)


def _text(table: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise SetupError(f"{where}: {key} is missing or not a text")
    return value


def _texts(table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in cast("list[Any]", value)):
        raise SetupError(f"{where}: {key} is not a list of texts")
    return tuple(cast("list[str]", value))


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise SetupError(f"{where}: unknown key {unknown[0]!r}")
