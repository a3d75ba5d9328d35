"""Making a monitor and saying what it follows: monitor.toml written, policies copied beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ...ledger.absence.note import IndexPolicy
from ...ledger.notes.policy import Policy
from ...ledger.storage.disk import storage, write_file
from ...schemas.errors import SetupError, UsageError
from ..settings import quoted
from .config import CONFIG, read_config


def make(folder: Path, *, hook: Sequence[str] = (), poll_seconds: float = 60.0) -> None:
    """Make a monitor that follows nothing yet; `UsageError` if the folder holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already: choose an empty folder")
    lines = ["version = 1", f"poll_seconds = {poll_seconds:g}", f"hook = {_words(hook)}", "hook_seconds = 30", ""]
    with storage(f"making {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(folder / CONFIG, "\n".join(lines).encode())
    read_config(folder)


def add(
    folder: Path, policy: bytes, *, url: str = "", mirrors: Sequence[str] = (), index_policy: bytes | None = None,
    max_age: float | None = None,
) -> str:  # fmt: skip
    """Follow the log of a policy; its origin. `UsageError` if it is followed already or nothing says where it is."""
    config = read_config(folder)
    parsed = Policy.parse(policy)
    names = {log.key.name for log in parsed.logs}
    if len(names) != 1:
        raise UsageError(f"the policy names {len(names)} logs: make one for each")
    origin = names.pop()
    if any(log.origin == origin for log in config.logs):
        raise UsageError(f"{origin} is followed already")
    if not url and not any(log.url for log in parsed.logs):
        raise UsageError(f"the policy does not say where {origin} is served: name it with --url")
    name = hashlib.sha256(origin.encode()).hexdigest()[:16]
    lines = ["", f"[[log]]  # {_comment(origin)}", f'policy = "{name}.policy"']
    if url:
        lines.append(f"url = {quoted(_absolute(url))}")
    if mirrors:
        lines.append(f"mirrors = {_words([_absolute(place) for place in mirrors])}")
    if max_age is not None:
        lines.append(f"max_age_seconds = {max_age:g}")
    if index_policy is not None:
        IndexPolicy.parse(index_policy)
        lines.append(f'index_policy = "{name}.index.policy"')
    before = (folder / CONFIG).read_bytes()
    with storage(f"writing {folder}"):
        write_file(folder / f"{name}.policy", policy)
        if index_policy is not None:
            write_file(folder / f"{name}.index.policy", index_policy)
        write_file(folder / CONFIG, before.rstrip(b"\n") + b"\n" + "\n".join([*lines, ""]).encode())
    try:
        read_config(folder)
    except SetupError:
        with storage(f"writing {folder}"):
            write_file(folder / CONFIG, before)
        raise
    return origin


def _absolute(place: str) -> str:
    """A folder is named from where the command runs, the file is read from elsewhere."""
    return place if place.startswith(("http://", "https://")) else str(Path(place).absolute())


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _words(words: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"


__all__ = ["add", "make"]
