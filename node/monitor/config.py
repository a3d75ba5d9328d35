"""monitor.toml: which logs are followed, and what is done when one is caught.

    version = 1
    poll_seconds = 60.0
    look_seconds = 600.0                          # a look that is not done by then says so, and goes on in the next
    evidence = "evidence"
    hook = ["/usr/local/bin/page-the-operator"]   # run with the evidence file's path as last argument; no shell
    hook_seconds = 30.0

    [[log]]
    policy = "studio.policy"                      # one log line and its URL; witnesses with URLs are asked too
    url = "https://log.example/studio"            # if the policy has none: an address, or a folder
    mirrors = ["https://mirror.example"]          # tlog-mirror prefixes, or copies of the log: addresses or folders
    index_policy = "studio.index.policy"          # whose index notes are recomputed
    max_age_seconds = 86400                       # older cosignatures mean that somebody shows an old head

Paths are relative to the file. Unknown keys are refused. `PD_MONITOR_POLL_SECONDS`, `PD_MONITOR_EVIDENCE` and
`PD_MONITOR_HOOK` (words as in a shell, which is not used) stand before the file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...ledger.absence.note import IndexPolicy
from ...ledger.notes.note import VerifierKey
from ...ledger.notes.policy import Policy
from ...schemas.errors import PlausibleError, SetupError
from ..settings import read_table

CONFIG = "monitor.toml"
STATE = "monitor.db"
LOCK = "monitor.lock"
INDEXES = "indexes"
_TOP = {"poll_seconds", "look_seconds", "evidence", "hook", "hook_seconds", "log"}
_LOG = {"policy", "url", "mirrors", "index_policy", "max_age_seconds"}


@dataclass(frozen=True, slots=True)
class WatchedLog:
    """One log to follow; places are URLs (text) or folders."""

    origin: str
    policy: Policy
    place: str | Path
    mirrors: tuple[str | Path, ...]
    index_policy: IndexPolicy | None
    max_age: float | None = None

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The keys that sign its heads."""
        return tuple(log.key for log in self.policy.logs)


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """A parsed monitor.toml; `folder` holds it, the state and the evidence."""

    folder: Path
    logs: tuple[WatchedLog, ...]
    poll_seconds: float
    evidence: Path
    hook: tuple[str, ...]
    hook_seconds: float
    look_seconds: float = 600.0


def config_file(where: Path) -> Path:
    """The file that a folder or a path to the file itself names."""
    return where / CONFIG if where.is_dir() else where


def read_config(where: Path, environment: Mapping[str, str] | None = None) -> MonitorConfig:
    """Read monitor.toml and the policies it names; `SetupError` with one sentence for anything wrong in it."""
    path = config_file(where)
    missing = f"{where} is no monitor (there is no {CONFIG}): make one with pd monitor init"
    table = read_table(path, _TOP, missing)
    reader = _Reader(path, dict(os.environ) if environment is None else environment)
    return reader.config(table)


class _Reader:
    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._folder = path.parent.absolute()
        self._environment = environment

    def config(self, table: dict[str, Any]) -> MonitorConfig:
        entries = table.get("log", [])
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in cast("list[object]", entries)):
            raise self._wrong("has something under `log` that is no [[log]]")
        logs = tuple(self._log(one) for one in cast("list[dict[str, Any]]", entries))
        if len({log.origin for log in logs}) != len(logs):
            raise self._wrong("follows one log twice")
        return MonitorConfig(
            self._folder,
            logs,
            self._number(table, "poll_seconds", 60.0),
            self._folder / (self._environment.get("PD_MONITOR_EVIDENCE") or self._text(table, "evidence", "evidence")),
            self._hook(table),
            self._number(table, "hook_seconds", 30.0),
            self._number(table, "look_seconds", 600.0),
        )

    def _log(self, table: dict[str, Any]) -> WatchedLog:
        if unknown := sorted(set(table) - _LOG):
            raise self._wrong(f"says something unknown in a [[log]]: {', '.join(unknown)}")
        policy = self._parsed(self._text(table, "policy", None), Policy.parse)
        names = {log.key.name for log in policy.logs}
        if len(names) != 1:
            raise self._wrong(f"names a policy of {len(names)} logs: each [[log]] takes one of its own")
        origin = names.pop()
        url = self._text(table, "url", "") or next((log.url for log in policy.logs if log.url), "")
        if not url:
            raise self._wrong(f"says nowhere where the log {origin} is served: give its url")
        chosen = self._text(table, "index_policy", "")
        mirrors = cast("object", table.get("mirrors", []))
        places = cast("list[object]", mirrors) if isinstance(mirrors, list) else [None]
        if not all(isinstance(one, str) and one and "\0" not in one for one in places):
            raise self._wrong("has mirrors that are no list of addresses")
        index = self._parsed(chosen, IndexPolicy.parse) if chosen else None
        age = self._number(table, "max_age_seconds", 0.0, 1e9) if "max_age_seconds" in table else None
        mirrored = tuple(self._place(str(one)) for one in places)
        return WatchedLog(origin, policy, self._place(url), mirrored, index, age)

    def _place(self, text: str) -> str | Path:
        return text if text.startswith(("http://", "https://")) else self._folder / text

    def _parsed(self, name: str, parse: Any) -> Any:
        path = self._folder / name
        try:
            return parse(path.read_bytes())
        except OSError as error:
            raise SetupError(f"{self._path} names {path}, which cannot be read: {error.strerror}") from None
        except PlausibleError as error:
            raise SetupError(f"{path}: {error}") from None

    def _text(self, table: dict[str, Any], name: str, default: str | None) -> str:
        value = table.get(name, default)
        if not isinstance(value, str) or "\0" in value:
            raise self._wrong(f"needs a text for {name}")
        return value

    def _number(self, table: dict[str, Any], name: str, default: float, most: float = 86_400) -> float:
        given = self._environment.get(f"PD_MONITOR_{name.upper()}")
        value: object = table.get(name, default)
        if given:
            try:
                value = float(given)
            except ValueError:
                value = None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            raise self._wrong(f"needs {name} between 0 and {most:g}")
        return float(value)

    def _hook(self, table: dict[str, Any]) -> tuple[str, ...]:
        given = self._environment.get("PD_MONITOR_HOOK")
        if given:
            try:
                return tuple(shlex.split(given))
            except ValueError as error:
                raise SetupError(f"PD_MONITOR_HOOK is not readable: {error}") from None
        words = cast("object", table.get("hook", []))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in cast("list[object]", words)):
            raise self._wrong("needs a list of words for hook: the program and its arguments")
        return tuple(cast("list[str]", words))

    def _wrong(self, what: str) -> SetupError:
        return SetupError(f"{self._path} {what}")


__all__ = ["CONFIG", "INDEXES", "LOCK", "STATE", "MonitorConfig", "WatchedLog", "config_file", "read_config"]
